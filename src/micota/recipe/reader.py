"""From YAML to a recipe; every mistake is one error that names its line.

`for` makes a matrix: what mentions a variable is made for each of its values, what mentions none is one artifact, made
once. The forms are the constructors; this reader adds names, variables and line numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

from micota import yaml_tree
from micota.atomic import read_text
from micota.errors import MicotaError, suggestion
from micota.recipe.arms import Arms, baseline_of
from micota.recipe.constructors import FORMS, evaluation, measure
from micota.recipe.contents import (
    Contents,
    Evaluation,
    NameRefused,
    check_evaluations,
    check_names,
    folder_name,
    graders,
)
from micota.recipe.scope import Scope
from micota.recipe.sections import EVALUATE, BpcSection, MeasureSection, RecipeSections, keys, spelled
from micota.recipe.shipped import SHIPPED, named
from micota.recipe.variables import TEXTS, Values, Variables
from micota.recipe.variants import overrides_of, variant_name
from micota.recipe.words import HERE, adapter_folder, as_adapter, as_source
from micota.specs import Adapter, Bpc, Data, Model, Problems, Source, Spec
from micota.store.checked import say
from micota.store.resolution import Lock, What


def read(name: str, overrides: Iterable[str] = (), lock: Lock | None = None) -> Contents:
    """Read a recipe; Hub ids have the commits of its lock file. Raises MicotaError for every mistake.

    With overrides it has a name of its own, such as `lab-mini+micota.lr=1e-3`, by which it is found too.
    """
    path, words = named(name)
    tree = yaml_tree.read(read_text(path), path.name)
    if not isinstance(tree.value, dict):
        raise MicotaError(f"{path.name} is no recipe", fix="begin with `name:` and `arms:`")
    written, base = deepcopy(spelled(tree).value), str(tree.value.get("name") or path.stem)
    whole = not any("~" in word for word in words)  # where it stands for a hash
    suffix = _override(tree, overrides_of(words if whole else (), written), base, written)
    if suffix != "".join(f"+{word}" for word in words):
        why = "its name does not say all that was changed"
        raise MicotaError(f"there is no recipe '{name}'", why=why, fix=f"give {path.stem} and its `--set` again")
    suffix = _override(tree, overrides, base, written)
    beside = Path.cwd() if path.is_relative_to(SHIPPED) else path.absolute().parent
    return _Reader(spelled(tree), path, beside, lock or Lock(beside / f"{path.stem}.lock"), suffix).read()


def _override(tree: yaml_tree.Tree, overrides: Iterable[str], name: str, written: dict[str, Any]) -> str:
    """Override values of a tree; returns what that puts behind the recipe's name."""
    own = False
    for override in overrides:
        yaml_tree.override(tree.value, override)
        own = own or override.partition("=")[0] == "name"
    return "" if own else variant_name(name, written, spelled(tree).value).removeprefix(name)


def _word(name: Any) -> Any:
    """A name that YAML reads as a number is a text too."""
    return str(name) if isinstance(name, int | float | str) else name


class _Reader:
    """Turns the tree of a recipe into specs, one combination of variables after the other."""

    def __init__(self, tree: yaml_tree.Tree, path: Path, beside: Path, lock: Lock, suffix: str = "") -> None:
        self._tree, self._beside, self._lock = tree, beside, lock
        self._top: dict[str, Any] = tree.value
        self._stem, self._suffix = path.stem, suffix
        self._sections()
        self._matrix = Variables(tree)
        for variable, where in self._matrix.unused(str({**self._top, "for": None})):
            say(
                f"nothing mentions the variable '{variable}' ({where}): write ${variable} where it counts, or remove it"
            )
        self._arms = self._read_arms()
        self._definitions = {**self._top["let"], **self._arms.expressions}
        self._depends = {name: self._variables(name) for name in self._definitions}
        self._specs: dict[tuple[Any, ...], Spec] = {}
        self._literals: dict[tuple[str, str], Source | Adapter] = {}
        self._opening: list[str] = []
        self._env: Values = {}

    def read(self) -> Contents:
        names: dict[str, Spec] = {}
        evaluations: dict[tuple[str, str, str], Evaluation] = {}
        measures: dict[str, Bpc] = {}
        for combination in self._matrix.combinations():
            self._env = combination
            scope = self._scope()
            for name in self._definitions:
                names[self._label(name)] = self._lookup(name, self._place(name))
            for one in self._evaluations(scope):
                evaluations[one.model, one.data, one.spec.digest] = one
            measures |= self._measures(scope)
        self._check_names(names)
        check_evaluations(evaluations.values())
        return Contents(
            name=self._name,
            names=names,
            evaluations=list(evaluations.values()),
            measures=measures,
            lock=self._lock,
            titles=self._arms.titles,
            roles=self._arms.roles,
            baseline=self._baseline(names, evaluations.values()),
        )

    def _wrong(self, what: str, path: yaml_tree.Path, fix: str | None = None) -> MicotaError:
        return MicotaError(what, where=self._tree.where(path), fix=fix)

    def _sections(self) -> None:
        self._check_keys(self._top, keys(RecipeSections), ())
        for key in ("for", "let", "defaults", "arms", "measure"):
            self._mapping(self._top.setdefault(key, {}), (key,))
        for kind, fields in self._top["defaults"].items():
            if kind not in FORMS:
                raise self._wrong(f"unknown kind '{kind}'", ("defaults", kind), suggestion(kind, FORMS))
            self._mapping(fields, ("defaults", kind))
        both = self._top["let"].keys() & self._top["arms"].keys()
        if both:
            what = f"'{min(both)}' is defined in both `let` and `arms`"
            raise self._wrong(what, ("arms", min(both)), "rename one of the two")
        name = self._top.get("name")
        try:
            self._name = folder_name(self._stem if name is None else _word(name)) + self._suffix
        except NameRefused as error:
            raise self._wrong(error.what, ("name",), error.fix) from None
        self._check_names([*self._top["for"], *self._top["let"], *self._top["arms"]])

    def _check_names(self, names: Iterable[str]) -> None:
        """A name that cannot be used is an error at its line; a label's is that of its name."""
        try:
            check_names(names)
        except NameRefused as error:
            place = self._place(error.name if error.name in self._top["arms"] else error.name.partition("[")[0])
            raise self._wrong(error.what, place, error.fix) from None

    def _mapping(self, value: Any, path: yaml_tree.Path) -> dict[str, Any]:
        if isinstance(value, dict):
            return value
        here = path[-1] if isinstance(path[-1], str) else f"{path[-2]}.{path[-1]}"
        raise self._wrong(f"'{here}' is no mapping", path, f"write `{here}:` and its entries below it")

    def _several(self, value: Any, path: yaml_tree.Path) -> list[tuple[dict[str, Any], yaml_tree.Path]]:
        """The mappings of a section that may also be a list of them, each with its place."""
        if isinstance(value, list):
            return [(self._mapping(one, (*path, i)), (*path, i)) for i, one in enumerate(value)]
        return [(self._mapping(value, path), path)] if value != {} else []

    def _read_arms(self) -> Arms:
        try:
            return Arms.read(self._top["arms"])
        except NameRefused as error:
            raise self._wrong(error.what, ("arms", error.name), error.fix) from None

    def _baseline(self, names: dict[str, Spec], evaluations: Iterable[Evaluation]) -> str:
        first = {label.partition("[")[0]: spec for label, spec in reversed(names.items())} | names
        try:
            given = _word(self._top.get("baseline") or "")
            return baseline_of(given, {word: first[word] for word in self._arms.titles}, evaluations)
        except NameRefused as error:
            raise self._wrong(error.what, ("baseline",), error.fix) from None

    def _variables(self, name: str) -> tuple[str, ...]:
        """The variables that a definition mentions, itself or through other names."""
        found: set[str] = set()
        seen, todo = {name}, [name]
        while todo:
            current = todo.pop()
            for word, text in self._words(self._definitions[current]):
                found |= set(self._matrix.mentioned(word, self._place(current), text))
                if word in self._definitions and word not in seen:
                    seen.add(word)
                    todo.append(word)
        return tuple(sorted(found))

    def _words(self, value: Any, text: bool = False) -> Iterable[tuple[str, bool]]:
        """The words of an expression, those included that its forms take from the defaults; which are free text."""
        if isinstance(value, str):
            yield value, text
        elif isinstance(value, dict):
            for key, item in value.items():
                yield from self._words(item, text or key in TEXTS)
                yield from self._words(self._top["defaults"].get(key, []) if key in FORMS else [])
        elif isinstance(value, list):
            for item in value:
                yield from self._words(item, text)

    def _place(self, name: str) -> yaml_tree.Path:
        return ("let" if name in self._top["let"] else "arms", name)

    def _label(self, name: str) -> str:
        depends = self._depends.get(name, ())
        inside = ",".join(f"{variable}={self._env[variable]}" for variable in depends)
        return f"{name}[{inside}]" if inside else name

    def _scope(self) -> Scope:
        defaults = self._expand(self._top["defaults"], ("defaults",))
        return Scope(self._definitions, self._lookup, self._literal, self._tree.where, defaults)

    def _lookup(self, name: str, path: yaml_tree.Path) -> Spec:
        """The spec of a name in the current combination; made once for equal values of what it depends on."""
        key = (name, *(str(self._env[variable]) for variable in self._depends[name]))
        if key not in self._specs:
            if name in self._opening:
                circle = " -> ".join([*self._opening[self._opening.index(name) :], name])
                raise self._wrong(f"the definitions run in a circle: {circle}", path, "let one of them begin")
            self._opening.append(name)
            self._specs[key] = self._define(self._expand(self._definitions[name], self._place(name)), self._place(name))
            self._opening.pop()
        return self._specs[key]

    def _define(self, expression: Any, place: yaml_tree.Path) -> Spec:
        """A form is what it says; a bare word in a definition is a model."""
        if isinstance(expression, dict) and len(expression) == 1:
            return self._scope().form(expression, place)  # type: ignore[no-any-return]
        return self._scope().spec(expression, Model, place)  # type: ignore[no-any-return]

    def _expand(self, value: Any, place: yaml_tree.Path) -> Any:
        return self._matrix.expand(value, self._env, place)

    def _literal(self, word: str, what: What, path: yaml_tree.Path) -> Source | Adapter:
        key = (word, what)
        if key not in self._literals:
            try:
                self._literals[key] = self._elsewhere(word, what)
            except MicotaError as error:
                where = f"{self._tree.where(path)}{f', {error.where}' if error.where else ''}"
                raise MicotaError(error.what, where=where, why=error.why, fix=error.fix) from None
        return self._literals[key]

    def _elsewhere(self, word: str, what: What) -> Source | Adapter:
        """What a literal names: a source, or a folder with an adapter."""
        if what != "grader" and not word.startswith(HERE):
            return self._lock.source(word, what)
        if what == "model" and (folder := adapter_folder(word, self._beside)):
            return as_adapter(word, folder, lambda ref: self._lock.source(ref, "model"))
        return as_source(word, what, self._beside)

    def _evaluations(self, scope: Scope) -> list[Evaluation]:
        """The cells of the tables; `evaluate` is one section, or a list of sections with prompts of their own."""
        sections = self._several(self._expand(self._top.get("evaluate", {}), ("evaluate",)), ("evaluate",))
        return [one for section, path in sections for one in self._section(scope, section, path)]

    def _section(self, scope: Scope, section: dict[str, Any], path: yaml_tree.Path) -> list[Evaluation]:
        self._check_keys(section, EVALUATE, path)
        models, data = self._listed(section, "models", path), self._listed(section, "data", path)
        arms = list(self._top["arms"])
        wanted = dict.fromkeys(one for word in models for one in (arms if word == "arms" else [word]))
        settings = {key: value for key, value in section.items() if key not in ("models", "data", "by")}
        cells = []
        for word, name in itertools.product(wanted, data):
            model = scope.spec(word, Model, (*path, "models"))
            problems = scope.spec(name, Problems, (*path, "data"))
            used = {v: self._env[v] for w in (word, name) for v in self._depends.get(w, ())}
            for by in graders(section, problems):
                spec = scope.call(evaluation, {**settings, "model": model, "problems": problems, "by": by}, path)
                cells.append(Evaluation(word, self._label(word), name, self._label(name), used, spec))
        return cells

    def _measures(self, scope: Scope) -> dict[str, Bpc]:
        section = self._expand(self._top["measure"], ("measure",))
        self._check_keys(section, keys(MeasureSection), ("measure",))
        measures = {}
        for fields, path in self._several(section.get("bpc", {}), ("measure", "bpc")):
            self._check_keys(fields, keys(BpcSection), path)
            settings = {key: value for key, value in fields.items() if key not in ("models", "data")}
            words = (self._listed(fields, key, path) for key in ("models", "data"))
            for word, name in itertools.product(*words):
                model = scope.spec(word, Model, (*path, "models"))
                data = scope.spec(name, Data, (*path, "data"))
                label = f"bpc:{self._label(name)}@{self._label(word)}"
                measures[label] = scope.call(measure, {"model": model, "data": data, **settings}, path)
        return measures

    def _check_keys(self, section: dict[str, Any], known: list[str], path: yaml_tree.Path) -> None:
        for key in section:
            if key not in known:
                raise self._wrong(f"unknown key '{key}'", (*path, key), suggestion(key, known))

    def _listed(self, section: dict[str, Any], key: str, path: yaml_tree.Path) -> list[str]:
        values = section.get(key)
        if not isinstance(values, list) or not values or not all(isinstance(v, str) for v in values):
            raise self._wrong(f"'{path[0]}' needs a list of {key}", path, f"{key}: [NAME, ...]")
        return values
