"""Reflection words: where a response stops to look back. A count of words, not a judgement of the reasoning."""

from __future__ import annotations

import re
from collections.abc import Hashable
from itertools import islice

from micota.report.cells import Row, table, with_error
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, by_problem, models, sets_of
from micota.report.page import Table
from micota.stats import interval, mean

WORDS = ("wait", "hmm", "redo", "recheck", "double-check", "alternatively", "however, let me")
"""What is counted, in any case and as whole words; `hmm` with any number of m."""

RESPONSES = 500  # of one model on one problem set and seed, at most, are read

_PLACE = re.compile(
    r"(?<![a-z])(?:wait|hm{2,}|redo|re-?check|double-check|alternatively|however, let me)(?![a-z])", re.I
)


def places(text: str) -> tuple[tuple[int, int], ...]:
    """The places [start, end) of reflection words in a text, in code points; time is linear in its length.

    >>> places("Hmm, 17? Wait: redo.")
    ((0, 3), (9, 13), (15, 19))
    """
    return tuple(match.span() for match in _PLACE.finditer(text))


def reflections(results: GradedAnswers) -> tuple[Table, ...]:
    """Mean number of reflection words in a response, for each model and problem set; none without responses."""
    compared = models(results)
    rows = []
    for model in compared if len(results.frame) else ():
        name = f"{model.title} (tokens matched)" if model.matched == "tokens" else model.title
        counts = {data: interval(by_problem(_by_seed(results, model, data))) for data in sets_of(compared)}
        cells = {data: with_error(count, unit=1, form=".2f") for data, count in counts.items()}
        rows.append(Row({"Model": name, **cells}, model.group))
    return table("reflections", rows, said=", ".join(WORDS), responses=RESPONSES)


def _by_seed(results: GradedAnswers, model: Model, data: str) -> dict[tuple[Hashable, str], float]:
    """Reflection words by (seed, problem), the mean over its samples, read from the pool one text after the other."""
    counted: dict[tuple[Hashable, str], float] = {}
    for evaluation, rows in model.of(data):
        seed, pool = evaluation.variables.get("seed"), results.pool(evaluation.spec.completions)
        if rows.empty or pool is None or any(known == seed for known, _ in counted):
            continue
        counts: dict[str, list[float]] = {}
        keys = (key for key in sorted(zip(rows["problem"], rows["sample"], strict=True)) if key in pool)
        for answer in pool.read(islice(keys, RESPONSES)):
            counts.setdefault(answer.key, []).append(len(places(answer.text)))
        counted |= {(seed, key): mean(values) for key, values in counts.items()}
    return counted
