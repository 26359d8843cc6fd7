"""Whether what a store holds is as it was written: every file of an artifact, every text that its rows refer to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from micota.atomic import read_json, read_link
from micota.errors import MicotaError
from micota.export.lineage import labels
from micota.store.artifacts import Store
from micota.store.manifest import ID, Manifest
from micota.store.pool import changed_lines, find

SCRAP = ("__pycache__",)


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written: where, what, and the names or ids of what was made of it."""

    path: Path
    what: str
    touched: tuple[str, ...] = ()


def damage(store: Store, manifests: Sequence[Manifest] | None = None) -> Iterator[Damage]:
    """What is wrong with some artifacts, or with all that a store holds; what was removed on purpose is not wrong."""
    everything, names = store.all(), labels(store)
    for one in everything if manifests is None else manifests:
        for path, what in _of_artifact(store, one) if one.same_as is None else ():
            above = (", ".join(names.get(other.holder, [other.id])) for other in _made_of(everything, one))
            yield Damage(path, what, tuple(dict.fromkeys(above)))
    if manifests is None:
        yield from _of_store(store)


def _made_of(everything: Sequence[Manifest], manifest: Manifest) -> Iterator[Manifest]:
    """All that was made of an artifact, or linked to it, nearest first."""
    below, left = [manifest.id], {one.id: one for one in everything if one.id != manifest.id}
    for id in below:  # grows meanwhile
        for one in [one for one in left.values() if id in (*one.children.values(), one.same_as)]:
            below.append(one.id)
            yield left.pop(one.id)


def _of_artifact(store: Store, manifest: Manifest) -> Iterator[tuple[Path, str]]:
    files = store.files(manifest)
    damaged = store.damaged(manifest)
    for name in damaged:
        yield files / name, "has changed" if (files / name).exists() else "is missing"
    for path in sorted(files.rglob("*")):
        place = path.relative_to(files)
        hidden = any(part.startswith(".") or part in SCRAP for part in place.parts)
        if path.is_file() and not hidden and place.as_posix() not in manifest.files:
            yield path, "was put there later"
    if damaged or not store.whole(manifest) or not manifest.pools or manifest.kind == "search":
        return
    pools = [store.pool(pool) for pool in manifest.pools]
    try:
        for _ in find(pools, store.rows(manifest)):
            pass
    except MicotaError as error:
        yield store.pool_folder(manifest.pools[0]), error.what


def _of_store(store: Store) -> Iterator[Damage]:
    root = store.root
    for path in sorted((root / "artifacts").glob("*")):
        if (path / "manifest.json").exists() and store.manifest_of(path.name) is None:
            yield Damage(path / "manifest.json", "cannot be read, so its artifact counts as not made")
    for path in sorted((root / "pools").glob("*/*.jsonl")):
        if bad := changed_lines(path, store.pool(path.parent.name)):
            yield Damage(path, f"line {', '.join(map(str, bad[:9]))}{' ...' * (len(bad) > 9)} has changed")
    for path in sorted((root / "pools").glob("*")):
        if path.is_dir() and not read_json(path / "pool.json"):
            yield Damage(path / "pool.json", "cannot be read")
    for path in sorted((root / "names").glob("*/*")):
        if not ID.fullmatch(Path(read_link(path)).name):
            yield Damage(path, "is no link to an artifact")
    for path in sorted((root / "inputs").glob("*")):
        if path.is_file() and ID.fullmatch(path.read_bytes().decode(errors="replace").strip()):
            continue
        yield Damage(path, "names no artifact, and is passed over")
    for path in sorted((root / "claims").glob("*.json")):
        if not read_json(path):
            yield Damage(path, "says of nobody that it runs")


def relative(path: Path, store: Store) -> str:
    """A path as it is shown: from the store's folder on."""
    return os.path.relpath(path, store.root)
