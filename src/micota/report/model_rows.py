"""Models as the tables show them: answers pooled over seeds, and two models compared on what both answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from micota.recipe.recipe import Evaluation
from micota.report.graded_answers import GradedAnswers
from micota.report.roles import PROCEDURE, ROLES, SCORERS, arm_of, procedure_roles
from micota.specs import Spec
from micota.stats import Estimate, Observed, differences, interval, mean

if TYPE_CHECKING:
    from pandas import DataFrame

Seed = Hashable
NO_ROLE_TO_TRAIN = (*PROCEDURE, "instruct")


@dataclass(frozen=True, eq=False)
class Model:
    """One row of the tables: a model in one combination of variables, all its seeds together.

    `word` is the recipe's, `role` one of ROLES or that word, `variables` all but the seed; `cells` are its evaluations,
    each with its rows of the frame, none where it is missing.
    """

    word: str
    role: str
    title: str
    arm: bool
    variables: Mapping[str, str]
    cells: tuple[tuple[Evaluation, DataFrame], ...]
    _known: dict[Any, Observed] = field(default_factory=dict, repr=False)

    @property
    def group(self) -> str:
        """The values of the variables as a heading; "" without any."""
        return ", ".join(self.variables.values())

    @property
    def matched(self) -> str:
        """How arms are made comparable: `steps` or `tokens`."""
        return "steps" if arm_of(self.word) == self.word else "tokens"

    @property
    def spec(self) -> Spec:
        """The model itself; of several seeds the first."""
        return self.cells[0][0].spec.completions.model

    @property
    def sets(self) -> list[str]:
        """The recipe's words for the problem sets that it is evaluated on."""
        return list(dict.fromkeys(one.data_word for one, _ in self.cells))

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
        found: defaultdict[tuple[Seed, str], list[float]] = defaultdict(list)
        seen: set[Seed] = set()
        for one, rows in self.of(data):
            seed = one.variables.get("seed")
            if len(rows) and by in (None, one.spec.by) and seed not in seen:
                seen.add(seed)
                values = rows[measure] if measure in rows else rows["verdict"] == measure
                for key, value in zip(rows["problem"], values.tolist(), strict=True):
                    found[seed, key].append(value)
        return {pair: mean(values) for pair, values in found.items()}

    def estimate(self, sets: Iterable[str], measure: str, by: str | None = None) -> Estimate:
        """The mean over problems, seeds pooled, then the unweighted mean over the sets; nan if one is missing."""
        return interval(*(by_problem(self.observed(data, measure, by)) for data in sets))

    def over_seeds(self, sets: Iterable[str], measure: str, by: str | None = None) -> dict[Seed, float]:
        """The mean of a measure for each seed that has all the sets."""
        return each_seed([self.observed(data, measure, by) for data in sets])

    def seeds(self, data: str) -> str:
        """How many seeds are there: `3`, or `2 of 3` where some are missing."""
        wanted = {one.variables.get("seed") for one, _ in self.of(data)}
        there = {one.variables.get("seed") for one, rows in self.of(data) if len(rows)}
        return str(len(wanted)) if there == wanted else f"{len(there)} of {len(wanted)}"


def by_problem(observed: Observed) -> list[float]:
    """One figure for each problem: the mean over its seeds."""
    return differences(observed, observed, 0.0)


def each_seed(sets: Iterable[Observed]) -> dict[Seed, float]:
    """For each seed the unweighted mean over sets of the mean over problems; only seeds that are in every set."""
    found: list[dict[Seed, float]] = []
    for observed in sets:
        of_seed: defaultdict[Seed, list[float]] = defaultdict(list)
        for (seed, _), value in observed.items():
            of_seed[seed].append(value)
        found.append({seed: mean(values) for seed, values in of_seed.items()})
    common = [seed for seed in found[0] if all(seed in one for one in found)] if found else []
    return {seed: mean([one[seed] for one in found]) for seed in common}


@lru_cache(maxsize=1)
def models(results: GradedAnswers) -> list[Model]:
    """The rows of the tables, in the recipe's order."""
    cells: defaultdict[tuple[str, tuple[tuple[str, str], ...]], list[tuple[Evaluation, DataFrame]]] = defaultdict(list)
    for one, rows in zip(results.recipe.evaluations, results.parts, strict=True):
        variables = tuple(sorted((name, str(value)) for name, value in one.variables.items() if name != "seed"))
        cells[one.role, variables].append((one, rows))
    procedure = procedure_roles(results.recipe)
    return [_model(results, procedure, word, found) for (word, _), found in cells.items()]


def _model(
    results: GradedAnswers, procedure: Mapping[str, str], word: str, cells: list[tuple[Evaluation, DataFrame]]
) -> Model:
    first = cells[0][0]
    arm = arm_of(word)
    role = arm if arm in ROLES else procedure.get(first.spec.completions.model.digest, word)
    return Model(
        word=word,
        role=role,
        title=results.recipe.titles.get(word) or ROLES.get(role, word),
        arm=role not in PROCEDURE and (role in ROLES or word in results.recipe.titles),
        variables={name: str(value) for name, value in first.variables.items() if name != "seed"},
        cells=tuple(cells),
    )


def sets_of(found: Iterable[Model]) -> list[str]:
    """The problem sets that any of the models is evaluated on, in the recipe's order."""
    return list(dict.fromkeys(data for one in found for data in one.sets))


def scorers(results: GradedAnswers) -> list[str]:
    """The scorers of the evaluations: exact match first, where it is there, since it is the paper's."""
    found = dict.fromkeys(one.spec.by for one in results.recipe.evaluations)
    return sorted(found, key=lambda by: by != "exact_match")


def scorer_title(by: str) -> str:
    """What a scorer is called within a sentence; one of the user's own by its name."""
    return SCORERS.get(by, by)


def scored(column: str, by: str, every: Sequence[str]) -> str:
    """A column's head, with its scorer where there are several."""
    return f"{column}, {scorer_title(by)}" if len(every) > 1 else column


class Varied(Protocol):
    """What depends on variables of the recipe."""

    @property
    def variables(self) -> Mapping[str, str]:
        """The values of the variables, but of the seed, by name."""
        ...


def groups(found: Iterable[Varied]) -> list[Mapping[str, str]]:
    """The combinations of variables in which models are compared: those that no other one contains."""
    every = [one.variables for one in found]
    wide = [one for one in every if not any(one.items() < other.items() for other in every)]
    return [one for i, one in enumerate(wide) if one not in wide[:i]]


def within(found: Sequence[Model]) -> list[tuple[str, list[Model]]]:
    """The models of each combination of variables, those that depend on none of them included, with its name."""
    return [
        (", ".join(group.values()), [one for one in found if one.variables.items() <= group.items()])
        for group in groups(found)
    ]


def find(found: Iterable[Model], role: str, variables: Mapping[str, str], matched: str = "steps") -> Model | None:
    """The model of a role that belongs to a combination of variables: of several the one that depends on most.

    What is not trained as an arm, such as Instruct, is the same however the arms are matched.
    """
    same = [one for one in found if one.role == role and one.variables.items() <= variables.items()]
    fit = [one for one in same if one.matched == matched or role in NO_ROLE_TO_TRAIN]
    return max(fit, key=lambda one: len(one.variables), default=None)


def matches(found: list[Model], role: str, base: str, matched: str = "steps") -> list[tuple[Model, Model, str]]:
    """The pairs of two roles, one for each combination of variables that tells them apart, with its heading."""
    pairs: dict[tuple[Model, Model], str] = {}
    for variables in groups(found):
        one, two = find(found, role, variables, matched), find(found, base, variables, matched)
        if one and two:
            pairs.setdefault((one, two), ", ".join({**one.variables, **two.variables}.values()))
    return [(one, two, heading) for (one, two), heading in pairs.items()]


@dataclass(frozen=True)
class Pair:
    """Two models on the problem sets that both have answered: `wanted` sets, those there, what they came to there."""

    wanted: tuple[str, ...]
    sets: tuple[str, ...]
    observed: Sequence[tuple[Observed, Observed]]

    @property
    def coverage(self) -> str:
        """How many problem sets both have answered: `5`, or `3 of 5`."""
        every = len(self.sets) == len(self.wanted)
        return str(len(self.sets)) if every else f"{len(self.sets)} of {len(self.wanted)}"

    @property
    def means(self) -> tuple[float, float]:
        """What each of the two came to there, the unweighted mean over the sets."""
        one, two = zip(*self.observed, strict=True) if self.observed else ((), ())
        return interval(*map(by_problem, one)).value, interval(*map(by_problem, two)).value

    def each_seed(self) -> list[tuple[float, float]]:
        """The two means of each seed; empty unless at least one of the two has seeds."""
        one, two = each_seed([a for a, _ in self.observed]), each_seed([b for _, b in self.observed])
        return [(one[seed], two[seed]) for seed in one if seed in two and seed is not None]


def pair(a: Model, b: Model, measure: str, by: str | None = None) -> Pair:
    """Two models on the (seed, problem) pairs of both; a model without seeds stands beside each seed of the other."""
    wanted = tuple(data for data in a.sets if data in b.sets)
    observed = {}
    for data in wanted:
        one, two = a.observed(data, measure, by), b.observed(data, measure, by)
        one, two = spread(one, two), spread(two, one)
        if common := one.keys() & two.keys():
            observed[data] = ({k: one[k] for k in one if k in common}, {k: two[k] for k in two if k in common})
    return Pair(wanted, tuple(observed), list(observed.values()))


def spread(one: Observed, other: Observed) -> Observed:
    """What has no seeds, repeated for each seed of the other."""
    seeds = dict.fromkeys(seed for seed, _ in other)
    if any(seed is not None for seed, _ in one) or not seeds:
        return one
    return {(seed, key): value for seed in seeds for (_, key), value in one.items()}
