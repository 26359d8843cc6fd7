"""Cells of tables: how shares, differences, intervals and counts are printed. What is nan is missing and shown as –."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from micota.report.page import MISSING, Cell
from micota.stats import Estimate

Row = tuple[Cell, ...]


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
    return MISSING if value is None or math.isnan(value) else Cell(f"{value:,.0f}", value)


def with_error(found: Estimate, unit: float = 100, form: str = ".1f") -> Cell:
    """`45.3 ± 2.5`: a value and its standard error, in percent unless another unit is given."""
    cell = number(found.value, form, unit)
    if cell is MISSING or math.isnan(found.error):
        return cell
    return replace(cell, text=f"{cell.text} ± {unit * found.error:{form.removeprefix('+')}}")


def between(low: float, high: float, unit: float = 100, form: str = "+.1f") -> Cell:
    """`[+1.2, +9.8]`: the ends of an interval."""
    return MISSING if math.isnan(low) or math.isnan(high) else Cell(f"[{unit * low:{form}}, {unit * high:{form}}]")


def ranked(rows: Sequence[Row], column: int, competing: Sequence[bool]) -> list[Row]:
    """The rows with the highest value of a column bold and the second highest underlined; equal values share a place.

    Only rows that compete are marked, and only where there are at least two different values.
    """
    values = [_rounded(row[column]) if take else None for row, take in zip(rows, competing, strict=True)]
    order = sorted({value for value in values if value is not None}, reverse=True)
    if len(order) < 2:
        return list(rows)
    return [
        (*row[:column], replace(row[column], bold=value == order[0], underline=value == order[1]), *row[column + 1 :])
        if value is not None
        else row
        for row, value in zip(rows, values, strict=True)
    ]


def _rounded(cell: Cell) -> float | None:
    """Values that differ only by rounding are equal."""
    return None if cell.value is None else round(cell.value, 9)


def in_order(groups: Iterable[str]) -> list[str]:
    """Each group once, in its order; what belongs to all of them comes last."""
    return sorted(dict.fromkeys(groups), key=lambda name: name == "")


def grouped(headed: Iterable[tuple[str, Sequence[Row]]]) -> tuple[Row, ...]:
    """Rows below headings of one cell; without headings where all rows belong together."""
    there = [(heading, rows) for heading, rows in headed if rows]
    if len({heading for heading, _ in there}) < 2:
        return tuple(row for _, rows in there for row in rows)
    return tuple(row for heading, rows in there for row in [(Cell(heading or "For all"),), *rows])
