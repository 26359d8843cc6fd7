"""The graph of artifacts with their states, costs and inputs, and one artifact with its manifest and log."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from micota.errors import MicotaError
from micota.export import lineage
from micota.recipe.labels import labels
from micota.recipe.recipe import Recipe
from micota.run.plan import survey
from micota.specs import Source
from micota.store.artifacts import Store, child_name
from micota.store.manifest import ID
from micota.viewer.filters import Query

WIDE, HIGH, BOX = 250, 46, 200  # of a place in the graph and of a box in it, in pixels
LOG = 200_000  # bytes of a log's end that are shown


@dataclass(frozen=True)
class Node:
    """An artifact, or one that is to be made: its state, what it cost, its inputs; `x`, `y` is its place."""

    id: str
    title: str
    kind: str
    state: str
    seconds: float | None
    inputs: tuple[str, ...]
    x: int = 0
    y: int = 0


def graph(store: Store, recipe: Recipe | None) -> dict[str, Any]:
    """The artifacts of a recipe, or all of the store, from left to right in the order of making."""
    nodes = _placed(list(_of_recipe(store, recipe) if recipe else _of_store(store)))
    places = {node.id: node for node in nodes}
    lines = [(places[name], node) for node in nodes for name in node.inputs if name in places]
    size = max((node.x for node in nodes), default=0) + WIDE, max((node.y for node in nodes), default=0) + HIGH
    total = sum(node.seconds or 0 for node in nodes)
    return {"nodes": nodes, "lines": lines, "size": size, "box": (BOX, HIGH - 12), "total": total, "places": places}


def _of_recipe(store: Store, recipe: Recipe) -> Any:
    names = labels(recipe)
    for state in survey(store, recipe.targets):
        spec = state.spec
        manifest = None if isinstance(spec, Source) else store.manifest(spec)
        seconds = manifest.provenance.get("seconds") if manifest else None
        inputs = tuple(child_name(child) for child in spec.children)
        word = ", ".join(filter(None, [state.word, state.note if not isinstance(spec, Source) else ""]))
        yield Node(child_name(spec), names.get(spec.digest, spec.id), spec.kind, word, seconds, inputs)


def _of_store(store: Store) -> Any:
    names = lineage.labels(store)
    for one in store.all():
        state = "done" if store.whole(one) else "pruned"
        title = names.get(one.holder, [one.id])[0]
        yield Node(one.id, title, one.kind, state, one.provenance.get("seconds"), tuple(one.children.values()))


def _placed(nodes: list[Node]) -> list[Node]:
    """The nodes with their places: each to the right of all its inputs."""
    known = {node.id: node for node in nodes}
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 0  # of a circle, which no store has
            depths[name] = 1 + max((depth(one) for one in known[name].inputs if one in known), default=-1)
        return depths[name]

    filled: dict[int, int] = {}
    placed = []
    for node in sorted(known.values(), key=lambda node: depth(node.id)):
        row = filled[depth(node.id)] = filled.get(depth(node.id), 0) + 1
        placed.append(Node(**{**vars(node), "x": WIDE * depth(node.id), "y": HIGH * (row - 1)}))
    return placed


def artifact(store: Store, query: Query) -> dict[str, Any]:
    """One artifact: its manifest, what it was made of and what was made of it, and the end of its log."""
    name = (query.get("id") or [""])[-1]
    manifest = store.manifest_of(name) if ID.fullmatch(name) else None
    if manifest is None:
        raise MicotaError(f"there is no artifact {name!r:.80}", where="the address of this page")
    users = [one.id for one in store.all() if name in one.children.values()]
    log = store.root / "artifacts" / manifest.holder / "log.txt"
    text = ""
    if log.is_file():
        with open(log, "rb") as file:
            file.seek(max(0, log.stat().st_size - LOG))
            text = file.read().decode(errors="replace")
    return {
        "manifest": manifest,
        "names": lineage.labels(store).get(manifest.holder, []),
        "text": json.dumps(manifest.as_json(), indent=2, ensure_ascii=False),
        "inputs": [
            (child, bool(ID.fullmatch(child) and store.manifest_of(child))) for child in manifest.children.values()
        ],
        "users": users,
        "log": text,
        "state": "whole" if store.whole(manifest) else "its files were removed",
    }
