"""Whether what a store holds is as it was written: every file of an artifact, every text that its rows refer to."""

from __future__ import annotations

import os
import shlex
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
LATER = "was put there later"


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written: where, what, what to type, and the names or ids of what was made of it.

    After `fix` it is not found again.
    """

    path: Path
    what: str
    fix: str
    touched: tuple[str, ...] = ()


def damage(store: Store, manifests: Sequence[Manifest] | None = None) -> Iterator[Damage]:
    """What is wrong with some artifacts, or with all that a store holds; what was removed on purpose is not wrong."""
    everything, names = store.all(), labels(store)
    for one in everything if manifests is None else manifests:
        for path, what in _of_artifact(store, one) if one.same_as is None else ():
            above = (", ".join(names.get(other.holder, [other.id])) for other in _made_of(everything, one))
            fix = _removal(path) if what == LATER else f"micota forget {one.id} --yes"
            yield Damage(path, what, fix, tuple(dict.fromkeys(above)))
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
            yield path, LATER
    if damaged or not store.whole(manifest) or not manifest.pools or manifest.kind == "search":
        return
    pools = [store.pool(pool) for pool in manifest.pools]
    try:
        for _ in find(pools, store.rows(manifest)):
            pass
    except MicotaError as error:
        yield store.pool_folder(manifest.pools[0]), error.what


def _of_store(store: Store) -> Iterator[Damage]:
    for path, what in _of_folders(store.root):
        yield Damage(path, what, _removal(path))
    for path in sorted((store.root / "artifacts").glob("*")):
        if (path / "manifest.json").exists() and store.manifest_of(path.name) is None:
            what = "cannot be read, so its artifact counts as not made"
            yield Damage(path / "manifest.json", what, _removal(path))
    for path in sorted((store.root / "pools").glob("*/*.jsonl")):
        if bad := changed_lines(path, store.pool(path.parent.name)):
            what = f"line {', '.join(map(str, bad[:9]))}{' ...' * (len(bad) > 9)} has changed"
            lines = ";".join(f"{number}d" for number in bad[:300])
            fix = f"sed -i.old '{lines}' {shlex.quote(str(path))}" if path.is_file() else _removal(path)
            yield Damage(path, what, fix)


def _of_folders(root: Path) -> Iterator[tuple[Path, str]]:
    """What can be removed, since the next run writes it anew where it is needed."""
    for path in sorted(pool / "pool.json" for pool in (root / "pools").glob("*")):
        if os.path.lexists(path) and not read_json(path):
            yield path, "cannot be read"
    for path in sorted((root / "names").glob("*/[!.]*")):  # a kill leaves hidden files that were being written
        if not ID.fullmatch(Path(read_link(path)).name):
            yield path, "is no link to an artifact"
    for path in sorted((root / "inputs").glob("[!.]*")):
        if path.is_file() and ID.fullmatch(path.read_bytes().decode(errors="replace").strip()):
            continue
        yield path, "names no artifact, and is passed over"
    for path in sorted((root / "claims").glob("*.json")):
        if not read_json(path):
            yield path, "says of nobody that it runs"


def _removal(path: Path) -> str:
    return f"rm -r {shlex.quote(str(path))}"


def relative(path: Path, store: Store) -> str:
    """A path as it is shown: from the store's folder on."""
    return os.path.relpath(path, store.root)
