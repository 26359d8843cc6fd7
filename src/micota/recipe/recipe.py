"""A recipe understood: models, data and arms by their names, what is evaluated and what is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.errors import MicotaError, suggestion
from micota.recipe.constructors import ModelLike, evaluation, measure
from micota.recipe.signature import FieldError
from micota.recipe.words import as_model, as_problems
from micota.specs import GRADERS, Bpc, Data, Model, Problems, Source, Spec, Verify, replace, walk
from micota.store.resolution import Lock, What

EVALUATE = ("models", "data", "prompt", "sampling", "n", "precision", "trust_remote_code", "by")
Section = Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """One cell of the tables: a model, in its role, on one problem set, under one scorer.

    `role` and `data_word` are the recipe's words; `model` and `data` the same with the variables they depend on.
    """

    role: str
    model: str
    data_word: str
    data: str
    variables: Mapping[str, Any]
    spec: Verify


class Recipe:
    """What is compared, on what, and what all of it is made of.

    >>> Recipe(arms={"instruct": student, "micota": mc.train(student, mid)}, evaluate={"data": ["math500"]})

    `arms` and `let` map words to models and data; `evaluate` is a mapping, or several, with `data` (benchmarks, paths,
    problem sets, or words for them), optionally `models` (words; the arms by default), and prompt, sampling, n,
    precision and by (one grader or several; both scorers by default). `measure` maps words of data sets to the words of
    the models under which their bits per character are measured.

    Attributes: `name`; `names`, every label with its spec; `evaluations`; `measures`; `titles`, the words of the arms
    with the names that are printed for them ("" for that of the role); `lock`, the commits of Hub ids.
    """

    def __init__(
        self,
        arms: Mapping[str, ModelLike],
        evaluate: Section | Sequence[Section] | None = None,
        measure: Mapping[str, Sequence[str]] | None = None,
        let: Mapping[str, Spec] | None = None,
        name: str = "untitled",
    ) -> None:
        self.name = folder_name(name)
        self.titles: dict[str, str] = dict.fromkeys(arms, "")
        self.names: dict[str, Spec] = {**(let or {}), **{word: as_model(model) for word, model in arms.items()}}
        if both := arms.keys() & (let or {}).keys():
            raise MicotaError(f"'{min(both)}' is defined in both `let` and `arms`", fix="rename one of the two")
        self.lock: Lock | None = None
        self.evaluations: list[Evaluation] = []
        for section in [evaluate] if isinstance(evaluate, Mapping) else evaluate or ():
            self.evaluations += self._section(section)
        self.measures: dict[str, Bpc] = {}
        for word, models in (measure or {}).items():
            self.measures |= {f"bpc:{word}@{model}": self._measure(word, model) for model in models}

    @classmethod
    def assembled(cls, **attributes: Any) -> Recipe:
        """A recipe of attributes that were read elsewhere, such as from YAML."""
        recipe = cls.__new__(cls)
        recipe.__dict__.update(attributes)
        return recipe

    @staticmethod
    def load(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
        """Read a recipe: a shipped one by its name, or a YAML file; overrides are as in `--set a.b=c`."""
        from micota.recipe import reader

        return reader.load(str(path), overrides)

    def save(self, path: str | Path) -> Path:
        """Write the recipe as YAML that reads back with equal digests; returns the path."""
        from micota.recipe.writer import yaml_text

        path = Path(path)
        path.write_text(yaml_text(self, path.absolute().parent), encoding="utf-8")
        return path

    @property
    def arms(self) -> dict[str, Model]:
        """The arms by their labels: the words, with the variables that they depend on."""
        found = {label: spec for label, spec in self.names.items() if label.partition("[")[0] in self.titles}
        return {label: spec for label, spec in found.items() if isinstance(spec, Model)}

    @property
    def targets(self) -> list[Spec]:
        """What a run is for: evaluations and measures; of a recipe without them, all its names."""
        wanted: list[Spec] = [*(one.spec for one in self.evaluations), *self.measures.values()]
        return wanted or [spec for spec in self.names.values() if not isinstance(spec, Source)]

    def named(self, name: str) -> Spec:
        """The spec of a label, of an evaluation (MODEL@DATA), or of a measure (bpc:DATA@MODEL)."""
        cells: dict[str, Spec] = {f"{e.model}@{e.data}": e.spec for e in reversed(self.evaluations)}
        labels = {**self.names, **cells, **self.measures}
        if name not in labels:
            raise MicotaError(f"the recipe '{self.name}' has no '{name}'", fix=suggestion(name, labels))
        return labels[name]

    def resolved(self, targets: Iterable[Spec], lock: Lock) -> Recipe:
        """The recipe with the commits of those Hub ids that the targets need, from the lock or asked of the Hub."""
        wanted = unresolved(targets)
        if not wanted:
            return self
        for ref, what in wanted.items():
            lock.source(ref, what)
        lock.resolve(sorted(wanted))
        commits = {Source(ref=ref).digest: lock.source(ref, what) for ref, what in wanted.items()}
        specs = replace([*self.names.values(), *self.targets, *(e.spec for e in self.evaluations)], commits)
        return self.with_specs(
            names={label: specs[spec.digest] for label, spec in self.names.items()},
            evaluations=[_moved(one, specs) for one in self.evaluations],
            measures={label: specs[spec.digest] for label, spec in self.measures.items()},
        )

    def with_specs(self, **attributes: Any) -> Recipe:
        """The recipe with other `names`, `evaluations` and `measures`."""
        return Recipe.assembled(**{**self.__dict__, **attributes})

    def _section(self, section: Section) -> list[Evaluation]:
        for key in section:
            if key not in EVALUATE:
                raise MicotaError(f"evaluate: unknown key '{key}'", fix=suggestion(key, EVALUATE))
        data = section.get("data")
        if not data or isinstance(data, str):
            raise MicotaError("evaluate needs a list of data", fix="data: [math500], or the names of problem sets")
        sets = data if isinstance(data, Mapping) else {_word_of(one): one for one in data}
        settings = {key: value for key, value in section.items() if key not in ("models", "data", "by")}
        graders = section.get("by", list(GRADERS))
        cells = []
        for word in section.get("models", list(self.titles)):
            for data_word, problems in sets.items():
                for by in graders if isinstance(graders, list | tuple) else [graders]:
                    made = evaluation(self._known(word, Model), self._problems(problems), by=by, **settings)
                    cells.append(Evaluation(word, word, data_word, data_word, {}, made))
        return cells

    def _problems(self, value: Any) -> Problems:
        named = self.names.get(value) if isinstance(value, str) else None
        return named if isinstance(named, Problems) else as_problems(value)

    def _measure(self, data: str, model: str) -> Bpc:
        return measure(self._known(model, Model), self._known(data, Data))

    def _known(self, word: str, sort: type[Any]) -> Any:
        if word not in self.names:
            raise MicotaError(f"unknown name '{word}'", fix=suggestion(word, self.names))
        if not isinstance(spec := self.names[word], sort):
            raise FieldError(f"'{word}' is a {spec.kind}; a {sort.__name__.lower()} is expected here")
        return spec


def unresolved(targets: Iterable[Spec]) -> dict[str, What]:
    """The Hub ids below the targets that have no commit yet, each with what it is."""
    targets = list(targets)
    found: dict[str, What] = {one.ref: "model" for one in targets if isinstance(one, Source) and one.revision is None}
    for spec in walk(*targets):
        for child in spec.children:
            if not isinstance(child, Source) or child.revision is not None:
                continue
            if found.setdefault(child.ref, spec.source_type) != spec.source_type:
                what = f"'{child.ref}' is used as a model and as a data set"
                raise MicotaError(what, fix="give one of them as a local folder (./NAME)")
    return found


def folder_name(name: str) -> str:
    """The name of a recipe, which must do for a folder; else a MicotaError."""
    if name.startswith(".") or "/" in name:
        raise MicotaError(f"'{name}' is no name for a folder", fix="leave out the slash and the leading dot")
    return name


def _moved(one: Evaluation, specs: Mapping[str, Spec]) -> Evaluation:
    spec = specs[one.spec.digest]
    assert isinstance(spec, Verify)
    return Evaluation(one.role, one.model, one.data_word, one.data, one.variables, spec)


def _word_of(data: Any) -> str:
    """A word for a problem set in tables."""
    if isinstance(data, str):
        return data
    if isinstance(data, Path):
        return data.stem
    problems = as_problems(data)
    return problems.benchmark or Path(problems.source.ref).stem
