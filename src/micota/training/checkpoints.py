"""Checkpoints: each is marked as whole when all of it is on the disk, with its hashes; a damaged one is set aside.

FOLDER/checkpoint-STEP/complete   the size and hash of each of its files, written last
FOLDER/damaged-STEP/              one that was set aside: the older one is used
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from micota.atomic import atomic, read_json, sync, write_json
from micota.store.checked import say, sha256

COMPLETE = "complete"
DIGEST = 32  # bytes of a SHA-256


def mark(folder: Path) -> None:
    """Mark a checkpoint as whole."""
    sync(folder)
    write_json(folder / COMPLETE, _hashes(folder))


def sieve(folder: Path) -> None:
    """Set aside the newest marked checkpoints that are damaged, down to the first that is as it was written."""
    for path in _marked(folder):
        known, now = read_json(path / COMPLETE), _hashes(path)
        if known and all(now.get(name) == value for name, value in known.items()):
            return
        aside = _free(path.with_name(path.name.replace("checkpoint", "damaged")))
        os.replace(path, aside)
        say(f"{path} is damaged: it was set aside, to {aside}, and the training goes on from an older one, or anew")


def newest(folder: Path) -> str | None:
    """The newest marked checkpoint; a kill can leave a newer one in pieces."""
    return next((str(path) for path in _marked(folder)), None)


def damaged(folder: Path) -> dict[str, int]:
    """How many were set aside, for the facts of a stage; {} of none."""
    count = sum(1 for _ in folder.glob("damaged-*"))
    return {"damaged_checkpoints": count} if count else {}


def write_file(path: Path, save: Callable[[Path], Any]) -> None:
    """A checkpoint of one file: what `save` writes, with its hash at the end; the one before stays beside it."""
    with atomic(path) as temporary:
        save(temporary)
        digest = hashlib.sha256(temporary.read_bytes()).digest()
        with open(temporary, "ab") as file:
            file.write(digest)
        if path.exists():
            os.replace(path, _older(path))


def read_file(path: Path) -> bytes | None:
    """The newest checkpoint of one file that is as it was written; None without one. A damaged one is set aside."""
    for one in (path, _older(path)):
        if one.exists():
            data = one.read_bytes() if one.is_file() else b""
            if hashlib.sha256(data[:-DIGEST]).digest() == data[-DIGEST:]:
                return data[:-DIGEST]
            aside = _free(one.with_name(f"damaged-{one.name}"))
            os.replace(one, aside)
            say(f"{one} is damaged: it was set aside, to {aside}, and the training goes on from an older one, or anew")
    return None


def _older(path: Path) -> Path:
    return path.with_name(f"older-{path.name}")


def _free(path: Path) -> Path:
    """A name that nothing has yet."""
    names = (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, 1000)))
    return next(name for name in names if not name.exists())


def _marked(folder: Path) -> list[Path]:
    """The marked checkpoints, the newest first."""
    found = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")]
    return sorted(found, key=lambda path: -int(path.name.partition("-")[2]))


def _hashes(folder: Path) -> dict[str, Any]:
    """The hash of each file; of large ones several are read at a time."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != COMPLETE]
    with ThreadPoolExecutor(4) as pool:
        hashes = pool.map(sha256, files)
        return dict(zip((path.relative_to(folder).as_posix() for path in files), hashes, strict=True))
