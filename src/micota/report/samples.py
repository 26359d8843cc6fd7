"""Several samples of each problem: avg@k, pass@k, pass^k and maj@k, each with its interval over problems."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

from micota.report.accuracy import runaways
from micota.report.cells import Row, count, number, table
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, models, scored, scorers
from micota.report.page import MISSING, Cell, Table
from micota.report.texts import text
from micota.stats import RESAMPLES, Estimate, mean, proportion

if TYPE_CHECKING:
    from pandas import DataFrame

MEASURES = ("avg@k", "pass@k", "pass^k", "maj@k")


def samples(results: GradedAnswers) -> tuple[Table, ...]:
    """A row for each model, problem set and k, of what was answered more than once; none without such."""
    by = scorers(results)
    rows = []
    for model in models(results):
        for data in model.sets:
            known = {scorer: dict(at_k(model, data, scorer)) for scorer in by}
            for k in sizes(_samples(model, data)):
                cells: dict[str, object] = {"Model": model.title, "Problems": data, "k": count(k)}
                for measure in MEASURES:
                    estimates = {scorer: known[scorer].get((k, measure), Estimate()) for scorer in by}
                    cells |= {scored(measure, scorer, by): _cell(estimates[scorer]) for scorer in by}
                rows.append(Row({**cells, **runaways(model, [data])}, model.group))
    return table("samples", rows, words=2, runaways=text("runaways"))


def frame(results: GradedAnswers) -> DataFrame:
    """The same for programs: a row for each arm, group of variables, benchmark, scorer, k and measure."""
    import pandas as pd

    rows = [
        {"arm": model.word, "group": model.group, "benchmark": data, "scorer": by, "k": k, "measure": measure}
        | {name: getattr(found, name) for name in ("value", "error", "low", "high", "n")}
        for model in models(results)
        for data in model.sets
        for by in scorers(results)
        for (k, measure), found in at_k(model, data, by)
    ]
    heads = ["arm", "group", "benchmark", "scorer", "k", "measure", "value", "error", "low", "high", "n"]
    return pd.DataFrame(rows, columns=heads)


def sizes(most: int) -> list[int]:
    """The k of a table: powers of two and the number of samples; none of single answers."""
    return [*(2**i for i in range(1, 20) if 2**i < most), most] if most > 1 else []


def at_k(model: Model, data: str, by: str) -> Iterator[tuple[tuple[int, str], Estimate]]:
    """(k, measure) with its estimate over the problems, each the mean over its seeds; none with fewer samples."""
    votes = _votes(model, data, by)
    for k in sizes(_samples(model, data)):
        if not votes or any(len(one) < k for each in votes.values() for one in each):
            continue
        for measure in MEASURES:
            yield (k, measure), proportion([mean([_at(measure, k, one) for one in each]) for each in votes.values()])


def _at(measure: str, k: int, votes: Sequence[int]) -> float:
    """A measure of one problem."""
    n, right = len(votes), votes.count(0)
    return {
        "avg@k": lambda: right / n,
        "pass@k": lambda: pass_at(k, n, right),
        "pass^k": lambda: all_of(k, n, right),
        "maj@k": lambda: majority(k, votes),
    }[measure]()


def _votes(model: Model, data: str, by: str) -> dict[str, list[list[int]]]:
    """For each problem the votes of each seed's samples: right answers are one, wrong ones differ by their text."""
    votes: defaultdict[str, list[list[int]]] = defaultdict(list)
    for evaluation, rows in model.of(data):
        if evaluation.spec.by == by:
            for key, inside in rows.groupby("problem", sort=False):
                texts: dict[str, int] = {}
                verdicts = zip(inside["verdict"], inside["answer"].fillna(""), strict=True)
                votes[str(key)].append(
                    [0 if v == "correct" else texts.setdefault(a, len(texts) + 1) if a else -1 for v, a in verdicts]
                )
    return votes


def _samples(model: Model, data: str) -> int:
    return max((evaluation.spec.completions.n for evaluation, _ in model.of(data)), default=0)


def _cell(found: Estimate) -> Cell:
    """`45.3 [40.1, 50.5]`: a share and its 95 % interval, in percent."""
    value = number(found.value, ".1f", 100)
    if value is MISSING or math.isnan(found.low):
        return value
    return Cell(f"{value.text} [{100 * found.low:.1f}, {100 * found.high:.1f}]", value.value)


def pass_at(k: int, n: int, correct: int) -> float:
    """The unbiased estimate of pass@k from n >= k samples: 1 - C(n - c, k) / C(n, k) (Chen et al., 2021, eq. 1)."""
    return 1 - math.comb(n - correct, k) / math.comb(n, k)


def all_of(k: int, n: int, correct: int) -> float:
    """The unbiased estimate of pass^k, that all of k samples are right: C(c, k) / C(n, k) (Yao et al., 2024)."""
    return math.comb(correct, k) / math.comb(n, k)


def majority(k: int, votes: Sequence[int]) -> float:
    """maj@k: the chance that the answer with the most votes among k of the n samples is right.

    A vote is 0 for a right answer, another number >= 1 for each wrong one, -1 for none. Tied answers share the chance.
    The mean over all choices of k samples; of more than 2,000 over 2,000 that are drawn, the same at every call.
    """
    import numpy as np

    if math.comb(len(votes), k) <= RESAMPLES // 5:
        chosen = np.array([*combinations(votes, k)])
    else:
        chosen = np.random.default_rng(0).permuted(np.tile(votes, (RESAMPLES // 5, 1)), axis=1)[:, :k]
    counts = (chosen[:, :, None] == np.arange(max(1, max(votes) + 1))).sum(axis=1)
    most = counts.max(axis=1, keepdims=True)
    won = (counts[:, 0] == most[:, 0]) & (most[:, 0] > 0)
    return float((won / (counts == most).sum(axis=1)).mean())
