"""What a store holds: artifacts with files, completion pools, work folders; and how large each is. Reads only."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from micota.atomic import read_json
from micota.export.lineage import labels
from micota.store.artifacts import ID, Manifest, Store
from micota.store.locks import holder

TOKENS = re.compile(rb'"completion_tokens":(\d+),')  # a quote inside a text is escaped, so no text has this


@dataclass(frozen=True)
class Held:
    """An artifact that holds files: their bytes, and whether they are whole, pruned (removed) or partial."""

    manifest: Manifest
    names: tuple[str, ...]
    size: int
    state: str


@dataclass(frozen=True)
class Pooled:
    """A completion pool: rows and the tokens that were written; `used` says that an artifact refers to it."""

    id: str
    what: str
    rows: int
    tokens: int
    size: int
    used: bool


@dataclass(frozen=True)
class Work:
    """A work folder: what is being made there, or was when its run ended; `who` makes it now."""

    id: str
    name: str
    path: Path
    size: int
    age_s: float
    who: str | None
    done: bool


def artifacts(store: Store) -> list[Held]:
    """The artifacts that hold files of their own, largest first."""
    names = labels(store)
    found = []
    for one in store.all():
        if one.same_as is None:
            files = store.files(one)
            some = gone(files).exists() or (files.is_dir() and any(files.iterdir()))
            state = "whole" if store.whole(one) else "partial" if some else "pruned"
            found.append(Held(one, tuple(names.get(one.id, ())), size_of(files.parent), state))
    return sorted(found, key=lambda held: (-held.size, held.manifest.id))


def gone(path: Path) -> Path:
    """Where something is while it is being removed; what a kill left there is removed the next time."""
    return path.with_name(f".{path.name}.gone")


def pools(store: Store) -> list[Pooled]:
    """The pools, largest first; read line by line, never as a whole."""
    told = _writers(store)
    found = []
    for folder in sorted(path for path in (store.root / "pools").glob("*") if path.is_dir()):
        lines = (line for path in sorted(folder.glob("*.jsonl")) for line in _lines(path))
        tokens = [int(one[1]) for line in lines if (one := TOKENS.search(line))]
        what = told.get(folder.name) or str(store.pool(folder.name).about.get("source", ""))
        found.append(Pooled(folder.name, what, len(tokens), sum(tokens), size_of(folder), folder.name in told))
    return sorted(found, key=lambda pool: (-pool.size, pool.id))


def _writers(store: Store) -> dict[str, str]:
    """Of each pool that an artifact refers to, what its rows are from: the model that wrote them, or that artifact."""
    names = labels(store)
    found: dict[str, str] = {}
    for one in store.all():
        model = one.children.get(one.fields["model"]["$"], "") if one.kind == "generate" else ""
        what = model or (one.id if one.kind in ("search", "rows") else "")
        for pool in one.pools:
            files_of = below.holder if ID.fullmatch(what) and (below := store.manifest_of(what)) else what
            known = (names.get(files_of) or [what])[0]
            found[pool] = known if what and (model or not found.get(pool)) else found.get(pool, "")
    return found


def works(store: Store) -> list[Work]:
    """The work folders, and files that were moved into an artifact's folder but never signed; the oldest first."""
    folders = [path for path in (store.root / "making").glob("*") if path.is_dir()]
    signed = {one.id for one in store.all()}
    folders += [p for p in (store.root / "artifacts").glob("*") if p.is_dir() and p.name not in signed]
    found = []
    for path in folders:
        named = read_json(path / "task.json").get("name", "")
        who = holder(store.lock(path.name))
        found.append(Work(path.name, str(named), path, size_of(path), age(path), who, path.name in signed))
    return sorted(found, key=lambda work: (-work.age_s, work.id))


def age(path: Path) -> float:
    """Seconds since anything below a path was written."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return time.time() - max(_stat(file, "st_mtime") for file in files)


def size_of(path: Path) -> int:
    """Bytes of all files below a folder; what goes meanwhile counts nothing."""
    return int(sum(_stat(file, "st_size") for file in path.rglob("*") if not file.is_symlink() and file.is_file()))


def _stat(path: Path, field: str) -> float:
    try:
        return float(getattr(path.stat(), field))
    except OSError:
        return 0.0


def _lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from file
