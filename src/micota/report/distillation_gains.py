"""Table 1: what fine-tuning on a model's chains of thought changes, for the assistant and for the student."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from micota.report import paper
from micota.report.accuracy import RUNAWAYS
from micota.report.cells import Column, between, count, percent, points, table, words
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, Pair, find, matches, models, pair, scored, scorers
from micota.report.page import Cell, Table
from micota.report.texts import text
from micota.stats import Estimate, paired, relative_gain

CHANGES = (
    ("Assistant: teacher CoT", "ta_long", "ta"),
    ("Student: teacher CoT", "strong", "instruct"),
    ("Student: assistant CoT", "half", "instruct"),
    ("Student: MiCoTA", "micota", "instruct"),
)
GAINS = (("MiCoTA over Instruct", "micota", "instruct"), ("MiCoTA over Strong Teacher CoT", "micota", "strong"))


@dataclass(frozen=True)
class Change:
    """A model after fine-tuning beside what it was before, or beside another one."""

    name: str
    after: Model
    before: Model
    group: str
    scorers: tuple[str, ...]

    @cached_property
    def pairs(self) -> Mapping[str, Pair]:
        """Both models' correct answers, by scorer."""
        return {by: pair(self.after, self.before, "correct", by) for by in self.scorers}

    @cached_property
    def deltas(self) -> Mapping[str, Estimate]:
        """Accuracy after minus accuracy before, by scorer."""
        return {by: paired(*both.observed) for by, both in self.pairs.items()}

    @cached_property
    def gains(self) -> Mapping[str, Estimate]:
        """Accuracy after over accuracy before, minus 1, by scorer."""
        return {by: relative_gain(*both.observed) for by, both in self.pairs.items()}

    @property
    def variables(self) -> Mapping[str, str]:
        """Of both models."""
        return {**self.after.variables, **self.before.variables}


def changes(results: GradedAnswers) -> tuple[Table, ...]:
    """Delta = accuracy after minus accuracy before, in points, under each scorer."""
    by, found = scorers(results), models(results)
    columns: list[Column[Change]] = [words("Change", lambda one: one.name)]
    for scorer in by:
        columns += [Column(scored(head, scorer, by), _delta(scorer, cell)) for head, cell in DELTA.items()]
    columns += [Column(head, _runaways(measure)) for head, measure in RUNAWAYS]
    columns += [
        Column("n", lambda one: count(one.deltas[by[0]].n or None)),
        words("Sets", lambda one: one.pairs[by[0]].coverage),
        words("Paper", lambda one: _beside(found, one)),
    ]
    return _table("table1", columns, _changes(found, CHANGES, by))


def gains(results: GradedAnswers) -> tuple[Table, ...]:
    """Relative gains as the paper's abstract counts them, in percent."""
    by = scorers(results)
    columns: list[Column[Change]] = [words("Compared", lambda one: one.name)]
    for scorer in by:
        columns += [Column(scored(head, scorer, by), _gain(scorer, cell)) for head, cell in GAIN.items()]
    columns += [
        Column("n", lambda one: count(one.gains[by[0]].n or None)),
        words("Sets", lambda one: one.pairs[by[0]].coverage),
        words("Paper", lambda one: paper.gain(one.after.role, one.before.role, one.after.spec)),
    ]
    return _table("table1b", columns, _changes(models(results), GAINS, by))


def _table(key: str, columns: list[Column[Change]], found: Iterable[Change]) -> tuple[Table, ...]:
    return table(key, columns, found, group=lambda one: one.group, where=text("paired"), runaways=text("runaways"))


def _changes(found: list[Model], wanted: Iterable[tuple[str, str, str]], by: list[str]) -> list[Change]:
    return [
        Change(name, one, two, over, tuple(by))
        for name, role, base in wanted
        for one, two, over in matches(found, role, base)
    ]


DELTA: dict[str, Callable[[Estimate, Pair], Cell]] = {
    "Before": lambda delta, both: percent(both.means[1]),
    "After": lambda delta, both: percent(both.means[0]),
    "Delta": lambda delta, both: points(delta.value),
    "± s.e.": lambda delta, both: percent(delta.error),
    "95 % interval": lambda delta, both: between(delta.low, delta.high),
}
GAIN: dict[str, Callable[[Estimate], Cell]] = {
    "Gain": lambda gain: points(gain.value),
    "95 % interval": lambda gain: between(gain.low, gain.high),
}


def _delta(by: str, cell: Callable[[Estimate, Pair], Cell]) -> Callable[[Change], Cell]:
    return lambda one: cell(one.deltas[by], one.pairs[by])


def _gain(by: str, cell: Callable[[Estimate], Cell]) -> Callable[[Change], Cell]:
    return lambda one: cell(one.gains[by])


def _runaways(measure: str) -> Callable[[Change], Cell]:
    """A share before and after."""

    def cell(one: Change) -> Cell:
        after, before = (percent(value).text for value in pair(one.after, one.before, measure).means)
        return Cell(f"{before} → {after}")

    return cell


def _beside(found: list[Model], one: Change) -> str:
    teacher = find(found, "teacher", one.variables)
    return paper.change(one.after.role, one.before.role, one.after.spec, teacher.spec if teacher else None)
