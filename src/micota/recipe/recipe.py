"""A recipe understood: models, data and arms by their names, what is evaluated and what is measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from micota.atomic import atomic
from micota.benchmarks import BENCHMARKS
from micota.errors import MicotaError, expected, suggestion
from micota.recipe.arms import baseline_of, check_roles
from micota.recipe.constructors import evaluation, measure
from micota.recipe.contents import (
    Contents,
    Evaluation,
    check_evaluations,
    check_names,
    folder_name,
    graders,
)
from micota.recipe.merge_constructors import ModelLike
from micota.recipe.reader import read
from micota.recipe.sections import EVALUATE
from micota.recipe.shipped import SHIPPED, find, shipped
from micota.recipe.signature import FieldError
from micota.recipe.words import as_model, as_problems
from micota.recipe.writer import yaml_text
from micota.specs import Adapter, Bpc, Data, Model, Problems, Source, Spec, Verify, replace, walk
from micota.store.resolution import Lock, What

Section = Mapping[str, Any]
__all__ = ["SHIPPED", "Evaluation", "Recipe", "find", "load", "shipped"]


class Recipe(Contents):
    """What is compared, on what, and what all of it is made of.

    >>> Recipe(arms={"instruct": student, "micota": mc.train(student, mid)}, evaluate={"data": ["math500"]})

    `arms` and `let` map words to models and data; `evaluate` is a mapping, or several, with `data` (benchmarks, paths,
    problem sets, or words for them), optionally `models` (words; the arms by default), and prompt, sampling, n,
    precision and by (one grader or several; both scorers by default). `measure` maps words of data sets to the words of
    the models under which their bits per character are measured. `roles` maps arms to those of the paper that they are
    (`strong`, `micota`, ...); `baseline` names what the others are compared with: by default the first untrained arm.

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
        roles: Mapping[str, str] | None = None,
        baseline: str = "",
    ) -> None:
        for value, what in ((arms, "arms"), (let or {}, "let"), (measure or {}, "measure")):
            expected(value, Mapping, f"a mapping of names ({what})")
        self.name = folder_name(name)
        self.titles: dict[str, str] = dict.fromkeys(arms, "")
        self.roles = dict(expected(roles or {}, Mapping, "a mapping of names (roles)"))
        check_roles(self.roles, self.titles)
        self.names: dict[str, Spec] = {word: expected(spec, Spec, "a spec") for word, spec in (let or {}).items()}
        self.names |= {word: as_model(model) for word, model in arms.items()}
        if both := arms.keys() & (let or {}).keys():
            raise MicotaError(f"'{min(both)}' is defined in both `let` and `arms`", fix="rename one of the two")
        check_names(self.names)
        self.lock: Lock | None = None
        self.evaluations: list[Evaluation] = []
        sections = [evaluate] if isinstance(evaluate, Mapping) else expected(evaluate or (), list | tuple, "a section")
        for section in sections:
            self.evaluations += self._section(
                expected(section, Mapping, "a section `evaluate`", '{"data": ["math500"]}')
            )
        check_evaluations(self.evaluations)
        self.baseline = baseline_of(baseline, {word: self.names[word] for word in arms}, self.evaluations)
        self.measures: dict[str, Bpc] = {}
        for word, models in (measure or {}).items():
            listed = expected(models, list | tuple, "a list of the names of models")
            self.measures |= {f"bpc:{word}@{model}": self._measure(word, model) for model in listed}

    @classmethod
    def load(cls, path: str | Path, overrides: Iterable[str] = (), lock: Lock | None = None) -> Recipe:
        """Read a recipe: a shipped one by its name, or a YAML file; overrides are as in `--set a.b=c`.

        With overrides its name says what they change, as in `lab-mini+micota.lr=1e-3`, and finds it again.

        Hub ids have the commits of its lock file, RECIPE.lock beside it. Raises MicotaError for every mistake.
        """
        return cls._of(vars(read(str(path), expected(overrides, list | tuple, "a list of texts `a.b=c`"), lock)))

    @classmethod
    def _of(cls, attributes: Mapping[str, Any]) -> Recipe:
        recipe = cls.__new__(cls)
        recipe.__dict__.update(attributes)
        return recipe

    def save(self, path: str | Path) -> Path:
        """Write the recipe as YAML that reads back with equal digests, and its Hub commits beside it; returns the path.

        Raises MicotaError, and writes nothing, where YAML cannot say what the recipe says.
        """
        path = Path(path)
        if not path.absolute().parent.is_dir():
            raise MicotaError(f"there is no folder {path.parent}", fix="make it first")
        lock = Lock(path.with_suffix(".lock"))
        lock.revisions = commits([*self.targets, *self.names.values()])
        with atomic(path) as temporary:
            temporary.write_text(yaml_text(self, path.absolute().parent), encoding="utf-8")
            back = read(str(temporary), (), lock)
            if _identity(back) != _identity(self):
                why = "a name equals a literal, a benchmark or another name, or two names stand for one thing"
                fix = "give models, problem sets and arms names of their own"
                raise MicotaError(f"the recipe '{self.name}' would read back as another one", why=why, fix=fix)
        lock.save()
        return path

    def resolved(self, targets: Iterable[Spec], lock: Lock, ask: bool = True) -> Recipe:
        """The recipe with the commits of those Hub ids that the targets need.

        They come from the lock, else from the Hub, or, without `ask`, stay open.
        """
        targets = list(targets)
        wanted = unresolved(targets)
        if not wanted:
            return self
        if ask:
            adapters = [one for one in walk(*targets) if isinstance(one, Adapter)]
            bases = {one.base.ref: one.path for one in adapters if isinstance(one.base, Source)}
            lock.resolve(sorted(ref for ref, what in wanted.items() if lock.source(ref, what).revision is None), bases)
        sources = {Source(ref=ref).digest: lock.source(ref, what) for ref, what in wanted.items()}
        specs = replace([*self.names.values(), *self.targets], sources)
        return self.with_specs(
            lock=lock,
            names={label: specs[spec.digest] for label, spec in self.names.items()},
            evaluations=[_moved(one, specs) for one in self.evaluations],
            measures={label: specs[spec.digest] for label, spec in self.measures.items()},
        )

    def with_specs(self, **attributes: Any) -> Recipe:
        """The recipe with other `names`, `evaluations` and `measures`."""
        return Recipe._of({**vars(self), **attributes})

    def _section(self, section: Section) -> list[Evaluation]:
        for key in section:
            if key not in EVALUATE:
                raise MicotaError(f"evaluate: unknown key '{key}'", fix=suggestion(key, EVALUATE))
        data = section.get("data")
        if not data or not isinstance(data, list | tuple | Mapping):
            raise MicotaError("evaluate needs a list of data", fix="data: [math500], or the names of problem sets")
        sets = data if isinstance(data, Mapping) else self._words(data)
        settings = {key: value for key, value in section.items() if key not in ("models", "data", "by")}
        cells = []
        for word in expected(section.get("models", list(self.titles)), list | tuple, "a list of the names of models"):
            for data_word, problems in sets.items():
                asked = self._problems(problems)
                for by in graders(section, asked):
                    spec = evaluation(self._known(word, Model), asked, by=by, **settings)
                    cells.append(Evaluation(word, word, data_word, data_word, {}, spec))
        return cells

    def _words(self, data: Iterable[Any]) -> dict[str, Any]:
        """Words for problem sets: benchmarks and names of the recipe as they are, files without folder and suffix."""
        words: dict[str, Any] = {}
        for one in data:
            word = one if isinstance(one, str) and one in self.names else _word_of(one)
            if word in words:
                fix = f'give them names: data={{"{word}": ..., "{word}-2": ...}}'
                raise MicotaError(f"two problem sets are called '{word}'", where="evaluate: data", fix=fix)
            words[word] = one
        return words

    def _problems(self, value: Any) -> Problems:
        named = self.names.get(value) if isinstance(value, str) else None
        return named if isinstance(named, Problems) else as_problems(value)

    def _measure(self, data: str, model: str) -> Bpc:
        return measure(self._known(model, Model), self._known(data, Data))

    def _known(self, word: str, sort: type[Any]) -> Any:
        if str(word) not in self.names:
            raise MicotaError(f"unknown name '{word}'", fix=suggestion(word, self.names))
        if not isinstance(spec := self.names[word], sort):
            raise FieldError(f"'{word}' is a {spec.kind}; a {sort.__name__.lower()} is expected here")
        return spec


def load(name: str | Path, overrides: Iterable[str] = (), lock: Lock | None = None) -> Recipe:
    """Read a recipe: a shipped one by its name, or a YAML file (`Recipe.load`)."""
    return Recipe.load(name, overrides, lock)


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


def commits(targets: Iterable[Spec]) -> dict[str, str]:
    """What a lock file says of the Hub ids below the targets: `model:ORGANIZATION/NAME` and the commit of each."""
    uses = [(spec.source_type, child) for spec in walk(*targets) for child in spec.children]
    uses += [("model", spec) for spec in targets]
    hub = [(what, one) for what, one in uses if isinstance(one, Source) and one.path is None and "/" in one.ref]
    return {f"{what}:{one.ref}": one.revision for what, one in hub if one.revision}


def _identity(contents: Contents) -> tuple[Any, ...]:
    """What must be equal after a recipe was written and read: models by their words, evaluations, measures."""
    arms = {word: spec.digest for word, spec in contents.arms.items()}
    cells = sorted((one.model, one.spec.digest) for one in contents.evaluations)
    return arms, cells, {word: spec.digest for word, spec in contents.measures.items()}


def _moved(one: Evaluation, specs: Mapping[str, Spec]) -> Evaluation:
    spec = specs[one.spec.digest]
    assert isinstance(spec, Verify)
    return Evaluation(one.role, one.model, one.data_word, one.data, one.variables, spec)


def _word_of(data: Any) -> str:
    """A word for a problem set in tables."""
    if isinstance(data, str | Path):
        return str(data) if data in BENCHMARKS else Path(data).stem
    problems = as_problems(data)
    return problems.benchmark or Path(problems.source.ref).stem
