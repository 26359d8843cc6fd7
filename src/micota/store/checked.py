"""Files of a store, to which anything may have happened: each is read with every check, and a bad one is named."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from micota.atomic import read_json
from micota.specs import sha

T = TypeVar("T")
SEAL = "seal"


class StoreWarning(UserWarning):
    """Something in a store is not as it was written; the message names the file and what to do."""


def say(message: str) -> None:
    """Tell the user, once for each message."""
    warnings.warn(message, StoreWarning, stacklevel=2)


@dataclass(frozen=True)
class Written:
    """A file as it was written."""

    size: int
    sha256: str | None


@cache
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def record(path: Path, kind: type[T], renamed: dict[str, str]) -> tuple[T | None, list[str]]:
    """The JSON object of a file as a dataclass, and the fields that only a newer micota knows.

    `renamed` are the fields whose keys in the file are others. None of a file that is missing, that is no such record,
    or that has changed since `sealed` marked it.
    """
    from pydantic import ValidationError

    data = read_json(path)
    seal = data.pop(SEAL, None)
    named = {renamed.get(key, key): value for key, value in data.items()}
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    newer = sorted(named.keys() - known)
    try:
        made: T = _adapter(cast(Any, kind)).validate_python(
            {key: value for key, value in named.items() if key in known}
        )
    except ValidationError:
        return None, []
    return (made if newer or seal in (None, sha(data)) else None), newer


def sealed(data: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with its hash, by which `record` sees a change."""
    return {**data, SEAL: sha(json.loads(json.dumps(data)))}


def unsealed(path: Path) -> dict[str, Any]:
    """The JSON object of a file that is as `sealed` wrote it; {} of any other."""
    data = read_json(path)
    return data if data.pop(SEAL, None) == sha(data) else {}


def written(folder: Path) -> dict[str, Written]:
    """The files below a folder, by their names there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): Written(path.stat().st_size, sha256(path)) for path in files}


def bytes_of(path: Path) -> int | None:
    """The bytes of a file; None of a missing one."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def sha256(path: Path) -> str | None:
    """The hash of a file; None of a missing one, and of a pipe in its place, which would never end."""
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
