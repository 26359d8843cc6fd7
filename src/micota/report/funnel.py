"""From problems to training: what was asked, answered, dropped and why, selected, mixed, and learnt from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from micota.recipe.labels import everything, labels, name
from micota.report.cells import Column, count, number, percent, table, words
from micota.report.graded_answers import GradedAnswers
from micota.report.page import MISSING, Cell, Table
from micota.specs import Mix, MixtureComponent, Pretrain, Problems, RejectionSampling, Select, SftData, Spec, Train

REASONS = ("truncated", "filtered", "too_long", "wrong", "no_answer", "unverifiable", "empty", "duplicate")
OVERLAPS = ("duplicates", "conflicting", "in_other_sets")


class Stage(NamedTuple):
    """A stage of the recipe with its names; `facts` are empty where it is missing."""

    spec: Any
    names: Mapping[str, str]
    facts: Mapping[str, Any]

    def named(self, spec: Spec) -> str:
        """The name that the recipe's author knows a spec by."""
        return name(dict(self.names), spec)


def stages(results: GradedAnswers, *kinds: type[Spec]) -> list[Stage]:
    """The stages of some kinds, in the order of making."""
    names = labels(results.recipe)
    found = [spec for spec in everything(results.recipe) if isinstance(spec, kinds)]
    return [Stage(spec, names, results.facts(spec)) for spec in found]


def known(head: str, cell: Callable[[Stage], Cell]) -> Column[Stage]:
    """A column of what only a finished stage can say."""
    return Column(head, lambda one: cell(one) if one.facts else MISSING)


def counted(head: str, fact: str) -> Column[Stage]:
    """A column of a fact that is a number."""
    return Column(head, lambda one: count(one.facts.get(fact)))


def problems(results: GradedAnswers) -> tuple[Table, ...]:
    """The problem sets: how many, and what was dropped or found elsewhere."""
    columns = [
        words("Problems", lambda one: one.named(one.spec)),
        words("Source", lambda one: ", ".join(filter(None, (one.spec.source.ref, one.spec.split)))),
        counted("Kept", "problems"),
        *(counted(fact.replace("_", " ").capitalize(), fact) for fact in OVERLAPS),
    ]
    return table("problems", columns, stages(results, Problems), word_columns=2)


def data(results: GradedAnswers) -> tuple[Table, ...]:
    """The funnel of each data set: problems, answers, every reason of a drop, what was selected."""
    found = stages(results, Select, RejectionSampling, SftData)
    dropped = {reason for one in found for reason in one.facts.get("dropped", {})}
    reasons = [one for one in REASONS if one in dropped] + sorted(dropped - set(REASONS))
    columns = [
        words("Data", lambda one: one.named(one.spec)),
        words("Written by", _writer),
        Column("Problems", lambda one: count(_below(results, one, "problems"))),
        Column("Answers", lambda one: count(_below(results, one, "answers"))),
        *(known(reason.replace("_", " "), _dropped(reason)) for reason in reasons),
        counted("Kept", "kept"),
        known("Yield", lambda one: percent(one.facts["kept"] / one.facts["answers"])),
        known("Mean tokens kept", lambda one: number(one.facts.get("mean_tokens", math.nan))),
    ]
    return table("funnel", columns, found, word_columns=2)


def _writer(one: Stage) -> str:
    return "made elsewhere" if isinstance(one.spec, SftData) else one.named(one.spec.completions.model)


def _below(results: GradedAnswers, one: Stage, fact: str) -> int | None:
    """How many problems or answers a data set began with; also of one that is missing, where they are there."""
    if fact in one.facts or isinstance(one.spec, SftData):
        return one.facts.get(fact)
    completions = one.spec.completions
    return results.facts(completions.problems if fact == "problems" else completions).get(
        "problems" if fact == "problems" else "rows"
    )


def _dropped(reason: str) -> Callable[[Stage], Cell]:
    return lambda one: count(one.facts["dropped"].get(reason, 0))


class Component(NamedTuple):
    """One part of a mixture: how many examples it gave; nan where the mixture is missing."""

    mixture: Stage
    part: MixtureComponent
    examples: float


def mixtures(results: GradedAnswers) -> tuple[Table, ...]:
    """The mixtures: how many examples of each part."""
    found = [
        Component(one, part, n)
        for one in stages(results, Mix)
        for part, n in zip(one.spec.parts, one.facts.get("parts", [math.nan] * len(one.spec.parts)), strict=True)
    ]
    columns: list[Column[Component]] = [
        words("Mixture", lambda one: one.mixture.named(one.mixture.spec)),
        words("Part", lambda one: one.mixture.named(one.part.data)),
        Column("Examples", lambda one: count(one.examples)),
        Column("Share", lambda one: percent(one.part.share)),
        Column("Of", lambda one: count(one.mixture.facts.get("rows"))),
    ]
    return table("mixtures", columns, found, word_columns=2)


def trainings(results: GradedAnswers) -> tuple[Table, ...]:
    """The trainings: examples, steps, and how many target tokens were learnt from."""
    columns = [
        words("Model", lambda one: one.named(one.spec)),
        words("Base", lambda one: one.named(one.spec.base) if one.spec.base else MISSING.text),
        words("Data", _learnt),
        counted("Examples", "examples"),
        known("Too long", lambda one: count(one.facts.get("dropped", {"too_long": None}).get("too_long", 0))),
        counted("Steps", "steps"),
        known("Batch", lambda one: count(one.spec.batch) if isinstance(one.spec, Train) else MISSING),
        counted("Target tokens", "target_tokens"),
        counted("Learnt", "learnt_tokens"),
        known("Last loss", lambda one: number(_last(one), ".3f")),
    ]
    return table("trainings", columns, stages(results, Train, Pretrain), word_columns=3)


def _learnt(one: Stage) -> str:
    if isinstance(one.spec, Pretrain):
        return ", ".join(dict.fromkeys(phase.style for phase in one.spec.phases))
    return one.named(one.spec.data)


def _last(one: Stage) -> float:
    return float(one.facts["loss"] if isinstance(one.spec, Pretrain) else one.facts["final_loss"])
