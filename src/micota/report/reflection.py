"""Reflection words: where a response stops to look back. A count of words, not a judgement of the reasoning."""

from __future__ import annotations

import re
from collections.abc import Hashable

from micota.report.cells import grouped, in_order, with_error
from micota.report.graded_answers import Answers, GradedAnswers
from micota.report.model_rows import Model, by_problem, models, sets_of
from micota.report.page import Cell, Table
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


def table(results: GradedAnswers) -> tuple[Table, ...]:
    """Mean number of reflection words in a response, for each model and problem set."""
    found = models(results)
    sets = sets_of(found)
    rows = []
    for model in found:
        name = f"{model.title} (tokens matched)" if model.matched == "tokens" else model.title
        cells = [_reflection(results, model, data) for data in sets]
        rows.append((model.group, (Cell(name), *cells)))
    if not any(cell.value is not None for _, row in rows for cell in row):
        return ()
    headed = [(group, [row for of, row in rows if of == group]) for group in in_order(of for of, _ in rows)]
    caption = (
        f"Occurrences of {', '.join(WORDS)}, whole words in any case, in a response: mean ± standard error over "
        f"problems, of at most {RESPONSES} responses of each seed, the first by the hash of their problems."
    )
    title = "Reflection words in a response"
    return (Table("reflections", title, ("Model", *sets), grouped(headed), caption),)


def _reflection(results: GradedAnswers, model: Model, data: str) -> Cell:
    found: dict[tuple[Hashable, str], float] = {}
    for one in model.of(data):
        found |= {(one.seed, key): value for key, value in _words(results, one).items()}
    return with_error(interval(by_problem(found)), unit=1, form=".2f")


def _words(results: GradedAnswers, one: Answers) -> dict[str, float]:
    """Reflection words by problem, the mean over its samples; the texts are read from the pool one after the other."""
    manifest = results.manifest(one.completions)
    graded = next(filter(None, one.graded.values()), ())
    keys = sorted((row.key, row.sample) for row in graded)[:RESPONSES]
    if manifest is None or not keys:
        return {}
    counted: dict[str, list[float]] = {}
    for answer in results.store.pool(manifest.pools[0]).read(keys):
        counted.setdefault(answer.key, []).append(len(places(answer.text)))
    return {key: mean(values) for key, values in counted.items()}
