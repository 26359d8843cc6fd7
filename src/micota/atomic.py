"""Files and folders that readers never see half written, and JSON that may be missing, cut short or from strangers."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


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
        _sync(temporary)
        os.replace(temporary, path)
    finally:
        _remove(temporary)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; readers see the old file or the new one."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, data: Any) -> None:
    """Write JSON with sorted keys; readers see the old file or the new one."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file; {} if the file is missing, cut short, or holds anything else."""
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):  # nesting without end, from a stranger
        return {}
    return data if isinstance(data, dict) else {}


def _sync(path: Path) -> None:
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
