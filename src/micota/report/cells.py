"""Cells and tables: how shares, differences, intervals and counts are printed. What is nan is shown as –."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from micota.report.page import MISSING, Cell, Table
from micota.report.texts import text
from micota.stats import Estimate

Cells = tuple[Cell, ...]


def number(value: float, form: str = ".1f", unit: float = 1.0) -> Cell:
    """A number in a format, printed in multiples of `unit`; the value behind it is in the same unit."""
    return MISSING if math.isnan(value) else Cell(format(unit * value, form), unit * value)


def percent(value: float) -> Cell:
    """A share in [0, 1], in percent."""
    return number(value, ".1f", 100)


def points(value: float) -> Cell:
    """A difference of shares, in percentage points with its sign."""
    return number(value, "+.1f", 100)


def count(value: float | None) -> Cell:
    """A whole number; None and nan are missing."""
    return MISSING if value is None or math.isnan(value) else Cell(f"{value:,.0f}", value)


def with_error(estimate: Estimate, unit: float = 100, form: str = ".1f") -> Cell:
    """`45.3 ± 2.5`: a value and its standard error, in percent unless another unit is given."""
    cell = number(estimate.value, form, unit)
    if cell is MISSING or math.isnan(estimate.error):
        return cell
    return replace(cell, text=f"{cell.text} ± {unit * estimate.error:{form.removeprefix('+')}}")


def between(low: float, high: float, unit: float = 100, form: str = "+.1f") -> Cell:
    """`[+1.2, +9.8]`: the ends of an interval."""
    return MISSING if math.isnan(low) or math.isnan(high) else Cell(f"[{unit * low:{form}}, {unit * high:{form}}]")


class Row(NamedTuple):
    """A row of a table: the head of each column with its cell, the heading above it, whether it competes for bold."""

    cells: Mapping[str, object]
    group: str = ""
    competes: bool = True


def table(
    key: str, rows: Iterable[Row], *, file: str = "", best: Container[str] = (), words: int = 1, **values: object
) -> tuple[Table, ...]:
    """A table with its rows below the headings of their groups; of no rows none.

    Title and caption are the texts of `key`; `file` names its files where one key has several tables. In the columns
    `best` the two highest values of each group are marked. The first `words` columns are text.
    """
    all_rows = _without_empty(list(rows), "Paper")
    headed = []
    for heading in in_order(row.group for row in all_rows):
        inside = [row for row in all_rows if row.group == heading]
        cells = [tuple(c if isinstance(c, Cell) else Cell(str(c)) for c in row.cells.values()) for row in inside]
        for i, head in enumerate(inside[0].cells):
            cells = ranked(cells, i, [row.competes for row in inside]) if head in best else cells
        headed.append((heading, cells))
    title, caption = (text(key, name, **values) for name in ("title", "caption"))
    return (Table(file or key, title, tuple(all_rows[0].cells), grouped(headed), caption, words),) if all_rows else ()


def _without_empty(rows: list[Row], start: str) -> list[Row]:
    """The rows without the columns that begin so and are empty."""
    heads = [head for head in (rows[0].cells if rows else ()) if head.startswith(start)]
    empty = {head for head in heads if not any(row.cells[head] for row in rows)}
    return [row._replace(cells={head: cell for head, cell in row.cells.items() if head not in empty}) for row in rows]


def ranked(rows: Sequence[Cells], column: int, competing: Sequence[bool]) -> list[Cells]:
    """The rows with the highest value of a column bold and the second highest underlined; equal values share a place.

    Only rows that compete are marked, and only where there are at least two different values.
    """
    values = [_rounded(row[column]) if take else None for row, take in zip(rows, competing, strict=True)]
    order = sorted({value for value in values if value is not None}, reverse=True)
    return [
        (*row[:column], replace(row[column], bold=value == order[0], underline=value == order[1]), *row[column + 1 :])
        if value is not None and len(order) > 1
        else row
        for row, value in zip(rows, values, strict=True)
    ]


def _rounded(cell: Cell) -> float | None:
    """Values that differ only by rounding are equal."""
    return None if cell.value is None else round(cell.value, 9)


def in_order(groups: Iterable[str]) -> list[str]:
    """Each group once, in its order; what belongs to all of them comes last."""
    return sorted(dict.fromkeys(groups), key=lambda name: name == "")


def grouped(headed: Iterable[tuple[str, Sequence[Cells]]]) -> tuple[Cells, ...]:
    """Rows below headings of one cell; without headings where all rows belong together."""
    filled = [(heading, rows) for heading, rows in headed if rows]
    if len({heading for heading, _ in filled}) < 2:
        return tuple(row for _, rows in filled for row in rows)
    return tuple(row for heading, rows in filled for row in [(Cell(heading or "For all"),), *rows])
