"""Storage that is no shared disk, as a flat list of files: a bucket, a repository or bucket of the Hub, another folder.

A file is written whole or not at all, and nothing is ever removed.
"""

from __future__ import annotations

import os
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from micota.atomic import atomic
from micota.errors import MicotaError

Content = Path | bytes
THREADS = 8
BLOCK = 32 * 2**20  # bytes of one request
OBJECTS = ("s3", "gs", "az")
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL")


class Remote(ABC):
    """Files by their names, `a/b/c`. Raises MicotaError for what the other side refuses, without keys."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    @abstractmethod
    def _list(self) -> Iterator[tuple[str, int]]: ...
    @abstractmethod
    def _read(self, name: str, start: int, end: int) -> bytes: ...

    def make(self) -> None:  # noqa: B027  (only the Hub can)
        """Make the place to write to, if that can be done from here."""

    def files(self) -> dict[str, int]:
        """The names of all files, with their sizes in bytes."""
        with self._said():
            return dict(self._list())

    @abstractmethod
    def put(self, files: Sequence[tuple[Content, str]], sent: Callable[[int], None]) -> None:
        """Write files under names; all are there when it returns. `sent` is told the bytes that are."""

    def read(self, name: str, start: int, end: int) -> bytes:
        """The bytes [start, end) of a file."""
        with self._said():
            return self._read(name, start, end) if end > start else b""

    def fetch(self, name: str, size: int, path: Path, got: Callable[[int], None]) -> None:
        """Write a file to `path`, behind the bytes that are there from an earlier try."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            if file.tell() > size:
                file.truncate(0)
            for start in range(file.tell(), size, BLOCK):
                data = self.read(name, start, min(start + BLOCK, size))
                file.write(data)
                got(len(data))

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each client has many errors of its own
            fix = "check the address, the network and the keys in the environment; then the same command continues"
            why = masked(" ".join(str(error).split()))[:400]
            raise MicotaError(f"{self.address} does not do what is asked", why=why, fix=fix) from None


class OneByOne(Remote):
    """Storage that takes each file by itself."""

    @abstractmethod
    def _put(self, content: Content, name: str) -> None: ...

    def put(self, files: Sequence[tuple[Content, str]], sent: Callable[[int], None]) -> None:
        """The same, several at a time; `sent` is told the bytes of each."""

        def one(file: tuple[Content, str]) -> None:
            self._put(*file)
            sent(size_of(file[0]))

        with self._said():
            each(one, files)


class Bucket(OneByOne):
    """A bucket of S3, Google or Azure, or of what speaks as one of them. Keys come from the environment."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        try:
            from obstore.store import from_url
        except ImportError:
            fix = 'pip install "micota[push]"'
            raise MicotaError(f"{self.address}: what reads buckets is not installed", fix=fix) from None
        with self._said():
            patience: Any = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
            self._store: Any = from_url(self.address, retry_config=patience)

    def _list(self) -> Iterator[tuple[str, int]]:
        return ((one["path"], one["size"]) for chunk in self._store.list() for one in chunk)

    def _put(self, content: Content, name: str) -> None:
        self._store.put(name, content)

    def _read(self, name: str, start: int, end: int) -> bytes:
        return bytes(self._store.get_range(name, start=start, end=end))


class Folder(OneByOne):
    """A folder, as a disk that is carried from one machine to the other."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._root = Path(unquote(urlsplit(address).path) if address.startswith("file:") else address).expanduser()

    def _list(self) -> Iterator[tuple[str, int]]:
        paths = (path for path in self._root.rglob("[!.]*") if path.is_file() and not path.is_symlink())
        return ((path.relative_to(self._root).as_posix(), path.stat().st_size) for path in paths)

    def _put(self, content: Content, name: str) -> None:
        import shutil

        with atomic(self._root / name) as temporary:
            if isinstance(content, Path):
                shutil.copyfile(content, temporary)
            else:
                temporary.write_bytes(content)

    def _read(self, name: str, start: int, end: int) -> bytes:
        with open(self._root / name, "rb") as file:
            file.seek(start)
            return file.read(end - start)


class Hub(Remote):
    """`hf://datasets/OWNER/NAME`, where every batch is a commit, or `hf://buckets/OWNER/NAME`."""

    def __init__(self, address: str) -> None:
        from huggingface_hub import HfApi, HfFileSystem
        from huggingface_hub.utils import disable_progress_bars

        super().__init__(address)
        disable_progress_bars()  # ours counts all of it
        self._api, self._files = HfApi(), HfFileSystem(skip_instance_cache=True)
        self._root = self.address.removeprefix("hf://")
        self._sort, self._id, self._under = _of_hub(self._root, self.address)

    def make(self) -> None:
        """Make the repository or bucket, private, if it is not there."""
        with self._said():
            if self._sort == "bucket":
                self._api.create_bucket(self._id, private=True, exist_ok=True)
            else:
                self._api.create_repo(self._id, repo_type=self._sort, private=True, exist_ok=True)

    def _list(self) -> Iterator[tuple[str, int]]:
        self._files.invalidate_cache()
        found = self._files.find(self._root, detail=True)
        return ((name[len(self._root) + 1 :], int(info["size"])) for name, info in found.items())

    def put(self, files: Sequence[tuple[Content, str]], sent: Callable[[int], None]) -> None:
        """The same, in one commit, again where another commit came between."""
        from huggingface_hub import CommitOperationAdd
        from huggingface_hub.errors import HfHubHTTPError

        named = [(str(c) if isinstance(c, Path) else c, f"{self._under}{name}") for c, name in files]
        if self._sort == "bucket":
            commit = partial(self._api.batch_bucket_files, self._id, add=named)
        else:
            add = [CommitOperationAdd(name, content) for content, name in named]
            commit = partial(self._api.create_commit, self._id, add, commit_message="micota push", repo_type=self._sort)
        with self._said():
            for pause in (1, 2, 4, 8, None):
                try:
                    commit()
                    break
                except HfHubHTTPError as error:
                    if pause is None or error.response.status_code not in (409, 412, 429, 500, 502, 503):
                        raise
                    time.sleep(pause)
        sent(sum(size_of(content) for content, _ in files))

    def _read(self, name: str, start: int, end: int) -> bytes:
        return bytes(self._files.cat_file(f"{self._root}/{name}", start, end))


def connect(address: str) -> Remote:
    """The storage of an address. Raises MicotaError for one that cannot be used; what may be a key is not repeated."""
    parts = urlsplit(address)
    if parts.username or parts.password or parts.query or parts.fragment:
        what, fix = "the address holds more than a place", "leave keys to the environment (docs/clusters.md)"
        raise MicotaError(what, why="keys in it would stand in logs", fix=fix)
    if parts.scheme in OBJECTS:
        return Bucket(address)
    if parts.scheme not in ("", "file", "hf"):
        fix = "s3://BUCKET/PATH, gs://, az://, hf://datasets/OWNER/NAME, or a folder"
        raise MicotaError(f"{address:.80} is no storage that micota knows", fix=fix)
    return Hub(address) if parts.scheme == "hf" else Folder(address)


def _of_hub(root: str, address: str) -> tuple[str, str, str]:
    """What it is, its id, and the folder in it with a `/` behind."""
    sort, owner, name, *under = [*root.split("/"), "", ""][: max(3, root.count("/") + 1)]
    kinds = {"datasets": "dataset", "buckets": "bucket", "models": "model"}
    if sort not in kinds or not owner or not name or "@" in root:
        raise MicotaError(
            f"{address:.80} is no place on the Hub", fix="hf://datasets/OWNER/NAME or hf://buckets/OWNER/NAME"
        )
    return kinds[sort], f"{owner}/{name}", "".join(f"{part}/" for part in under)


def size_of(content: Content) -> int:
    """Bytes of what is to be written."""
    return content.stat().st_size if isinstance(content, Path) else len(content)


def each(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """Call `work` with each item, several at a time; what is not begun when one raises is not begun."""
    pool = ThreadPoolExecutor(THREADS)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)


def masked(text: str) -> str:
    """A message without the values of variables that look like keys, and without signed queries of addresses."""
    for name, value in os.environ.items():
        if SECRET.search(name.upper()) and len(value) > 5:
            text = text.replace(value, "***")
    return re.sub(r"\?[^\s'\"]*(Signature|Credential|Token|sig)[^\s'\"]*", "?***", text, flags=re.I)
