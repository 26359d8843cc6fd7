"""The table of accuracies: sorted, filtered, and with the paired differences to any model."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError
from micota.report.answer_frame import AFTER, BEFORE, variables_of
from micota.report.graded_answers import GradedAnswers
from micota.report.results import Results
from micota.viewer.database import Database
from micota.viewer.filters import Query, identifier
from micota.viewer.response_pages import filters_of, forms

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = {
    "accuracy": "Accuracy, %", "n": "n", "difference": "Difference, points", "tokens": "Mean tokens",
    "truncated": "Truncated, %", "repetitive": "Repetitive, %",
}  # fmt: skip
"""What a table can be sorted by, beside its words; these begin with the largest."""


class Slice(Results):
    """The results of a part of the tidy table."""

    def __init__(self, whole: GradedAnswers, frame: DataFrame) -> None:
        super().__init__(whole.recipe, whole.store)
        self.frame = frame


def tables(base: Database, query: Query) -> dict[str, Any]:
    """Accuracy of each model with its interval, under both scorers unless one is chosen."""
    filters = filters_of(base, query)
    if not query.get("scorer"):
        filters.equal["scorer"] = base.options["scorer"]
    baseline, sort = ((query.get(name) or [""])[-1] for name in ("baseline", "sort"))
    where, values = filters.where()
    parts = tuple(part.rows for part in base.parts)
    rows = list(table_of(base, parts, where, tuple(values), baseline))
    words = [
        name for name in (rows[0] if rows else {}) if name in ("arm", "benchmark", "scorer", *base.files.variables)
    ]
    sort, down = sort.removeprefix("-"), sort.startswith("-")
    if sort in (*words, *COLUMNS):
        known = [row for row in rows if not _unknown(row.get(sort))]
        rows = sorted(known, key=lambda row: row[sort], reverse=down) + [row for row in rows if _unknown(row.get(sort))]
    columns = {name: title for name, title in COLUMNS.items() if name != "difference" or baseline}
    context = forms(base, query, filters)
    context["arms_there"] = list(dict.fromkeys(base.arms[model] for model in base.models))
    context["options"].pop("verdict", None)
    return {
        **context,
        "rows": rows,
        "words": words,
        "columns": columns,
        "sort": sort,
        "down": down,
        "baseline": baseline,
    }


@lru_cache(maxsize=32)
def table_of(
    base: Database, parts: Sequence[str], where: str, values: Sequence[Hashable], baseline: str
) -> Sequence[dict[str, Any]]:
    """The rows of the table, as long as the parts are the same; `parts` are not looked at."""
    shorter = {
        "problem": "number AS problem",
        "answer": "NULL::VARCHAR AS answer",
        "generated_by": "'' AS generated_by",
    }
    names = ", ".join(shorter.get(name, identifier(name)) for name in (*BEFORE, *base.files.variables, *AFTER))
    frame = base.frame(f"SELECT {names} FROM answers WHERE {where}", values)
    whole = base.files.results
    rows: list[dict[str, Any]] = Slice(whole, frame).table().to_dict("records")
    if baseline and not (frame["arm"].eq(baseline) | frame["model"].eq(baseline)).any():
        raise MicotaError(f"no response is there of the baseline {baseline!r:.80}", where="the address of this page")
    variables = [name for name in variables_of(frame) if name != "seed"]
    known: dict[Hashable, Any] = {}
    for row in rows if baseline else ():
        key = row["arm"], row["scorer"], *(str(row[name]) for name in variables)
        if key not in known and row["arm"] != baseline:
            alike = frame
            for name in variables:
                alike = alike[alike[name].isna() | (alike[name].astype("string") == str(row[name]))]
            known[key] = _compared(Slice(whole, alike), row["arm"], baseline, row["scorer"])
        row.update(known.get(key, {}).get(row["benchmark"], {}))
    return rows


def _compared(results: Results, arm: str, baseline: str, scorer: str) -> dict[str, dict[str, float]]:
    """The paired difference to the baseline on each benchmark; none where they answered no problem in common."""
    try:
        found = results.compare(arm, baseline, scorer).accuracy
    except MicotaError:
        return {}
    return {name: {"difference": of.value, "from": of.low, "to": of.high, "pairs": of.n} for name, of in found.items()}


def _unknown(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "<NA>"
