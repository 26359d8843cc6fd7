"""Completion pools: every completion that a model ever generated with one prompt and sampling, each stored once.

A pool is a folder of append-only files, one for each writer, that readers merge by (key, sample). A line that was cut
short by a crash, or has changed since it was written, is not a row: its completion is generated again.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from micota.atomic import atomic, read_json, write_json
from micota.errors import MicotaError
from micota.store.records import Completion, intact

Key = tuple[str, int]
_HEAD = re.compile(rb'\{"key":"([0-9a-f]+)","sample":(\d+),')
_BLOCK = 2**18  # bytes that are read at a time: lines are longer than Python's own block


MANY = 64  # files of a pool that are merged into one, and files that a reader has open at most


def row_files(folder: Path) -> list[Path]:
    """The files of a pool, in the order in which they are read."""
    return sorted(path for path in folder.glob("*.jsonl") if path.is_file())


class Pool:
    """The completions in one folder, by (key, sample). Texts are read on demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refresh()

    def refresh(self) -> None:
        """Read the keys of all whole lines; of two rows with one key the first file's counts."""
        places: dict[Key, list[tuple[Path, int]]] = {}
        paths = row_files(self.folder)
        try:
            for path in paths:
                for key, offset in _keys(path):
                    places.setdefault(key, []).append((path, offset))
        except FileNotFoundError:  # merged into another at this moment
            if paths == row_files(self.folder):
                raise
            self.refresh()
        else:
            self._places = places  # as a whole: other threads read meanwhile

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    @property
    def about(self) -> dict[str, Any]:
        """The model's content, prompt and sampling, and the first prompt as the model read it."""
        return read_json(self.folder / "pool.json")

    def keys(self) -> Iterable[Key]:
        """The (key, sample) of every completion."""
        return self._places.keys()

    def places(self, key: Key) -> Sequence[tuple[Path, int]]:
        """The files and offsets of the lines with a key, the one that counts first; none for a missing key."""
        return self._places.get(key, ())

    def read(self, keys: Iterable[Key]) -> Iterator[Completion]:
        """The completions of the keys, in that order. Raises MicotaError for a missing key."""
        return (next(rows) for rows in self.versions(keys))

    def versions(self, keys: Iterable[Key]) -> Iterator[Iterator[Completion]]:
        """For each key its completions, the one that counts first: a run that was paused may have written another."""
        with Files() as files:
            for key in keys:
                if key not in self._places:
                    raise _lost(key, self.folder)
                yield self.of(key, files)

    def of(self, key: Key, files: Files) -> Iterator[Completion]:
        """The completions of a key, the one that counts first; none for a missing key. Texts are read from `files`."""
        return (Completion.parse(self._line(files, key, i)) for i in range(len(self.places(key))))

    def _line(self, files: Files, key: Key, i: int) -> bytes:
        for _ in range(9):
            if i >= len(places := self._places.get(key, ())):
                break
            try:
                return files.line(*places[i])
            except FileNotFoundError:  # merged into another since it was looked for, which has grown by it
                files.close()
                self.refresh()
        raise _lost(key, self.folder)

    def merge(self) -> None:
        """Make one file of many, for whoever holds the pool's claim: the first file grows by the lines of the others.

        So a reader finds each line at its old place, or looks again. A line that was there comes no second time: pools
        travel (`micota pull`), and each machine merges what others have merged before.
        """
        first, *rest = row_files(self.folder) or [self.folder]
        if len(rest) < MANY:
            return
        seen = set[bytes]()
        with atomic(first) as whole, open(whole, "wb") as file:
            for path in (first, *rest):
                with open(path, "rb") as part:
                    for line in part:
                        mark = hashlib.blake2b(line, digest_size=16).digest()
                        file.write(line if path == first or mark not in seen else b"")
                        seen.add(mark)
                file.write(b"\n")  # ends a line that was cut; an empty one is no row
        for path in rest:
            path.unlink()


class Files:
    """Files that stay open between reads, so many at a time."""

    def __init__(self) -> None:
        self._open: dict[Path, Any] = {}

    def line(self, path: Path, offset: int) -> bytes:
        """The line of a file that begins at an offset."""
        if path not in self._open:
            if len(self._open) >= MANY:
                self._open.pop(next(iter(self._open))).close()
            self._open[path] = open(path, "rb")  # noqa: SIM115  (closed above or at the end)
        self._open[path].seek(offset)
        return bytes(self._open[path].readline())

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all; they are opened anew when they are read again."""
        while self._open:
            self._open.popitem()[1].close()


def changed_lines(path: Path, pool: Pool) -> list[int]:
    """The numbers of a file's lines that are not as they were written, where what they said is not there again."""
    if not path.is_file():
        return [1]
    found = []
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            head = _HEAD.match(line)
            again = head and (head[1].decode(), int(head[2])) in pool
            if line.strip() and line.endswith(b"\n") and not (intact(line) or again):
                found.append(number)
    return found


def find(pools: Sequence[Pool], rows: Iterable[dict[str, Any]]) -> Iterator[Completion]:
    """The completion of each row {key, sample, sha}, from the pool that has exactly that text."""
    with Files() as files:
        for row in rows:
            key = (row["key"], row["sample"])
            found = (one for pool in pools for one in pool.of(key, files))
            completion = next((c for c in found if c.sha == row["sha"]), None)
            if completion is None:
                raise _lost(key, pools[0].folder.parent)
            yield completion


class Writer:
    """Appends completions to a file of its own; once `write` returns, they are on the disk.

    `check` is called before each write: it raises ClaimLost if another run fills the pool now.
    """

    def __init__(self, folder: Path, about: dict[str, Any], check: Callable[[], None] = lambda: None) -> None:
        self._check = check
        folder.mkdir(parents=True, exist_ok=True)
        _describe(folder / "pool.json", about)
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns() % 10**6}"
        self._path = folder / f"{name}.jsonl"
        self._file: Any = None

    def write(self, rows: Iterable[Completion]) -> None:
        """Append completions."""
        self._check()
        try:
            if self._file is None:
                self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115  (closed by __exit__)
            _append(self._file, "".join(row.line() for row in rows).encode())
            os.fsync(self._file.fileno())
        except OSError as error:
            error.filename = str(self._path)
            raise

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()


def _append(file: Any, data: bytes) -> None:
    """Write all of it: on a nearly full disk the system takes a part first and refuses the rest."""
    while data:
        data = data[file.write(data) :]


def _lost(key: Key, folder: Path) -> MicotaError:
    return MicotaError(
        f"the completion of problem {key[0]}, sample {key[1]} is not in its pool",
        where=str(folder),
        why="files of the pool were removed or changed after an artifact referred to them",
        fix="put them back, or remove the artifact of the `generate` stage to generate it again",
    )


def _keys(path: Path) -> Iterator[tuple[Key, int]]:
    offset = 0
    with open(path, "rb", buffering=_BLOCK) as file:
        for line in file:
            head = _HEAD.match(line)
            if head and intact(line):
                yield (head[1].decode(), int(head[2])), offset
            offset += len(line)


def _describe(path: Path, about: dict[str, Any]) -> None:
    if not read_json(path):
        write_json(path, about)
