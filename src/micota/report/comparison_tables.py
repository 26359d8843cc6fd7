"""A comparison of two models as tables: by benchmark; of one comparison also by level and by length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from micota.report.cells import Row, between, count, number, percent, points, table
from micota.report.comparison import Comparison
from micota.report.page import Cell, Table


def comparison_tables(comparisons: Sequence[Comparison]) -> tuple[Table, ...]:
    """A table of each by benchmark, with Holm's correction of several; of a single one also by level and length."""
    several, found = len(comparisons) > 1, list[Table]()
    for one in comparisons:
        rows = [_row(one, "benchmark", row) for row in one.frame.to_dict("records")]
        if several:
            last = "" if one.holm is None else f"{one.holm:.3g}"
            rows = [Row({**row.cells, "p, Holm": Cell(last if row is rows[-1] else "")}) for row in rows]
        found += table("comparison", rows, title=f"{one.title}, by benchmark")
        for column in () if several else one.groups:
            rows = [_row(one, column, row) for row in one.by(column).to_dict("records")]
            found += table("comparison", rows, file=f"comparison_{column}", title=f"{one.title}, by {column}")
    return tuple(found)


def _row(of: Comparison, column: str, row: Mapping[str, Any]) -> Row:
    return Row(
        {column: str(row[column]), "n": count(row["n"])}
        | {f"{name}, %": percent(row[f"accuracy_{side}"]) for name, side in ((of.a, "a"), (of.b, "b"))}
        | {"difference, points": points(row["difference"]), "95 %": between(row["low"], row["high"])}
        | {"p": number(row["p"], ".3g"), "detectable": percent(row["detectable"])}
        | {f"{name}, tokens": number(row[f"tokens_{side}"]) for name, side in ((of.a, "a"), (of.b, "b"))}
        | {"difference, tokens": number(row["tokens"], "+.1f")}
        | {"95 % of tokens": between(row["tokens_low"], row["tokens_high"], 1)}
    )
