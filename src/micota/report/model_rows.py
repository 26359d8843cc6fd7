"""Models as the tables show them: answers pooled over seeds, and two models compared on what both answered."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from micota.recipe.recipe import Evaluation
from micota.report.drawing import NEUTRAL, colour
from micota.report.graded_answers import GradedAnswers
from micota.report.roles import PROCEDURE, ROLES, SCORERS, TOKENS, procedure_roles, role_of, title_of
from micota.specs import Spec
from micota.stats import Estimate, Observed, differences, interval, mean, proportion

if TYPE_CHECKING:
    from pandas import DataFrame

Seed = Hashable
NO_ROLE_TO_TRAIN = (*PROCEDURE, "instruct")
NUMBER = re.compile(r"[-+.0-9eE]+|True|False|None")


@dataclass(frozen=True, eq=False)
class Model:
    """One row of the tables: a model in one combination of variables, all its seeds together.

    `word` is the recipe's, `role` one of ROLES or "", `variables` all but the seed; `matched` says how arms are made
    comparable, `steps` or `tokens`; `cells` are its evaluations, each with its rows of the frame, none where it is
    missing.
    """

    word: str
    role: str
    title: str
    arm: bool
    matched: str
    colour: str
    variables: Mapping[str, str]
    cells: tuple[tuple[Evaluation, DataFrame], ...]
    _known: dict[Any, Observed] = field(default_factory=dict, repr=False)

    @property
    def group(self) -> str:
        """The values of the variables as a heading; "" without any."""
        return heading(self.variables)

    @property
    def spec(self) -> Spec:
        """The model itself; of several seeds the first."""
        return self.cells[0][0].spec.completions.model

    @property
    def sets(self) -> list[str]:
        """The recipe's words for the problem sets that it is evaluated on."""
        return list(dict.fromkeys(evaluation.data_word for evaluation, _ in self.cells))

    def benchmarks(self, sets: Iterable[str]) -> list[str | None]:
        """The benchmark that each of these problem sets is as a whole, None of another."""
        asked = {evaluation.data_word: evaluation.problems for evaluation, _ in self.cells}
        whole = (asked.get(data) for data in sets)
        return [one.benchmark if one and one.n is None and not one.skip else None for one in whole]

    def of(self, data: str) -> list[tuple[Evaluation, DataFrame]]:
        """Its cells of one problem set."""
        return [cell for cell in self.cells if cell[0].data_word == data]

    def observed(self, data: str, measure: str, by: str | None = None) -> Observed:
        """The mean of a measure over the samples of each (seed, problem); under any scorer with `by` None.

        A measure is a column of numbers (`tokens`, `truncated`, `repetitive`) or a verdict, for its share in [0, 1].
        """
        if (data, measure, by) not in self._known:
            self._known[data, measure, by] = self._observe(data, measure, by)
        return self._known[data, measure, by]

    def _observe(self, data: str, measure: str, by: str | None) -> Observed:
        values_of: defaultdict[tuple[Seed, str], list[float]] = defaultdict(list)
        seen: set[Seed] = set()
        for evaluation, rows in self.of(data):
            seed = evaluation.variables.get("seed")
            if len(rows) and by in (None, evaluation.spec.by) and seed not in seen:
                seen.add(seed)
                values = rows[measure] if measure in rows else rows["verdict"] == measure
                for key, value in zip(rows["problem"], values.tolist(), strict=True):
                    values_of[seed, key].append(value)
        return {pair: mean(values) for pair, values in values_of.items()}

    def estimate(self, sets: Iterable[str], measure: str, by: str | None = None) -> Estimate:
        """The mean over problems, seeds pooled, then the unweighted mean over the sets; nan if one is missing."""
        estimate = proportion if measure == "correct" else interval
        return estimate(*(by_problem(self.observed(data, measure, by)) for data in sets))

    def over_seeds(self, sets: Iterable[str], measure: str, by: str | None = None) -> dict[Seed, float]:
        """The mean of a measure for each seed that has all the sets."""
        return each_seed([self.observed(data, measure, by) for data in sets])

    def seeds(self, data: str) -> str:
        """How many seeds are there: `3`, or `2 of 3` where some are missing."""
        wanted = {evaluation.variables.get("seed") for evaluation, _ in self.of(data)}
        there = {evaluation.variables.get("seed") for evaluation, rows in self.of(data) if len(rows)}
        return str(len(wanted)) if there == wanted else f"{len(there)} of {len(wanted)}"


def by_problem(observed: Observed) -> list[float]:
    """One figure for each problem: the mean over its seeds."""
    return differences(observed, observed, 0.0)


def each_seed(sets: Iterable[Observed]) -> dict[Seed, float]:
    """For each seed the unweighted mean over sets of the mean over problems; only seeds that are in every set."""
    means: list[dict[Seed, float]] = []
    for observed in sets:
        of_seed: defaultdict[Seed, list[float]] = defaultdict(list)
        for (seed, _), value in observed.items():
            of_seed[seed].append(value)
        means.append({seed: mean(values) for seed, values in of_seed.items()})
    common = [seed for seed in means[0] if all(seed in of_set for of_set in means)] if means else []
    return {seed: mean([of_set[seed] for of_set in means]) for seed in common}


@lru_cache(maxsize=1)
def models(results: GradedAnswers) -> list[Model]:
    """The rows of the tables, in the recipe's order."""
    recipe = results.recipe
    cells: defaultdict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[Evaluation, DataFrame]]] = defaultdict(list)
    for evaluation, rows in zip(recipe.evaluations, results.parts, strict=True):
        variables = {name: str(value) for name, value in evaluation.variables.items() if name != "seed"}
        cells[evaluation.role, tuple(variables.items())].append((evaluation, rows))
    procedure = procedure_roles(recipe)
    neutral = [word for word in recipe.titles if word not in recipe.roles]
    rows_of: list[Model] = []
    for (word, pairs), inside in cells.items():
        role = role_of(recipe, word) or procedure.get(inside[0][0].spec.completions.model.digest, "")
        competes = word in recipe.titles and role not in PROCEDURE
        title = title_of(recipe, word) if role not in PROCEDURE else recipe.titles.get(word) or ROLES[role]
        matched = "tokens" if recipe.roles.get(word, "").endswith(TOKENS) else "steps"
        own = NEUTRAL[neutral.index(word) % len(NEUTRAL)] if word in neutral and competes else colour(role)
        rows_of.append(Model(word, role, title, competes, matched, own, dict(pairs), tuple(inside)))
    return rows_of


def from_baseline(results: GradedAnswers) -> list[tuple[Model, Model, str]]:
    """Every model with its baseline, once for each combination of variables that tells them apart: the heading."""
    every, word = models(results), results.recipe.baseline
    pairs: dict[tuple[Model, Model], str] = {}
    for variables in groups(model.variables for model in every):
        inside = [model for model in every if model.variables.items() <= variables.items()]
        base = max((one for one in inside if one.word == word), key=lambda one: len(one.variables), default=None)
        for model in inside if base else ():
            if base and model.word != word:
                pairs.setdefault((model, base), heading({**model.variables, **base.variables}))
    return [(model, base, words) for (model, base), words in pairs.items()]


def sets_of(every: Iterable[Model]) -> list[str]:
    """The problem sets that any of the models is evaluated on, in the recipe's order."""
    return list(dict.fromkeys(data for model in every for data in model.sets))


def scorers(results: GradedAnswers) -> list[str]:
    """The scorers of the evaluations: exact match first, where it is there, since it is the paper's."""
    names = dict.fromkeys(evaluation.spec.by for evaluation in results.recipe.evaluations)
    return sorted(names, key=lambda by: by != "exact_match")


def scorer_title(by: str) -> str:
    """What a scorer is called within a sentence; one of the user's own by its name."""
    return SCORERS.get(by, by)


def scored(column: str, by: str, every: Sequence[str]) -> str:
    """A column's head, with its scorer where there are several."""
    return f"{column}, {scorer_title(by)}" if len(every) > 1 else column


def heading(variables: Mapping[str, str]) -> str:
    """The values of variables, for a heading; a number alone says nothing, so its variable stands before it."""
    return ", ".join(f"{name}={value}" if NUMBER.fullmatch(value) else value for name, value in variables.items())


def groups(variables: Iterable[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The combinations of variables in which models are compared: those that no other one contains."""
    every = list(variables)
    wide = [group for group in every if not any(group.items() < another.items() for another in every)]
    return [group for i, group in enumerate(wide) if group not in wide[:i]]


def within(every: Sequence[Model]) -> list[tuple[str, list[Model]]]:
    """The models of each combination of variables, those that depend on none of them included, with its name."""
    return [
        (heading(group), [model for model in every if model.variables.items() <= group.items()])
        for group in groups(model.variables for model in every)
    ]


def find(every: Iterable[Model], role: str, variables: Mapping[str, str], matched: str = "steps") -> Model | None:
    """The model of a role that belongs to a combination of variables: of several the one that depends on most.

    What is not trained as an arm, such as Instruct, is the same however the arms are matched.
    """
    fitting = [model for model in every if model.role == role and model.variables.items() <= variables.items()]
    matching = [model for model in fitting if model.matched == matched or role in NO_ROLE_TO_TRAIN]
    return max(matching, key=lambda model: len(model.variables), default=None)


def matches(every: list[Model], role: str, base: str, matched: str = "steps") -> list[tuple[Model, Model, str]]:
    """The pairs of two roles, one for each combination of variables that tells them apart, with its heading."""
    pairs: dict[tuple[Model, Model], str] = {}
    for variables in groups(model.variables for model in every):
        model, other = find(every, role, variables, matched), find(every, base, variables, matched)
        if model and other:
            pairs.setdefault((model, other), heading({**model.variables, **other.variables}))
    return [(model, other, words) for (model, other), words in pairs.items()]


@dataclass(frozen=True)
class Pair:
    """Two models on the problem sets that both have answered, of the `wanted` ones: what both came to on each."""

    wanted: int
    observed: Sequence[tuple[Observed, Observed]]

    @property
    def coverage(self) -> str:
        """How many problem sets both have answered: `5`, or `3 of 5`."""
        there = len(self.observed)
        return str(there) if there == self.wanted else f"{there} of {self.wanted}"

    @property
    def means(self) -> tuple[float, float]:
        """What each of the two came to there, the unweighted mean over the sets."""
        first, second = zip(*self.observed, strict=True) if self.observed else ((), ())
        return interval(*map(by_problem, first)).value, interval(*map(by_problem, second)).value

    def each_seed(self) -> list[tuple[float, float]]:
        """The two means of each seed; empty unless at least one of the two has seeds."""
        first, second = each_seed([a for a, _ in self.observed]), each_seed([b for _, b in self.observed])
        return [(first[seed], second[seed]) for seed in first if seed in second and seed is not None]


def pair(a: Model, b: Model, measure: str, by: str | None = None) -> Pair:
    """Two models on the (seed, problem) pairs of both; one without seeds meets each seed of the other."""
    wanted = [data for data in a.sets if data in b.sets]
    observed = []
    for data in wanted:
        first, second = a.observed(data, measure, by), b.observed(data, measure, by)
        first, second = spread(first, second), spread(second, first)
        if common := first.keys() & second.keys():
            both = ({key: side[key] for key in side if key in common} for side in (first, second))
            observed.append((next(both), next(both)))
    return Pair(len(wanted), observed)


def spread(observed: Observed, other: Observed) -> Observed:
    """What has no seeds, repeated for each seed of the other."""
    seeds = dict.fromkeys(seed for seed, _ in other)
    if any(seed is not None for seed, _ in observed) or not seeds:
        return observed
    return {(seed, key): value for seed in seeds for (_, key), value in observed.items()}
