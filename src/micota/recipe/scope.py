"""What the words of an expression mean, and how a spec is built so that every mistake names its line.

An expression is a name of the recipe, a literal (a Hub id, a path, `lab:NAME`), or a form `{KIND: {...}}`. A form is a
call of a constructor; which of its fields hold expressions is known from the types of the specs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from micota.benchmarks import BENCHMARKS, PAPER
from micota.errors import MicotaError, suggestion
from micota.recipe.constructors import ALIASES, FORMS
from micota.recipe.signature import SORTS, FieldError, describe, field_type
from micota.recipe.words import benchmark_problems
from micota.specs import Data, FrozenModel, Model, Problems, ProblemSet, SftData, Spec
from micota.store.resolution import What, is_literal
from micota.yaml_tree import Path

EXAMPLES = {
    "distill": "distill: {from: MODEL, data: PROBLEMS}",
    "mix": "mix: [{data: NAME, share: 0.2}, ...]",
}
STATED = {"merge": {"rescale": None}, "dial": {"rescale": None}}
"""Fields that a recipe must state, though Python has a default: mergekit's YAML has another."""


@dataclass
class Scope:
    """What the words of an expression mean: the names of the recipe, and how literals become sources.

    `lookup(name, path)` gives the spec of a name; `literal(word, what, path)` the source of a literal.
    """

    names: Mapping[str, Any]
    lookup: Callable[[str, Path], Spec]
    literal: Callable[[str, What, Path], Any]
    where: Callable[[Path], str]
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _inherited: dict[Path, Path] = field(default_factory=dict)

    def wrong(self, what: str, path: Path, fix: str | None = None, why: str | None = None) -> MicotaError:
        """The error for a place; of a field that came from the defaults, that is where it stands there."""
        for i in range(len(path) + 1):
            if path[:i] in self._inherited:
                path = self._inherited[path[:i]] + path[i:]
                break
        return MicotaError(what, where=self.where(path), fix=fix, why=why)

    def spec(self, expression: Any, wanted: type[Spec], path: Path) -> Any:
        """The spec of an expression, which must be of the wanted class."""
        if isinstance(expression, str):
            spec = self._word(expression, wanted, path)
        elif isinstance(expression, dict) and len(expression) == 1:
            spec = self.form(expression, path)
        else:
            what = f"{expression!r:.200} is no expression"
            raise self.wrong(what, path, "write a name, a literal, or {KIND: {...}}")
        if not isinstance(spec, wanted):
            subject = f"'{expression}'" if isinstance(expression, str) else "this"
            sort = next((word for cls, word in SORTS.items() if issubclass(wanted, cls)), wanted.__name__)
            raise self.wrong(f"{subject} is {describe(spec)}; {sort} is expected here", path)
        return spec

    def _word(self, word: str, wanted: type[Spec], path: Path) -> Spec:
        if word in self.names:
            return self.lookup(word, path)
        problems = issubclass(wanted, ProblemSet)
        if problems and word in BENCHMARKS:
            return benchmark_problems(word, self.literal(BENCHMARKS[word].source, "dataset", path))
        if not is_literal(word):
            known = [*self.names, *(BENCHMARKS if problems else ())]
            raise self.wrong(f"unknown name '{word}'", path, suggestion(word, known))
        source = self.literal(word, "model" if wanted is Model else "dataset", path)
        if problems:
            return Problems(source=source)
        return SftData(source=source) if issubclass(wanted, Data) else source

    def form(self, expression: dict[str, Any], path: Path) -> Any:
        """`{KIND: {...}}`: the fields of the kind, with the recipe's defaults below them."""
        ((kind, fields),) = expression.items()
        if kind not in FORMS:
            raise self.wrong(f"unknown kind '{kind}'", (*path, kind), suggestion(kind, FORMS))
        here = (*path, kind)
        if kind == "mix" and isinstance(fields, list):
            fields = {"parts": fields}
        if not isinstance(fields, dict):
            raise self.wrong(f"'{kind}' has no fields", here, f"write {{{kind}: {{...}}}}")
        defaults = self.defaults.get(kind, {})
        self._inherited |= {(*here, name): ("defaults", kind, name) for name in defaults if name not in fields}
        return self.call(FORMS[kind], {**STATED.get(kind, {}), **defaults, **fields}, here, ALIASES.get(kind, {}))

    def call(
        self, make: Callable[..., Any], fields: dict[str, Any], path: Path, aliases: Mapping[str, str] | None = None
    ) -> Any:
        """Call a constructor with the fields of a mapping; a mistake becomes an error that names its line."""
        aliases = aliases or {}
        back = {name: alias for alias, name in aliases.items()}
        parameters = {back.get(name, name): one for name, one in getattr(make, "parameters", {}).items()}
        kind = str(path[-1])
        extra: tuple[str, ...] = getattr(make, "extra", ())
        for name in fields:
            if name not in parameters and name not in extra:
                raise self.wrong(f"unknown key '{name}'", (*path, name), suggestion(name, [*parameters, *extra]))
        for name, parameter in parameters.items():
            required = parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            if required and name not in fields:
                raise self.wrong(f"'{kind}' lacks '{name}'", path, EXAMPLES.get(kind))
        types: Mapping[str, type[FrozenModel] | None] = getattr(make, "types", {})
        values = {
            aliases.get(name, name): self._value(types.get(aliases.get(name, name)), value, (*path, name))
            for name, value in fields.items()
        }
        values |= self._grader(fields, path)
        values |= self._benchmarks(values, path)
        try:
            return make(**values)
        except FieldError as error:
            place = tuple(back.get(part, part) if isinstance(part, str) else part for part in error.loc)
            raise self.wrong(str(error.what), (*path, *place), error.fix) from None

    def _value(self, wanted: type[FrozenModel] | None, value: Any, path: Path) -> Any:
        """A field's value, with the expressions in it turned into specs."""
        if wanted is None or value is None or isinstance(value, FrozenModel):
            return value
        if isinstance(value, list):
            return [self._value(wanted, item, (*path, i)) for i, item in enumerate(value)]
        if issubclass(wanted, Spec):
            return self.spec(value, wanted, path)
        if not isinstance(value, dict):
            return value
        known = wanted.model_fields
        return {
            name: self._value(field_type(known[name]) if name in known else None, item, (*path, name))
            for name, item in value.items()
        }

    def _grader(self, fields: Mapping[str, Any], path: Path) -> dict[str, Any]:
        """A grader of the user's own stands beside the recipe, or wherever Python finds its module."""
        by = fields.get("by")
        if isinstance(by, dict) and set(by) == {"judge"}:
            return {"by": self.form(by, (*path, "by"))}
        if not (isinstance(by, str) and ":" in by):
            return {}
        return {"by": self.literal(by, "grader", (*path, "by"))}

    def _benchmarks(self, values: Mapping[str, Any], path: Path) -> dict[str, Any]:
        if values.get("decontaminate") and "against" not in values:
            return {"against": [self._word(name, Problems, (*path, "against")) for name in PAPER]}
        return {}
