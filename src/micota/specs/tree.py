"""Specs as a tree: walked from the leaves up, and carried to another process as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from micota.specs.spec import FrozenModel, Spec, plain
from micota.specs.table import KINDS


def walk(*roots: Spec, asked: bool = False) -> Iterator[Spec]:
    """Every spec below the roots, children before those that need them, each digest once.

    With `asked`, what a search asks for is there as well, before the search.
    """
    seen: set[str] = set()
    stack: list[tuple[Spec, bool]] = [(spec, False) for spec in reversed(roots)]
    while stack:
        spec, ready = stack.pop()
        if ready:
            yield spec
        elif spec.digest not in seen:
            seen.add(spec.digest)
            stack.append((spec, True))
            stack += [(child, False) for child in reversed(spec.needs if asked else spec.children)]


def to_json(spec: Spec) -> dict[str, Any]:
    """The spec with everything below it, each once and before what needs it, so that another process can read it."""
    nodes = []
    for node in walk(spec):
        fields = {name: plain(getattr(node, name), name) for name in type(node).model_fields}
        nodes.append({"digest": node.digest, "kind": node.kind, "fields": fields})
    return {"specs": nodes}


def from_json(data: Mapping[str, Any]) -> Spec:
    """The inverse of `to_json`."""
    built: dict[str, Spec] = {}

    def build(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"$"}:
                return built[value["$"]]
            return {key: build(item) for key, item in value.items()}
        return [build(item) for item in value] if isinstance(value, list) else value

    for node in data["specs"]:
        built[node["digest"]] = KINDS[node["kind"]](**build(node["fields"]))
    return built[data["specs"][-1]["digest"]]


def replace(roots: Iterable[Spec], new: Mapping[str, Spec]) -> dict[str, Spec]:
    """Every spec below the roots, by its digest, with those that `new` names by their digests in their places."""
    built: dict[str, Spec] = {}
    for spec in walk(*roots):
        if spec.digest in new:
            built[spec.digest] = new[spec.digest]
        elif all(built[child.digest] is child for child in spec.children):
            built[spec.digest] = spec
        else:
            built[spec.digest] = spec.changed(**{name: _put(getattr(spec, name), built) for name in _fields(spec)})
    return built


def _fields(value: FrozenModel) -> Iterable[str]:
    return type(value).model_fields


def _put(value: Any, built: Mapping[str, Spec]) -> Any:
    if isinstance(value, Spec):
        return built[value.digest]
    if isinstance(value, FrozenModel):
        return value.changed(**{name: _put(getattr(value, name), built) for name in _fields(value)})
    return tuple(_put(item, built) for item in value) if isinstance(value, tuple) else value
