"""Several samples of each problem: their mean accuracy (avg@n), and the chance that one of k is right (pass@k)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

from micota.report.accuracy import RUNAWAYS, accuracy
from micota.report.cells import Column, count, percent, table, with_error, words
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, models, scored, scorers
from micota.report.page import Cell, Table
from micota.report.texts import text
from micota.stats import Estimate, interval, mean, pass_at


class Sampled(NamedTuple):
    """A model and a problem set of which it answered each problem `n` times."""

    model: Model
    data: str
    n: int


def samples(results: GradedAnswers) -> tuple[Table, ...]:
    """A row for each model and problem set that was answered more than once; none without such."""
    every = [Sampled(one, data, _samples(one, data)) for one in models(results) for data in one.sets]
    found = [one for one in every if one.n > 1]
    by, most = scorers(results), max((one.n for one in found), default=0)
    sizes = [*(2**i for i in range(1, 20) if 2**i < most), most]
    columns: list[Column[Sampled]] = [
        words("Model", lambda one: one.model.title),
        words("Problems", lambda one: one.data),
        Column("Samples", lambda one: count(one.n)),
        *(Column(scored("avg@n", each, by), _mean(each)) for each in by),
        *(Column(scored(f"pass@{k}", each, by), _pass(each, k)) for k in sizes for each in by),
        *(Column(head, _share(measure)) for head, measure in RUNAWAYS),
    ]
    return table(
        "samples", columns, found, group=lambda one: one.model.group, word_columns=2, runaways=text("runaways")
    )


def _mean(by: str) -> Callable[[Sampled], Cell]:
    return lambda one: accuracy([one.data], by)(one.model)


def _pass(by: str, k: int) -> Callable[[Sampled], Cell]:
    return lambda one: with_error(pass_of(one.model, one.data, by, k))


def _share(measure: str) -> Callable[[Sampled], Cell]:
    return lambda one: percent(one.model.estimate([one.data], measure).value)


def pass_of(model: Model, data: str, by: str, k: int) -> Estimate:
    """pass@k over the problems, each the mean over its seeds; nan where a problem has fewer than k samples."""
    counts: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for one, rows in model.of(data):
        if one.spec.by == by:
            right = (rows["verdict"] == "correct").groupby(rows["problem"], sort=False)
            for key, n, correct in zip(right.groups, right.size(), right.sum(), strict=True):
                counts[str(key)].append((int(n), int(correct)))
    if not counts or any(n < k for each in counts.values() for n, _ in each):
        return Estimate()
    return interval([mean([pass_at(k, n, correct) for n, correct in each]) for each in counts.values()])


def _samples(model: Model, data: str) -> int:
    return max((one.spec.completions.n for one, _ in model.of(data)), default=0)
