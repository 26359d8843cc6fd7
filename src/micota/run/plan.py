"""What a plan shows: the state of every spec, in which order stages run, and why a spec is not done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from micota.generation import requests
from micota.run.missing import look_ahead
from micota.specs import Generate, Source, Spec, walk
from micota.store.artifacts import Store, child_name
from micota.store.manifest import Manifest

STAGES = {
    "problems": "micota.stages.problems",
    "rows": "micota.stages.rows",
    "generate": "micota.stages.generate",
    "verify": "micota.stages.verify",
    "select": "micota.stages.select",
    "filter": "micota.stages.filter",
    "inquiry": "micota.stages.inquiry",
    "rewrite": "micota.stages.rewrite",
    "pretrain": "micota.stages.pretrain",
    "train": "micota.stages.train",
    "opd": "micota.stages.opd",
    "adapter": "micota.stages.adapter",
    "merge": "micota.stages.merge",
    "search": "micota.stages.search",
    "candidate": "micota.stages.candidate",
    "mix": "micota.stages.mix",
    "bpc": "micota.stages.bpc",
}


def heights(targets: Iterable[Spec]) -> defaultdict[str, int]:
    """The most stages that come after each spec, by digest: what the longest chain waits for runs first.

    What a search needs comes before it, and so before all that is made of its choice.
    """
    above: defaultdict[str, int] = defaultdict(int)
    for spec in reversed(list(walk(*targets, asked=True))):
        for need in spec.needs:
            above[need.digest] = max(above[need.digest], above[spec.digest] + 1)
    return above


@dataclass(frozen=True)
class State:
    """The state of one spec: done, pruned (done, files removed), partial, new, or unresolved (a Hub id).

    `not needed` is what is not there and is not made: all that would read it is done.
    """

    spec: Spec
    word: str
    note: str = ""


def survey(store: Store, targets: Sequence[Spec]) -> list[State]:
    """The state of every spec below the targets, in the order of making. Reads only."""
    states, asked = [_state(store, spec) for spec in walk(*targets)], look_ahead(store, targets).asked
    return [
        replace(one, word="not needed") if one.word in ("new", "partial") and one.spec.digest not in asked else one
        for one in states
    ]


def _state(store: Store, spec: Spec) -> State:
    if isinstance(spec, Source):
        return State(spec, "done" if spec.revision else "unresolved", spec.ref)
    manifest = store.manifest(spec)
    if manifest:
        word = "done" if store.whole(manifest) else "pruned"
        notes = [f"same as {manifest.same_as}"] if manifest.same_as else []
        return State(spec, word, ", ".join([*notes, *(["fake"] if manifest.fake else [])]))
    if isinstance(spec, Generate) and (counts := requests.pooled(spec, store)) and counts[1]:
        return State(spec, "partial", f"{counts[1]} of {counts[0]} responses")
    if store.manifest_of(spec.id):
        return State(spec, "new", "only a fake is there")
    return State(spec, "partial" if (store.work(spec) / "task.json").exists() else "new")


def why(store: Store, spec: Spec) -> list[str]:
    """Why a spec is not finished: the fields in which it differs from the nearest artifact of its kind, a line each."""
    if isinstance(spec, Source):
        return [f"{spec.ref} comes from elsewhere; revision {spec.revision or 'unresolved'}"]
    if store.manifest(spec):
        return [f"{spec.id} is finished"]
    if fake := store.manifest_of(spec.id):
        return [f"new: what is there is fake, made of answers that were invented ({', '.join(fake.fake)})"]
    others = [manifest for manifest in store.all() if manifest.kind == spec.kind]
    if not others:
        return [f"new: there is no {spec.kind} in this store yet"]
    lines, nearest = min(
        ((_differences(store, spec, other, "", set()), other) for other in others),
        key=lambda pair: (len(pair[0]), -sum(line.count(".") for line in pair[0]), pair[1].digest),
    )
    return [f"new: the nearest artifact is {nearest.kind}-{nearest.digest}; it differs in", *lines]


def _line(path: str, here: Any, there: Any) -> str:
    return f"  {path}: this recipe: {here}; existing artifact: {there}"


def _differences(store: Store, spec: Spec, other: Manifest, path: str, seen: set[tuple[str, str]]) -> list[str]:
    """Each field that differs, as `path: this recipe: x; existing artifact: y`; inputs are compared in turn, once."""
    if (spec.digest, other.digest) in seen:
        return []
    seen.add((spec.digest, other.digest))
    lines = []
    if spec.version != other.version:
        lines.append(
            f"  {path or spec.kind}: this recipe: version {spec.version}; existing artifact: version {other.version}"
        )
    return lines + _fields(store, spec, path, spec.own_fields, other.fields, other, seen)


def _fields(
    store: Store, spec: Spec, path: str, here: Any, there: Any, other: Manifest, seen: set[tuple[str, str]]
) -> list[str]:
    if isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
        here, there = ({str(i): item for i, item in enumerate(items)} for items in (here, there))
    if not (isinstance(here, dict) and isinstance(there, dict)):
        return [_line(path, here, there)]
    if "$" in here and "$" in there:
        child = next(child for child in spec.children if child.digest == here["$"])
        name = other.children[there["$"]]
        manifest = store.manifest_of(name)
        if manifest and manifest.kind == child.kind:
            return _differences(store, child, manifest, path, seen)
        return [_line(path, child_name(child), name)]
    lines = []
    for key in sorted(here.keys() | there.keys()):
        one, two = here.get(key, "default"), there.get(key, "default")
        if one != two:
            lines += _fields(store, spec, f"{path}.{key}" if path else key, one, two, other, seen)
    return lines
