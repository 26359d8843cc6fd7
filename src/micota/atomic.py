"""Files and folders that readers never see half written, and JSON that may be missing, cut short or from strangers."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from micota.errors import MicotaError

LARGEST = 2**20  # bytes of a file that a person wrote


class NoFile(OSError):
    """A folder, pipe, device or socket stands in the place of a file."""


def files_only(path: str, flags: int) -> int:
    """An `opener` of `open` for files that only micota makes: raises NoFile where a pipe would be waited for."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise NoFile(errno.ENXIO, "a folder, pipe, device or socket is in the place of a file", path)
    return os.open(path, flags, 0o666)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A free path beside `path` for a file, folder or link, which takes the name `path` when the block ends.

    Readers see the old content or the new one. If the block raises, `path` stays as it was and nothing is left over.
    An existing folder is replaced only if it is empty. Example: `with atomic(out) as temporary: save(temporary)`.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    _remove(temporary)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = error.filename2 or error.filename or str(path)  # a refused write does not say where
        raise
    finally:
        _remove(temporary)


def check_free(out: Path) -> None:
    """Refuse a folder to write into that holds something, and a file in its place."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MicotaError(f"{out} is there already", why="what it holds would be lost", fix="name another folder")


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; readers see the old file or the new one."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")


def write_json(path: Path, data: Any) -> None:
    """Write JSON with sorted keys; readers see the old file or the new one."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def write_link(path: Path, target: str) -> None:
    """Link `path` to a relative path; on a file system without links, a file that holds the target's path."""
    with atomic(path) as temporary:
        try:
            temporary.symlink_to(target)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            temporary.write_text(target, encoding="utf-8")


def read_link(path: Path) -> str:
    """What `write_link` was given; "" for anything else."""
    if path.is_symlink():
        return os.readlink(path)
    return path.read_bytes()[:4096].decode(errors="replace") if path.is_file() else ""


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file; {} if the file is missing, cut short, or holds anything else."""
    try:
        data = json.loads(path.read_bytes()) if path.is_file() else None  # a pipe in its place would never end
    except (OSError, ValueError, RecursionError):  # nesting without end, from a stranger
        return {}
    return data if isinstance(data, dict) else {}


def written_path(word: str) -> Path:
    """The path that a person wrote; what no file system takes is a MicotaError."""
    path = Path(os.path.expanduser(word))
    try:
        path.exists()
    except (OSError, ValueError) as error:
        raise MicotaError(f"{word!r:.80} is no path: {getattr(error, 'strerror', error)}") from None
    return path


def read_text(path: Path) -> str:
    """The text of a file that a person wrote, such as a recipe or a profile; a MicotaError if it is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise MicotaError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise MicotaError(f"{path} is larger than {LARGEST >> 20} MB", why="no recipe, profile or merge is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = f"{path.name}, line {data[: error.start].count(10) + 1}"
        raise MicotaError(f"{path.name} is not in UTF-8", where=where, fix="save it as UTF-8") from None


def sync(path: Path) -> None:
    """Have all of a file or folder on the disk, so that after a power cut its name leads to all of it."""
    for part in (path, *path.rglob("*")):
        if part.is_file() and not part.is_symlink():
            with open(part, "rb") as file:
                os.fsync(file.fileno())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
