"""What a plan shows: the state of every spec, in which order stages run, and why a spec is not done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from micota.generation import requests
from micota.specs import Generate, Source, Spec, walk
from micota.store.artifacts import Manifest, Store, child_name

STAGES = {
    "problems": "micota.stages.problems",
    "rows": "micota.stages.rows",
    "generate": "micota.stages.generate",
    "verify": "micota.stages.verify",
    "select": "micota.stages.select",
    "pretrain": "micota.stages.pretrain",
    "train": "micota.stages.train",
    "merge": "micota.stages.merge",
    "search": "micota.stages.search",
    "mix": "micota.stages.mix",
    "bpc": "micota.stages.bpc",
}


def heights(targets: Iterable[Spec]) -> defaultdict[str, int]:
    """How many stages come after each spec at most: what the longest chain waits for is made first.

    What a search asks for comes before it, and so before all that is made of its choice.
    """
    above: defaultdict[str, int] = defaultdict(int)
    for spec in reversed(list(walk(*targets, asked=True))):
        for need in spec.needs:
            above[need.digest] = max(above[need.digest], above[spec.digest] + 1)
    return above


@dataclass(frozen=True)
class State:
    """How far one spec is: done, pruned (done, files removed), partial, new, or unresolved (a Hub id)."""

    spec: Spec
    word: str
    note: str = ""


def survey(store: Store, targets: Iterable[Spec]) -> list[State]:
    """The state of every spec below the targets, in the order in which they would be made. Reads only."""
    return [_state(store, spec) for spec in walk(*targets)]


def _state(store: Store, spec: Spec) -> State:
    if isinstance(spec, Source):
        return State(spec, "done" if spec.revision else "unresolved", spec.ref)
    manifest = store.manifest(spec)
    if manifest:
        word = "done" if store.whole(manifest) else "pruned"
        return State(spec, word, f"same as {manifest.same_as}" if manifest.same_as else "")
    if isinstance(spec, Generate) and (counts := requests.pooled(spec, store)) and counts[1]:
        return State(spec, "partial", f"{counts[1]} answers are there")
    return State(spec, "partial" if (store.work(spec) / "task.json").exists() else "new")


def why(store: Store, spec: Spec) -> list[str]:
    """In words, why a spec is not done: how it differs from the nearest artifact of its kind, down to the fields."""
    if isinstance(spec, Source):
        return [f"{spec.ref} is made elsewhere; revision {spec.revision or 'unresolved'}"]
    if store.manifest(spec):
        return [f"{spec.id} is done"]
    others = [manifest for manifest in store.all() if manifest.kind == spec.kind]
    if not others:
        return [f"new: there is no {spec.kind} in this store yet"]
    lines, nearest = min(
        ((_differences(store, spec, other, "", set()), other) for other in others),
        key=lambda pair: (len(pair[0]), -sum(line.count(".") for line in pair[0]), pair[1].digest),
    )
    return [f"new: the nearest artifact is {nearest.kind}-{nearest.digest}; it differs in", *lines]


def _differences(store: Store, spec: Spec, other: Manifest, path: str, seen: set[tuple[str, str]]) -> list[str]:
    """Each field that differs, as `path: here, there`; an input that differs is followed down, once."""
    if (spec.digest, other.digest) in seen:
        return []
    seen.add((spec.digest, other.digest))
    lines = []
    if spec.version != other.version:
        lines.append(f"  {path or spec.kind}: version {spec.version} here, {other.version} there")
    return lines + _fields(store, spec, path, spec.own_fields, other.fields, other, seen)


def _fields(
    store: Store, spec: Spec, path: str, here: Any, there: Any, other: Manifest, seen: set[tuple[str, str]]
) -> list[str]:
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        here, there = ({str(i): item for i, item in enumerate(items)} for items in (here, there))
    if not (isinstance(here, dict) and isinstance(there, dict)):
        return [f"  {path}: {here} here, {there} there"]
    if "$" in here and "$" in there:
        child = next(child for child in spec.children if child.digest == here["$"])
        name = other.children[there["$"]]
        manifest = store.manifest_of(name)
        if manifest and manifest.kind == child.kind:
            return _differences(store, child, manifest, path, seen)
        return [f"  {path}: {child_name(child)} here, {name} there"]
    lines = []
    for key in sorted(here.keys() | there.keys()):
        one, two = here.get(key, "its default"), there.get(key, "its default")
        if one != two:
            lines += _fields(store, spec, f"{path}.{key}" if path else key, one, two, other, seen)
    return lines
