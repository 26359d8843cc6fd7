"""What the words of an expression mean, and how a spec is built so that every mistake names its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from micota.benchmarks import BENCHMARKS
from micota.errors import MicotaError, suggestion
from micota.specs import (
    LengthDial,
    Merge,
    Mix,
    Pretrain,
    Problems,
    RejectionSampling,
    Select,
    SftData,
    Source,
    Spec,
    Train,
)
from micota.store.resolution import What, is_literal
from micota.yaml_tree import Path

T = TypeVar("T")
Want = Literal["model", "data", "problems"]
TYPES: dict[Want, tuple[type[Spec], ...]] = {
    "model": (Source, Pretrain, Train, Merge, LengthDial),
    "data": (Select, Mix, RejectionSampling, SftData),
    "problems": (Problems,),
}
SOURCES: dict[Want, What] = {"model": "model", "data": "dataset", "problems": "dataset"}


@dataclass
class Scope:
    """What the words of an expression mean: the names of the recipe, and how literals become sources.

    `lookup(name, path)` gives the spec of a name; `literal(word, what, path)` the source of a literal.
    """

    names: Mapping[str, Any]
    lookup: Callable[[str, Path], Spec]
    literal: Callable[[str, What, Path], Source]
    where: Callable[[Path], str]
    forms: Mapping[str, Callable[[Scope, dict[str, Any], Path], Spec]]
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _inherited: dict[Path, Path] = field(default_factory=dict)

    def wrong(self, what: str, path: Path, fix: str | None = None, why: str | None = None) -> MicotaError:
        """The error for a place; of a field that came from the defaults, that is where it stands there."""
        for i in range(len(path) + 1):
            if path[:i] in self._inherited:
                path = self._inherited[path[:i]] + path[i:]
                break
        return MicotaError(what, where=self.where(path), fix=fix, why=why)

    def spec(self, expression: Any, want: Want, path: Path) -> Spec:
        """The spec of an expression, which must be of the wanted sort."""
        made = self._any(expression, want, path)
        if not isinstance(made, TYPES[want]):
            said = f"'{expression}'" if isinstance(expression, str) else "this"
            raise self.wrong(f"{said} is a {made.kind}; {_article(want)} is wanted here", path)
        return made

    def _any(self, expression: Any, want: Want, path: Path) -> Spec:
        if isinstance(expression, str):
            return self._word(expression, want, path)
        if isinstance(expression, dict) and len(expression) == 1:
            return self.form(expression, path)
        raise self.wrong(f"{expression!r} is no expression", path, "write a name, a literal, or {KIND: {...}}")

    def _word(self, word: str, want: Want, path: Path) -> Spec:
        if word in self.names:
            return self.lookup(word, path)
        if want == "problems" and word in BENCHMARKS:
            return self.benchmark(word, path)
        if is_literal(word):
            source = self.literal(word, SOURCES[want], path)
            given: dict[Want, type[Problems | SftData]] = {"problems": Problems, "data": SftData}
            return given[want](source=source) if want in given else source
        known = [*self.names, *(BENCHMARKS if want == "problems" else ())]
        raise self.wrong(f"unknown name '{word}'", path, suggestion(word, known))

    def form(self, expression: dict[str, Any], path: Path) -> Spec:
        """`{KIND: {...}}`: the fields of the kind, with the recipe's defaults below them."""
        ((kind, fields),) = expression.items()
        if kind not in self.forms:
            raise self.wrong(f"unknown kind '{kind}'", (*path, kind), suggestion(kind, self.forms))
        here = (*path, kind)
        if kind == "mix" and isinstance(fields, list):
            fields = {"parts": fields}
        if not isinstance(fields, dict):
            raise self.wrong(f"'{kind}' has no fields", here, f"write {{{kind}: {{...}}}}")
        defaults = self.defaults.get(kind, {})
        self._inherited |= {(*here, name): ("defaults", kind, name) for name in defaults if name not in fields}
        return self.forms[kind](self, {**defaults, **fields}, here)

    def benchmark(self, name: str, path: Path) -> Problems:
        b = BENCHMARKS[name]
        source = self.literal(b.source, "dataset", path)
        return Problems(
            source=source, config=b.config, split=b.split, problem=b.problem, answer=b.answer, benchmark=name
        )

    def build(self, make: Callable[..., T], fields: dict[str, Any], known: Mapping[str, Any], path: Path) -> T:
        """Make a spec; unknown fields and wrong values become errors that name their place."""
        for name in fields:
            if name not in known:
                raise self.wrong(f"unknown key '{name}'", (*path, name), suggestion(name, known))
        try:
            return make(**fields)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = (*path, *(part for part in first["loc"] if isinstance(part, str)))
            if first["type"] == "missing":
                raise self.wrong(f"'{path[-1]}' lacks '{first['loc'][-1]}'", path) from None
            shown = "" if isinstance(first["input"], dict) else f": {first['input']!r}"
            message = first["msg"].removeprefix("Value error, ")
            raise self.wrong(f"{place[-1]}{shown}: {message}", place) from None


def _article(want: Want) -> str:
    return {"model": "a model", "data": "training data", "problems": "a problem set"}[want]
