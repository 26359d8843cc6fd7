"""What a spec is: frozen fields, children, and a digest that is its identity."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from micota.errors import MicotaError


class FrozenModel(BaseModel):
    """A frozen group of typed fields; unknown fields and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Spec(FrozenModel):
    """One artifact, said in full. `digest` is its identity: 16 hexadecimal digits."""

    kind: ClassVar[str]
    VERSION: ClassVar[int] = 1

    @property
    def version(self) -> str:
        return str(self.VERSION)

    @cached_property
    def digest(self) -> str:
        return sha(self.identity({child.digest: child.digest for child in self.children}))

    @cached_property
    def children(self) -> tuple[Spec, ...]:
        """The specs this one refers to, in the order of the fields, each once."""
        found = {spec.digest: spec for name in type(self).model_fields for spec in _specs(getattr(self, name))}
        return tuple(found.values())

    @property
    def own_fields(self) -> dict[str, Any]:
        """The fields that differ from their defaults; children stand as {"$": digest}."""
        fields = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if info.is_required() or value != info.default:
                fields[name] = plain(value, name)
        return fields

    def next(self, results: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...] | Choice | None:
        """The one dynamic rule: the specs to make next, or the choice among them; None for a spec that is a stage.

        Pure: `results` holds the facts of what was asked for before, by digest, and grows from round to round.
        """
        return None

    @property
    def needs(self) -> tuple[Spec, ...]:
        """The children and, of a search, what it asks for as long as it has no results."""
        asked = self.next({})
        return (*self.children, *asked) if isinstance(asked, tuple) else self.children

    def identity(self, names: Mapping[str, str]) -> dict[str, Any]:
        """What a digest is taken over, with each child's digest replaced through `names`.

        With the children's *contents* as names this is the key of early cut-off: equal keys, equal artifacts.
        """
        return {"kind": self.kind, "version": self.version, "fields": _rename(self.own_fields, names)}


@dataclass(frozen=True)
class Choice:
    """The end of a dynamic spec: the spec whose artifact it is, why, and what the report shows of the search."""

    spec: Spec
    why: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def _specs(value: Any) -> Iterator[Spec]:
    if isinstance(value, Spec):
        yield value
    elif isinstance(value, FrozenModel):
        for name in type(value).model_fields:
            yield from _specs(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _specs(item)


def plain(value: Any, name: str) -> Any:
    """A field as canonical JSON data; what has no stable form is refused by name."""
    if isinstance(value, Spec):
        return {"$": value.digest}
    if isinstance(value, FrozenModel):
        fields = type(value).model_fields.items()
        shown = {n: getattr(value, n) for n, i in fields if i.is_required() or getattr(value, n) != i.default}
        return {n: plain(v, f"{name}.{n}") for n, v in shown.items()}
    if isinstance(value, tuple):
        return [plain(item, name) for item in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise MicotaError(f"'{name}' has no stable form: {value!r}", why="an artifact's identity must not change by itself")


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$"}:
            return {"$": names[value["$"]]}
        return {key: _rename(item, names) for key, item in value.items()}
    return [_rename(item, names) for item in value] if isinstance(value, list) else value


def sha(data: Any) -> str:
    """16 hexadecimal digits over the canonical JSON of plain data."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
