"""The map of a recipe with the variable `length`: what each student reaches after chains of each length.

Rows are the students, told apart by the variables that the baseline depends on; panels are the arms and all other
variables, such as who wrote the chains. The unit is the seed.
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from micota.recipe.labels import learnt_from
from micota.report.cells import Row, between, count, number, percent, points, table
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import NUMBER, Model, heading, models, scorers
from micota.report.page import Table
from micota.stats import Estimate, interval, mean

LENGTH = "length"
FEWEST = 3  # lengths that make a map
DRAWS = 2_000
Seeds = Mapping[Hashable, float]
"""A figure in [0, 1] for each seed."""


@dataclass(frozen=True)
class Student:
    """A row of the map: accuracies of one student by seed, before training and after chains of each length.

    Only seeds of which everything is there are kept, so that all differences are paired.
    """

    name: str
    variables: Mapping[str, str]
    before: Seeds
    after: Mapping[float, Seeds]

    @cached_property
    def seeds(self) -> list[Hashable]:
        """The seeds that the baseline and all lengths have."""
        return [seed for seed in self.before if all(seed in reached for reached in self.after.values())]

    def reached(self, length: float, seeds: Sequence[Hashable] | None = None) -> float:
        """The mean accuracy after chains of a length; nan without seeds."""
        return mean([self.after[length][seed] for seed in (self.seeds if seeds is None else seeds)])

    def gain(self, length: float, other: float | None = None) -> Estimate:
        """What chains of a length give over those of another, or over no training: t interval over seeds."""
        below = self.before if other is None else self.after[other]
        return interval([self.after[length][seed] - below[seed] for seed in self.seeds])

    def best(self, seeds: Sequence[Hashable] | None = None) -> float:
        """The length after which the mean accuracy is highest; of equal ones the shortest."""
        return max(self.after, key=lambda length: (self.reached(length, seeds), -length))

    @cached_property
    def ridge(self) -> Estimate:
        """The best length, and where it lies in 95 % of the resamples of the seeds (2,000, drawn with replacement)."""
        dice, n = random.Random(0), len(self.seeds)
        found = sorted(self.best(dice.choices(self.seeds, k=n)) for _ in range(DRAWS if n > 1 else 0))
        low, high = (found[int(share * (DRAWS - 1))] for share in (0.025, 0.975)) if found else (float("nan"),) * 2
        return Estimate(self.best(), low=low, high=high, n=n)


@dataclass(frozen=True)
class Panel:
    """All students under one arm and one value of every other variable; `tokens` is the mean length of the chains."""

    title: str
    tokens: Mapping[float, float]
    students: Sequence[Student]

    @property
    def lengths(self) -> list[float]:
        """The columns: every length, in order."""
        return sorted({length for student in self.students for length in student.after})


@lru_cache(maxsize=1)
def panels(results: GradedAnswers) -> list[Panel]:
    """The panels of the map, in the recipe's order; none where no arm has at least three lengths."""
    every = models(results)
    bases = {tuple(one.variables.items()): one for one in every if one.word == results.recipe.baseline}
    own = {name for pairs in bases for name, _ in pairs}
    found: defaultdict[str, defaultdict[str, dict[float, Model]]] = defaultdict(lambda: defaultdict(dict))
    for model in every:
        length = model.variables.get(LENGTH, "")
        if model.arm and NUMBER.fullmatch(length) and LENGTH not in own:
            rest = {name: value for name, value in model.variables.items() if name not in own | {LENGTH}}
            title = ", ".join(filter(None, (heading(rest), model.title)))
            found[title][heading(_part(model, own))][float(length)] = model
    read = ((title, _students(results, rows, bases, own), _tokens(results, rows)) for title, rows in found.items())
    return [Panel(title, tokens, students) for title, students, tokens in read if len(tokens) >= FEWEST and students]


def _part(model: Model, names: set[str]) -> dict[str, str]:
    return {name: value for name, value in model.variables.items() if name in names}


def _students(
    results: GradedAnswers,
    rows: Mapping[str, Mapping[float, Model]],
    bases: Mapping[tuple[tuple[str, str], ...], Model],
    own: set[str],
) -> list[Student]:
    """The students of a panel of which at least one seed is whole."""
    by, students = scorers(results)[0], []
    for name, of_length in rows.items():
        variables = _part(next(iter(of_length.values())), own)
        if base := bases.get(tuple(variables.items())):
            after = {length: model.over_seeds(model.sets, "correct", by) for length, model in of_length.items()}
            student = Student(name, variables, base.over_seeds(base.sets, "correct", by), after)
            students += [student] if student.seeds else []
    return students


def _tokens(results: GradedAnswers, rows: Mapping[str, Mapping[float, Model]]) -> dict[float, float]:
    """How long the chains are that were learnt, in tokens, by the lengths that were asked for."""
    found: defaultdict[float, list[float]] = defaultdict(list)
    for length, model in (pair for of_length in rows.values() for pair in of_length.items()):
        learnt = [data for cell, _ in model.cells if (data := learnt_from(cell.spec.completions.model))]
        found[length] += [facts["mean_tokens"] for data in learnt if "mean_tokens" in (facts := results.facts(data))]
    return {length: mean(tokens) for length, tokens in found.items()}


def ridges(results: GradedAnswers) -> tuple[Table, ...]:
    """For each student and panel: the best length with its interval, what it gives, and what the longest chains do."""
    rows = []
    for panel, student in _each(results):
        best, longest = student.ridge, max(student.after)
        over, harm = student.gain(best.value), student.gain(longest)
        cells = {
            "Student": student.name,
            "Before": percent(mean([student.before[seed] for seed in student.seeds])),
            "Best length": number(best.value, "g"),
            "95 % of resamples": between(best.low, best.high, 1, "g"),
            "Accuracy there": percent(student.reached(best.value)),
            "Over before": points(over.value),
            "95 % interval": between(over.low, over.high),
            f"Longest ({longest:g}), over before": points(harm.value),
            "95 % of that": between(harm.low, harm.high),
            "Seeds": count(len(student.seeds)),
        }
        rows.append(Row(cells, panel.title))
    return table("ridges", rows)


def moves(results: GradedAnswers) -> tuple[Table, ...]:
    """How far the best length moves from the lowest to the highest value of each variable of the students."""
    rows = []
    for panel in panels(results):
        for name in panel.students[0].variables:
            if (found := moved(panel.students, name)) is not None:
                low, high, by = found
                cells = {"From": f"{name}={low:g}", "To": f"{name}={high:g}", "Moves by": number(by.value, "+.2f")}
                cells |= {"95 % interval": between(by.low, by.high, 1, "+.2f"), "Seeds": count(by.n)}
                rows.append(Row(cells, panel.title))
    return table("moves", rows, words=2)


def moved(students: Sequence[Student], name: str) -> tuple[float, float, Estimate] | None:
    """The lowest and highest value of a variable, and by how much each seed's best length moves between them.

    Students that differ in nothing else are paired, and their differences averaged within a seed; t interval over
    seeds. None where the variable is no number or has one value.
    """
    numbers = [student.variables.get(name, "") for student in students]
    values = sorted({float(number) for number in numbers if NUMBER.fullmatch(number)})
    if len(values) < 2:
        return None
    ends = [[one for one in students if float(one.variables[name]) == end] for end in (values[0], values[-1])]
    pairs = [(a, b) for a, b in itertools.product(*ends) if _others(a, name) == _others(b, name)]
    common = set.intersection(*({*one.seeds} for pair in pairs for one in pair)) if pairs else set()
    by_seed = [mean([b.best([seed]) - a.best([seed]) for a, b in pairs]) for seed in sorted(common, key=str)]
    return (values[0], values[-1], interval(by_seed)) if by_seed else None


def _others(student: Student, name: str) -> dict[str, str]:
    return {other: value for other, value in student.variables.items() if other != name}


def _each(results: GradedAnswers) -> Iterator[tuple[Panel, Student]]:
    return ((panel, student) for panel in panels(results) for student in panel.students)
