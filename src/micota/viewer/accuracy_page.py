"""The table of accuracies: sorted, filtered, and with the paired differences to any model; two models in detail."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from micota.errors import MicotaError
from micota.report.comparison import Comparison, compared, holm
from micota.report.comparison_tables import comparison_tables
from micota.report.page import Table
from micota.stats import Moments, bootstrap_of, exact_p, mcnemar, proportion_of
from micota.viewer.database import Database
from micota.viewer.filters import IS, Query, identifier
from micota.viewer.response_pages import filters_of, forms

COLUMNS = {
    "accuracy": "Accuracy, %", "n": "n", "difference": "Difference, points", "p": "p", "holm": "p, Holm",
    "tokens": "Mean tokens", "truncated": "Truncated, %", "repetitive": "Repetitive, %",
}  # fmt: skip
"""What a table can be sorted by, beside its words; these begin with the largest."""
PAIRED = ("difference", "p", "holm")
LISTED = 500
"""Problems of a side that are listed."""
MEANS = ("accuracy", "tokens", "truncated", "repetitive")


def prepare() -> None:
    """Import what the first comparison would wait half a second for."""
    import pandas
    import scipy.special

    pandas.DataFrame({"text": ["a"]}).groupby("text").size()  # which imports pyarrow
    scipy.special.ndtr(0)


def tables(base: Database, query: Query) -> dict[str, Any]:
    """Accuracy of each model with its interval, under both scorers unless one is chosen."""
    filters = filters_of(base, query)
    if not query.get("scorer"):
        filters.equal["scorer"] = base.options["scorer"]
    baseline, sort = ((query.get(name) or [""])[-1] for name in ("baseline", "sort"))
    where, values = filters.where()
    parts = tuple(part.rows for part in base.parts)
    rows = list(table_of(base, parts, where, tuple(values), baseline))
    words = ["arm", *groups_of(base), "benchmark", "scorer"]
    sort, down = sort.removeprefix("-"), sort.startswith("-")
    if sort in (*words, *COLUMNS):
        known = [row for row in rows if not _unknown(row.get(sort))]
        rows = sorted(known, key=lambda row: row[sort], reverse=down) + [row for row in rows if _unknown(row.get(sort))]
    context = forms(base, query, filters)
    context["options"].pop("verdict", None)
    return {
        **context,
        "rows": rows,
        "words": words,
        "arms_there": [word for word in base.words if any(row["arm"] == word for row in rows)],
        "columns": {name: title for name, title in COLUMNS.items() if baseline or name not in PAIRED},
        "sort": sort,
        "down": down,
        "baseline": baseline,
    }


def groups_of(base: Database) -> list[str]:
    """The variables that a row of the table is one value of: all but the seed."""
    return [name for name in base.files.variables if name != "seed"]


@lru_cache(maxsize=32)
def table_of(
    base: Database, parts: Sequence[str], where: str, values: Sequence[Hashable], baseline: str
) -> Sequence[dict[str, Any]]:
    """The rows of the table, as long as the parts are the same; `parts` are not looked at.

    The figures are those of `Results.table` and `Results.compare`, counted by the database.
    """
    keys = [identifier(name) for name in ("arm", *groups_of(base), "benchmark", "scorer")]
    means = ", ".join(f"avg({name}) AS {name}" for name in MEANS)
    rows = base.rows(
        f"SELECT {', '.join(keys)}, count(*) AS n, {means}, bool_or(fake) AS fake, stddev_samp(accuracy) AS sd "
        f"FROM ({units(base, where)}) GROUP BY ALL ORDER BY min(model), benchmark, scorer",
        values,
    )
    differences = _differences(base, where, values, baseline) if baseline else {}
    for row in rows:
        sd = row.pop("sd")
        shares = proportion_of(Moments(row["n"], row["accuracy"], math.nan if sd is None else sd))
        row |= {"low": shares.low, "high": shares.high}
        row |= differences.get(tuple(row[name] for name in _keys(base)), {})
    for scorer in {row["scorer"] for row in rows}:
        compared = [row for row in rows if row["scorer"] == scorer and "p" in row]
        for row, p in zip(compared, holm([row["p"] for row in compared]), strict=True):
            row["holm"] = p
    return rows


def units(base: Database, where: str) -> str:
    """A question for the units of the answers that fit: a row for each problem of a row of the table.

    Samples of a problem are averaged first, seeds then.
    """
    keys = ", ".join(identifier(name) for name in (*_keys(base), "number"))
    single = (
        "(verdict = 'correct')::DOUBLE AS accuracy, tokens, truncated::INT AS truncated, repetitive::INT AS repetitive"
    )
    if not base.several:
        return f"SELECT {keys}, model, fake, {single} FROM answers WHERE {where}"
    means = ", ".join(f"avg({name}) AS {name}" for name in MEANS)
    inner = f"SELECT {keys}, model, fake, {single} FROM answers WHERE {where}"
    inner = f"SELECT {keys}, model, bool_or(fake) AS fake, {means} FROM ({inner}) GROUP BY ALL"
    return f"SELECT {keys}, min(model) AS model, bool_or(fake) AS fake, {means} FROM ({inner}) GROUP BY ALL"


def _keys(base: Database) -> list[str]:
    return ["arm", *groups_of(base), "benchmark", "scorer"]


def _differences(
    base: Database, where: str, values: Sequence[Hashable], baseline: str
) -> dict[tuple[Hashable, ...], dict[str, float]]:
    """The paired difference to the baseline of each row, by its words; none where there is no problem in common."""
    if baseline not in (*base.words, *base.models):
        raise MicotaError(f"the recipe evaluates no model called {baseline!r:.80}", where="the address of this page")
    fits = f"{where} AND {IS}"
    keys = ", ".join(f"a.{identifier(name)}" for name in _keys(base))
    same = [f"(b.{name} IS NULL OR a.{name} = b.{name})" for name in map(identifier, groups_of(base))]
    same += [f"a.{name} = b.{name}" for name in ("benchmark", "scorer", "number")]
    sql = (
        f"SELECT {keys}, a.accuracy - b.accuracy AS unit, count(*) AS n FROM ({units(base, where)}) a "
        f"JOIN ({units(base, fits)}) b ON {' AND '.join(same)} WHERE a.arm <> b.arm GROUP BY ALL"
    )
    counts: defaultdict[tuple[Hashable, ...], dict[float, int]] = defaultdict(dict)
    for row in base.rows(sql, [*values, *values, baseline, baseline]):
        unit, n = row.pop("unit"), row.pop("n")
        of, unit = counts[tuple(row.values())], round(unit, 12)
        of[unit] = of.get(unit, 0) + n
    found = {}
    for key, of in counts.items():
        estimate = bootstrap_of(of)
        ends = {"difference": estimate.value, "from": estimate.low, "to": estimate.high, "pairs": estimate.n}
        found[key] = {**ends, "p": _p(of)}
    return found


def _p(counts: Mapping[float, int]) -> float:
    """The exact p of no difference, from how often each difference occurs."""
    if len({abs(unit) for unit in counts} - {0}) < 2:
        return mcnemar(*(sum(n for unit, n in counts.items() if sign * unit > 0) for sign in (1, -1)))
    return exact_p([unit for unit, n in counts.items() for _ in range(n)])


def compare(base: Database, query: Query) -> dict[str, Any]:
    """Two models in detail, as `micota compare` shows them: by benchmark, level and length; what changed sides."""
    filters = filters_of(base, query)
    a, b = ((query.get(name) or [""])[-1] for name in ("a", "b"))
    found, parted = comparison_of(base, tuple(part.rows for part in base.parts), a, b, filters.scorer)
    return {
        "a": a,
        "b": b,
        "scorer": filters.scorer,
        "scorers": base.options["scorer"],
        "models": base.words,
        "title": found.title,
        "tables": parted,
        "left_out": found.left_out,
        "sides": [(name, len(rows), rows[:LISTED].to_dict("records")) for name, rows in found.sides],
    }


@lru_cache(maxsize=8)
def comparison_of(
    base: Database, parts: Sequence[str], a: str, b: str, scorer: str
) -> tuple[Comparison, tuple[Table, ...]]:
    """The comparison of two models under a scorer with its tables, as long as the parts are the same, which are not
    looked at."""
    names = ", ".join(map(identifier, ("arm", "model", "benchmark", *base.files.variables)))
    fits = f"FROM answers WHERE scorer = TRY_CAST(? AS scorer_word) AND {IS}"
    rows = [
        base.frame(f"SELECT {names}, problem, verdict, tokens, fake {fits}", [scorer, word, word]) for word in (a, b)
    ]
    levels = base.frame("SELECT DISTINCT benchmark, problem, level FROM answers WHERE level IS NOT NULL")
    known = zip(*(levels[name].astype(object) for name in levels), strict=True)
    found = compared(a, rows[0], b, rows[1], scorer, {(name, problem): level for name, problem, level in known})
    return found, comparison_tables([found])


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
