"""Which data for which student: what is known of each pair before its training, as ordinary stages and one table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from micota.checks.recipes import share_rows
from micota.costs import shapes
from micota.errors import MicotaError, expected, suggestion
from micota.lab.designs import DESIGNS
from micota.machine import MachineProfile
from micota.recipe.constructors import evaluation, train
from micota.recipe.labels import labels, name
from micota.recipe.recipe import Recipe, Section
from micota.recipe.signature import build
from micota.recipe.words import as_problems
from micota.report.answer_frame import usual_scorer
from micota.report.data_ranking import NAMED_BY, PREFERRED
from micota.report.graded_answers import GradedAnswers
from micota.specs import (
    Bpc,
    Data,
    LengthDial,
    Mix,
    MixtureComponent,
    Model,
    Pretrain,
    Problems,
    Source,
    Spec,
    Train,
    Verify,
    walk,
)
from micota.specs.length_dial import MEASURED
from micota.store.artifacts import Store

if TYPE_CHECKING:
    from pandas import DataFrame

TENTH = 10
STAGES = {
    "measured": tuple(MEASURED),
    "trial": ("trial_loss",),
    "answers": ("trial_accuracy",),
    "before": ("untrained",),
}
"""The stages of a pair, with the figures that each gives."""


@dataclass(frozen=True)
class Candidate:
    """A student's training on a data set, before it is paid for: names of both, and the stages by `STAGES`."""

    student: str
    data: str
    training: Train
    stages: Mapping[str, Spec]


@dataclass(frozen=True)
class Ranking:
    """What is known of data sets before students are trained on them. `recipe` names the stages that measure it."""

    recipe: Recipe
    candidates: Mapping[str, Candidate]
    store: Store
    machine: MachineProfile

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        store: Store,
        machine: MachineProfile,
        probe: Any,
        asked: Section,
        held_out: int | None,
    ) -> Ranking:
        """The stages for the trained arms of a recipe; without trials where `held_out` is None. Makes nothing."""
        found = candidates(recipe, probe, held_out, asked)
        names = {f"{stage}:{word}": spec for word, one in found.items() for stage, spec in one.stages.items()}
        stages = Recipe({}, let=names, name=f"{recipe.name}-rank").with_specs(lock=recipe.lock)
        return cls(stages, found, store, machine)

    def resolved(self, recipe: Recipe) -> Ranking:
        """The same with the commits of Hub ids in its recipe."""
        return replace(self, recipe=recipe)

    @property
    def frame(self) -> DataFrame:
        """`sorted` by the measure that the evidence supports most."""
        return self.sorted(NAMED_BY)

    def sorted(self, by: str) -> DataFrame:
        """A row for each student and data set, the preferred first; columns as in `report.data_ranking.PREFERRED`.

        `bpc` is in bits per character, `rsr` a pure number, `local` and `trial_loss` in nats of a token, `tokens` the
        mean length of a response, `beyond` and `trial_accuracy` are shares, `gradient` is a cosine. `untrained` is the
        share of the probe problems that the student answers before any training. What was not measured is nan.
        """
        import pandas as pd

        rows = [{"student": one.student, "data": one.data, **self._figures(word)}
                for word, one in self.candidates.items()]  # fmt: skip
        frame = pd.DataFrame(rows, columns=["student", "data", *PREFERRED, "untrained"])
        return frame.sort_values(["student", by], ascending=[True, PREFERRED[by] < 0], kind="stable", ignore_index=True)

    def judged(self, results: GradedAnswers) -> DataFrame:
        """The map that `report.data_ranking` judges: the measures beside what the trainings of a recipe came to.

        The variable `seed` is a column of its own, and no part of the names of students and data sets.
        """
        found, scorer = [], usual_scorer(results.frame)
        rows = self.frame.set_index(["student", "data"])
        for one in results.recipe.evaluations:
            facts = results.facts(one.spec) if one.spec.by == scorer else {}
            for pair in self.candidates.values() if facts else ():
                if one.spec.completions.model == pair.training:
                    found.append({**rows.loc[(pair.student, pair.data)], "seed": one.variables.get("seed", 0),
                                  "student": _seedless(pair.student), "data": _seedless(pair.data),
                                  "accuracy": facts["verdicts"].get("correct", 0) / facts["rows"]})  # fmt: skip
        import pandas as pd

        frame = pd.DataFrame(found, columns=["student", "seed", "data", *PREFERRED, "untrained", "accuracy"])
        return frame.groupby(["student", "seed", "data"], as_index=False).mean()

    @property
    def costs(self) -> dict[str, float]:
        """By stage, as in `STAGES`, its operations as a share of those of the whole training; means over the pairs."""
        from micota.costs.estimates import Costs
        from micota.stats import mean

        targets = [*self.recipe.names.values(), *(one.training for one in self.candidates.values())]
        costs, shares = Costs(self.store, self.machine, targets, whole=True), dict[str, float]()
        for stage in STAGES:
            found = []
            for word, one in self.candidates.items():
                spec = self.recipe.names.get(f"{stage}:{word}")
                work = costs.of(spec.completions if isinstance(spec, Verify) else spec).flops if spec else None
                whole = costs.of(one.training).flops
                found += [work.high / whole.high] if work and whole.high else []
            shares |= {stage: mean(found)} if found else {}
        return shares

    def _figures(self, word: str) -> dict[str, float]:
        facts = {stage: self._facts(f"{stage}:{word}") for stage in STAGES}
        measured, losses = facts["measured"], facts["trial"].get("held_out_loss")
        found = {name: measured[fact] for name, fact in MEASURED.items() if fact in measured}
        found |= {"tokens": measured["tokens"] / measured["rows"]} if measured else {}
        found |= {"trial_loss": losses[-1][1]} if losses else {}
        for stage in ("answers", "before"):
            if graded := facts[stage]:
                found |= {STAGES[stage][0]: graded["verdicts"].get("correct", 0) / graded["rows"]}
        return found

    def _facts(self, label: str) -> dict[str, Any]:
        spec = self.recipe.names.get(label)
        manifest = self.store.manifest(spec) if spec else None
        return dict(manifest.facts) if manifest else {}


def _seedless(label: str) -> str:
    """A label without the value of the variable `seed`."""
    return re.sub(r"(?<=[\[,])seed=[^,\]]*(,|(?=\]))", "", label).replace(",]", "]").replace("[]", "")


def as_recipe(student: Any, data_sets: Any, training: Mapping[str, Any]) -> Recipe:
    """Trainings of a student on data sets by name, as the arms of a recipe."""
    if isinstance(student, Recipe):
        raise MicotaError("a recipe has its own data", fix="leave the data sets out, or give a student")
    named = expected(data_sets, Mapping, "a mapping of names to training data", '{"long": long, "short": short}')
    return Recipe({word: train(student, data, **training) for word, data in named.items()}, name="python")


def candidates(recipe: Recipe, probe: Any, held_out: int | None, asked: Section) -> dict[str, Candidate]:
    """By the words of its arms, every pair of a student and a data set that a recipe trains, once.

    `probe` names the problems of the trials, `asked` how they are asked where the recipe evaluates nothing.
    """
    trained = {word: spec for word, spec in recipe.arms.items() if isinstance(spec, Train)}
    pairs = {(spec.base.digest, spec.data.digest): word for word, spec in reversed(trained.items())}
    if not pairs:
        raise MicotaError(f"'{recipe.name}' has no arm that is a `train`", fix="arms: {mine: {train: {...}}}")
    names, problems = labels(recipe), _probe(recipe, probe)
    found = {}
    for word, spec in trained.items():
        if pairs[spec.base.digest, spec.data.digest] == word:
            together = _together([one.data for one in trained.values() if one.base == spec.base])
            stages: dict[str, Spec] = {"measured": _measure(recipe, spec, together)}
            if held_out is not None:
                stages["trial"] = trial = shortened(spec, held_out)
                if problems:
                    stages["answers"] = _answers(recipe, spec, trial, problems, asked)
                    stages["before"] = _answers(recipe, spec, spec.base, problems, asked)
            found[word] = Candidate(name(names, spec.base), name(names, spec.data), spec, stages)
    return found


def shortened(spec: Train, held_out: int) -> Train:
    """A tenth of a training, with its own schedule; so many examples are held out of it."""
    shorter: dict[str, Any] = {"epochs": spec.epochs / TENTH}
    for field in ("max_steps", "target_tokens"):
        if value := getattr(spec, field):
            shorter = {field: -(-value // TENTH)}
    return spec.changed(**shorter, held_out=spec.held_out or held_out)


def _together(data: list[Data]) -> Data | None:
    """All data sets of a student in equal shares; None for one alone, or where their system messages differ."""
    distinct = {one.digest: one for one in data}
    if len(distinct) == 1 or len(frozenset().union(*(one.system_messages for one in data))) > 1:
        return None
    return Mix(parts=tuple(MixtureComponent(data=one, share=1 / len(distinct)) for one in distinct.values()))


def _measure(recipe: Recipe, spec: Train, together: Data | None) -> Bpc:
    """The measures of training data; how they are taken is what the recipe says of `measure`, where it does."""
    said = [one for one in recipe.measures.values() if one.model == spec.base]
    mine = [one for one in said if one.data == spec.data]
    fields: dict[str, Any] = {"precision": spec.precision, "template_kwargs": spec.template_kwargs}
    fields |= {"local": 2, "local_steps": 8} | ({"system": spec.system} if spec.system is not None else {})
    fields |= {"context": window} if (window := _window(spec.base)) else {}
    for one in (mine or said)[:1]:
        fields |= {
            key: value for key, value in one.stated.items() if key not in ("model", "data", "gradient", "system")
        }
    return build(Bpc, **{**fields, "rsr": True}, model=spec.base, data=spec.data, gradient=together)


def _window(student: Model) -> int | None:
    """The tokens of the longest text that a student has read: of the lab's by their design, else its positions."""
    found = student
    while not isinstance(found, Pretrain) and found.parents:
        found = found.parents[0]
    if isinstance(found, Source):
        found = DESIGNS.get(found.ref.removeprefix("lab:"), found)
    if isinstance(found, Pretrain):
        return found.window
    shape = shapes.shape(student)
    return shape.context if shape else None


def _answers(recipe: Recipe, spec: Train, model: Model, probe: Problems, asked: Section) -> Verify:
    """The model's verified answers to the probe problems, asked and graded as those of the arm itself."""
    own = [one.spec for one in recipe.evaluations if one.spec.completions.model == spec and one.spec.judged is None]
    if not own:
        return evaluation(model, probe, **{"precision": spec.precision, **asked})
    completions = own[0].completions.changed(model=model, problems=probe)
    return build(Verify, problems=probe, completions=completions, by=own[0].by, grader=own[0].grader)


def _probe(recipe: Recipe, probe: Any) -> Problems | None:
    """The problems of the trials: those that were named, else those of a length dial; never those that the arms learn
    from or are evaluated on."""
    dials = [spec.probe.problems for spec in walk(*recipe.targets) if isinstance(spec, LengthDial)]
    if probe is None and not dials:
        return None
    problems = dials[0] if probe is None else _named(recipe, probe)
    trained = [spec.data for spec in recipe.arms.values() if isinstance(spec, Train)]
    for used, how in (([one.problems for one in recipe.evaluations], "evaluated"), (trained, "trained")):
        if any(share_rows(problems, one) for spec in used for one in _problems(spec)):
            raise MicotaError(
                f"the probe has problems that the arms are {how} on",
                why="chosen data would look too good",
                fix="name other problems as the probe, such as those behind them (`skip`)",
            )
    return problems


def _named(recipe: Recipe, probe: Any) -> Problems:
    """A problem set of the recipe by its name, or what else names one."""
    sets = {word: spec for word, spec in recipe.names.items() if isinstance(spec, Problems)}
    if isinstance(probe, str) and probe in sets:
        return sets[probe]
    try:
        return as_problems(probe)
    except MicotaError as error:
        if isinstance(probe, str) and sets:
            raise MicotaError(error.what, fix=suggestion(probe, sets)) from None
        raise


def _problems(spec: Spec) -> Iterator[Problems]:
    """The problems that rows answer; not those by which the models that wrote them came to be."""
    if isinstance(spec, Problems):
        yield spec
    for child in spec.children:
        if not isinstance(child, Model):
            yield from _problems(child)
