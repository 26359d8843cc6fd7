"""The funnel of the data with every dropped row and its reason, what two problem sets share, and lengths."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import Any

from micota.data.overlap import shared
from micota.errors import MicotaError
from micota.recipe.labels import everything, labels, name
from micota.report import funnel
from micota.report.drawing import picture
from micota.report.graded_answers import GradedAnswers
from micota.report.page import Figure
from micota.report.training_figures import lengths
from micota.specs import Problems, Select
from micota.stages.select import decisions
from micota.viewer.database import ROWS, Database
from micota.viewer.filters import Query, number

PAIRS = 500  # problems that two sets share and a page shows


def data(base: Database, query: Query) -> dict[str, Any]:
    """The tables of the report about data, the selections with what they dropped, an overlap, and lengths."""
    results = base.files.results
    names, sets = labels(results.recipe), problem_sets(results)
    first, second = ((query.get(key) or [""])[-1] for key in ("first", "second"))
    pairs = None
    if first in sets and second in sets:
        one, two = ({row["key"]: row["problem"] for row in results.rows(sets[word])} for word in (first, second))
        pairs = [{"other": two[pair.other_key], "own": one[pair.key], "how": pair.how, "words": pair.words}
                 for pair in islice(shared(one, {second: two}), PAIRS)]  # fmt: skip
    return {
        "tables": [
            *funnel.problems(results),
            *funnel.data(results),
            *funnel.mixtures(results),
            *funnel.trainings(results),
        ],
        "selections": [(name(names, spec), facts.get("dropped", {})) for spec, facts in funnel.stages(results, Select)],
        "sets": list(sets),
        "first": first,
        "second": second,
        "pairs": pairs,
        "quantiles": _quantiles(base),
        "figure": figure(results),
    }


def problem_sets(results: GradedAnswers) -> dict[str, Problems]:
    """The problem sets of the recipe that are done, by their names."""
    names = labels(results.recipe)
    done = [spec for spec in everything(results.recipe) if isinstance(spec, Problems) and results.manifest(spec)]
    return {f"{name(names, spec)} ({spec.split})" if spec.split else name(names, spec): spec for spec in done}


def figure(results: GradedAnswers) -> Figure | None:
    """The figure of the lengths of the training data, if the recipe has such."""
    return next((one for one in lengths(results) if isinstance(one, Figure)), None)


@lru_cache(maxsize=2)
def png(results: GradedAnswers) -> bytes:
    """That figure as PNG."""
    if (found := figure(results)) is None:
        raise MicotaError("there are no lengths to show")
    return picture(found).png


def _quantiles(base: Database) -> list[dict[str, Any]]:
    sql = (
        "SELECT model, benchmark, count(*) AS n, quantile_disc(tokens, [0.1, 0.5, 0.9, 1.0]) AS tokens FROM answers "
        "WHERE scorer = (SELECT min(scorer) FROM answers) GROUP BY model, benchmark ORDER BY benchmark, model"
    )
    return base.rows(sql)


def dropped(base: Database, query: Query) -> dict[str, Any]:
    """The answers that a selection dropped, each with its reason, its problem and its text."""
    results = base.files.results
    names, word = labels(results.recipe), (query.get("data") or [""])[-1]
    spec = next((one for one, _ in funnel.stages(results, Select) if name(names, one) == word), None)
    if spec is None:
        raise MicotaError(f"the recipe selects no data called {word!r:.80}", where="the address of this page")
    reason, page = (query.get("reason") or [""])[-1], max(1, number(query, "page", 1))
    answers, verdicts = results.rows(spec.completions), results.rows(spec.verdicts)
    rows = [(row, why) for row, why in decisions(spec, answers, verdicts) if why and reason in ("", why)]
    shown = rows[ROWS * (page - 1) : ROWS * page]
    problems, pool = (
        {row["key"]: row for row in results.rows(spec.completions.problems)},
        results.pool(spec.completions),
    )
    return {
        "word": word,
        "reason": reason,
        "reasons": results.facts(spec).get("dropped", {}),
        "count": len(rows),
        "page": page,
        "pages": max(1, -(-len(rows) // ROWS)),
        "rows": [(problems.get(row["key"], {}), row, why, _text(pool, row)) for row, why in shown],
    }


def _text(pool: Any, row: dict[str, Any]) -> str:
    key = row["key"], row["sample"]
    return (
        next(pool.read([key])).target if pool is not None and key in pool else "(the text was removed from the store)"
    )
