"""What a store holds: artifacts with files, completion pools, work folders; and how large each is. Reads only."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from micota.atomic import read_json
from micota.export.lineage import labels
from micota.store.artifacts import Store
from micota.store.locks import holder
from micota.store.manifest import ID, Manifest
from micota.store.pool import row_files

TOKENS = re.compile(rb'"completion_tokens":(\d+),')  # quotes inside a text are escaped, so no text matches


WORK = re.compile(rf"\.?(?P<id>{ID.pattern})(\..+)?")
"""The name of a work folder, or of what a removal left of one."""


@dataclass(frozen=True)
class HeldArtifact:
    """An artifact with a folder of its own: its names, bytes, and whether its files are whole, pruned or partial."""

    manifest: Manifest
    names: tuple[str, ...]
    size: int
    state: str


@dataclass(frozen=True)
class HeldPool:
    """A completion pool: the model that wrote it, rows, tokens and bytes; `used` if an artifact refers to it."""

    id: str
    source: str
    rows: int
    tokens: int
    size: int
    used: bool


@dataclass(frozen=True)
class WorkFolder:
    """The work folder of a stage that runs, or whose run ended; `holder` says who is running it."""

    id: str
    name: str
    path: Path
    size: int
    age_s: float
    holder: str | None
    done: bool


def artifacts(store: Store) -> list[HeldArtifact]:
    """The artifacts with folders of their own, largest first."""
    names = labels(store)
    own = (one for one in store.all() if one.same_as is None)
    held = [
        HeldArtifact(one, tuple(names.get(one.id, ())), size_of(store.files(one).parent), _state(store, one))
        for one in own
    ]
    return sorted(held, key=lambda one: (-one.size, one.manifest.id))


def _state(store: Store, manifest: Manifest) -> str:
    files = store.files(manifest)
    if store.whole(manifest):
        return "whole"
    return "partial" if removed_path(files).exists() or (files.is_dir() and any(files.iterdir())) else "pruned"


def removed_path(path: Path) -> Path:
    """Where something is during its removal; what a kill leaves there is removed the next time."""
    return path.with_name(f".{path.name}.gone")


def pools(store: Store) -> list[HeldPool]:
    """The pools, largest first; read line by line, never as a whole."""
    sources = _sources(store)
    held = []
    for folder in _in(store, "pools"):
        tokens: list[int] = []
        for path in row_files(folder):
            with open(path, "rb") as file:
                tokens += [int(match[1]) for line in file if (match := TOKENS.search(line))]
        source = sources.get(folder.name) or str(store.pool(folder.name).about.get("source", ""))
        held.append(HeldPool(folder.name, source, len(tokens), sum(tokens), size_of(folder), folder.name in sources))
    return sorted(held, key=lambda pool: (-pool.size, pool.id))


def _sources(store: Store) -> dict[str, str]:
    """For each pool that an artifact refers to, the name of the model that wrote it, or of that artifact."""
    names = labels(store)
    sources: dict[str, str] = {}
    for one in store.all():
        model = one.children.get(one.fields["model"]["$"], "") if one.kind == "generate" else ""
        source = model or (one.id if one.kind in ("search", "rows") else "")
        below = store.manifest_of(source) if ID.fullmatch(source) else None
        named = names.get(below.holder if below else source, [source])[0]
        for pool in one.pools:
            sources[pool] = named if model else sources.get(pool) or named
    return sources


def targets(store: Store) -> int:
    """Bytes of the tables of teachers' likeliest tokens."""
    return size_of(store.root / "targets")


def works(store: Store) -> list[WorkFolder]:
    """The work folders, and files that were moved to their artifact but have no manifest; the oldest first."""
    finished = {one.id for one in store.all()}
    folders = ((WORK.fullmatch(path.name), path) for place in ("making", "artifacts") for path in _in(store, place))
    held = [
        WorkFolder(
            match["id"],
            str(read_json(path / "task.json").get("name", "")),
            path,
            size_of(path),
            age_s(path),
            holder(store.lock(match["id"])),
            match["id"] in finished,
        )
        for match, path in folders
        if match and not (path.parent.name == "artifacts" and match["id"] in finished)
    ]
    return sorted(held, key=lambda work: (-work.age_s, work.id))


def _in(store: Store, name: str) -> list[Path]:
    return [path for path in (store.root / name).glob("*") if path.is_dir()]


def age_s(path: Path) -> float:
    """Seconds since anything below a path was written."""
    return time.time() - max(_stat(file, "st_mtime") for file in (path, *path.rglob("*")))


def size_of(path: Path) -> int:
    """Bytes of all files below a folder; what is removed meanwhile counts nothing."""
    return int(sum(_stat(file, "st_size") for file in path.rglob("*") if not file.is_symlink() and file.is_file()))


def _stat(path: Path, field: str) -> float:
    try:
        return float(getattr(path.stat(), field))
    except OSError:
        return 0.0
