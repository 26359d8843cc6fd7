"""Models as the tables show them: answers pooled over seeds, and two models compared on what both answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from micota.report.graded_answers import ROLES, Answers, Graded, GradedAnswers
from micota.specs import Spec
from micota.stats import Estimate, Observed, differences, interval, mean

PROCEDURE = ("teacher", "ta", "ta_long", "ta_mid")
SCORERS = {"exact_match": "exact match", "semantic": "semantic"}

RUNAWAYS = (
    "Truncated (cut at the limit) and looped (ending in the same piece again and again) in percent of the responses."
)

Seed = Hashable
Pairs = Sequence[tuple[Observed, Observed]]
Count = Callable[[Graded], float]


@dataclass(frozen=True)
class Model:
    """One row of the tables: a model in one combination of variables, all its seeds together."""

    word: str
    role: str
    title: str
    matched: str
    variables: Mapping[str, str]
    answers: tuple[Answers, ...]

    @property
    def group(self) -> str:
        return self.answers[0].group

    @property
    def spec(self) -> Spec:
        return self.answers[0].model

    @property
    def arm(self) -> bool:
        """Whether it competes: an arm, not the teacher or an assistant."""
        return self.role not in PROCEDURE and (self.role in ROLES or self.answers[0].arm)

    @property
    def sets(self) -> list[str]:
        """The recipe's words for the problem sets that it is asked."""
        return list(dict.fromkeys(one.data for one in self.answers))

    def of(self, data: str) -> list[Answers]:
        return [one for one in self.answers if one.data == data]

    def observed(self, data: str, by: str | None, count: Count) -> Observed:
        """The mean of `count` over the samples of each (seed, problem); under any scorer with `by` None."""
        found: defaultdict[tuple[Seed, str], list[float]] = defaultdict(list)
        for one in self.of(data):
            graded = one.graded.get(by, ()) if by else next(filter(None, one.graded.values()), ())
            for row in graded:
                found[one.seed, row.key].append(count(row))
        return {pair: mean(values) for pair, values in found.items()}

    def correct(self, data: str, by: str) -> Observed:
        """Share of samples that are correct, in [0, 1]."""
        return self.observed(data, by, lambda row: row.correct)

    def tokens(self, data: str) -> Observed:
        """Length of the responses, in tokens of the model that wrote them."""
        return self.observed(data, None, lambda row: row.tokens)

    def truncated(self, data: str) -> Observed:
        """Share of responses that were cut at the limit."""
        return self.observed(data, None, lambda row: row.truncated)

    def looped(self, data: str) -> Observed:
        """Share of responses that end in a loop."""
        return self.observed(data, None, lambda row: row.looped)

    def accuracy(self, sets: Iterable[str], by: str) -> Estimate:
        """Accuracy in [0, 1], the unweighted mean over the sets; nan if one of them is missing."""
        return interval(*(by_problem(self.correct(data, by)) for data in sets))

    def over_seeds(self, sets: Iterable[str], by: str) -> dict[Seed, float]:
        """Accuracy of each seed that has all the sets."""
        return each_seed([self.correct(data, by) for data in sets])

    def seeds(self, data: str) -> str:
        """How many seeds are there: `3`, or `2 of 3` where some are missing."""
        asked, there = self.of(data), [one for one in self.of(data) if any(one.graded.values())]
        return str(len(asked)) if len(there) == len(asked) else f"{len(there)} of {len(asked)}"


def share(measure: Callable[[str], Observed], sets: Iterable[str]) -> float:
    """What a measure of a model comes to on average, the unweighted mean over the sets; nan if one is missing."""
    return mean([mean(list(measure(data).values())) for data in sets])


def by_problem(observed: Observed) -> list[float]:
    """One figure for each problem: the mean over its seeds."""
    return differences(observed, observed, 0.0)


def each_seed(sets: Iterable[Observed]) -> dict[Seed, float]:
    """For each seed the unweighted mean over sets of the mean over problems; only seeds that stand in every set."""
    found: list[dict[Seed, float]] = []
    for observed in sets:
        of_seed: defaultdict[Seed, list[float]] = defaultdict(list)
        for (seed, _), value in observed.items():
            of_seed[seed].append(value)
        found.append({seed: mean(values) for seed, values in of_seed.items()})
    common = [seed for seed in found[0] if all(seed in one for one in found)] if found else []
    return {seed: mean([one[seed] for one in found]) for seed in common}


def models(results: GradedAnswers) -> list[Model]:
    """The rows of the tables, in the recipe's order."""
    cells: defaultdict[tuple[str, str], list[Answers]] = defaultdict(list)
    for one in results.answers:
        cells[one.word, str(sorted(one.variables.items()))].append(one)
    return [
        Model(word, ones[0].role, ones[0].title, ones[0].matched, ones[0].variables, tuple(ones))
        for (word, _), ones in cells.items()
    ]


def sets_of(found: Iterable[Model]) -> list[str]:
    """The problem sets that any of the models is asked, in the recipe's order."""
    return list(dict.fromkeys(data for one in found for data in one.sets))


def scorers(results: GradedAnswers) -> list[str]:
    """The scorers of the evaluations: exact match first, where it is there, since it is the paper's."""
    found = dict.fromkeys(by for one in results.answers for by in one.graded)
    return sorted(found, key=lambda by: by != "exact_match")


def title(by: str) -> str:
    """What a scorer is called within a sentence; one of the user's own by its name."""
    return SCORERS.get(by, by)


def of(column: str, by: str, every: Sequence[str]) -> str:
    """A column's head, with its scorer where there are several."""
    return f"{column}, {title(by)}" if len(every) > 1 else column


class Varied(Protocol):
    """What depends on variables of the recipe."""

    @property
    def variables(self) -> Mapping[str, str]: ...


def groups(found: Iterable[Varied]) -> list[Mapping[str, str]]:
    """The combinations of variables in which models are compared: those that no other one contains."""
    every = [one.variables for one in found]
    wide = [one for one in every if not any(one.items() < other.items() for other in every)]
    return [one for i, one in enumerate(wide) if one not in wide[:i]]


def find(found: Iterable[Model], role: str, variables: Mapping[str, str], matched: str = "steps") -> Model | None:
    """The model of a role that belongs to a combination of variables: of several the one that depends on most.

    What is not trained as an arm, such as Instruct, is the same however the arms are matched.
    """
    same = [one for one in found if one.role == role and one.variables.items() <= variables.items()]
    trained = role not in (*PROCEDURE, "instruct")
    fit = [one for one in same if one.matched == matched or not trained]
    return max(fit, key=lambda one: len(one.variables), default=None)


@dataclass(frozen=True)
class Pair:
    """Two models and the problem sets that both have answered, with what they came to there."""

    a: Model
    b: Model
    asked: tuple[str, ...]
    sets: tuple[str, ...]
    observed: Pairs

    @property
    def coverage(self) -> str:
        """How many problem sets both have answered: `5`, or `3 of 5`."""
        return str(len(self.sets)) if len(self.sets) == len(self.asked) else f"{len(self.sets)} of {len(self.asked)}"

    @property
    def means(self) -> tuple[float, float]:
        """What each of the two came to there, the unweighted mean over the sets."""
        one, two = zip(*self.observed, strict=True) if self.observed else ((), ())
        return interval(*map(by_problem, one)).value, interval(*map(by_problem, two)).value

    @property
    def variables(self) -> Mapping[str, str]:
        return {**self.a.variables, **self.b.variables}

    def each_seed(self) -> list[tuple[float, float]]:
        """The two means of each seed; empty unless at least one of the two has seeds."""
        one, two = each_seed([a for a, _ in self.observed]), each_seed([b for _, b in self.observed])
        return [(one[seed], two[seed]) for seed in one if seed in two and seed is not None]


def pair(a: Model, b: Model, measure: Callable[[Model, str], Observed]) -> Pair:
    """Two models on the (seed, problem) pairs of both; a model without seeds stands beside each seed of the other."""
    asked = tuple(data for data in a.sets if data in b.sets)
    sets: list[str] = []
    observed: list[tuple[Observed, Observed]] = []
    for data in asked:
        one, two = measure(a, data), measure(b, data)
        one, two = spread(one, two), spread(two, one)
        common = one.keys() & two.keys()
        if common:
            sets.append(data)
            observed.append(({k: one[k] for k in one if k in common}, {k: two[k] for k in two if k in common}))
    return Pair(a, b, asked, tuple(sets), observed)


def spread(one: Observed, other: Observed) -> Observed:
    """What has no seeds, repeated for each seed of the other."""
    seeds = dict.fromkeys(seed for seed, _ in other)
    if any(seed is not None for seed, _ in one) or not seeds:
        return one
    return {(seed, key): value for seed in seeds for (_, key), value in one.items()}
