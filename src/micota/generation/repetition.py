"""Degenerate repetition: a response that ends in the same piece again and again."""

from __future__ import annotations

TAIL = 6_000  # characters at the end that are searched: for a piece of up to a quarter of them
TIMES, LENGTH = 4, 120
"""How often a piece stands in a row at least, and in how many characters."""


def loops(text: str) -> bool:
    """Whether a text ends in degenerate repetition; the last piece may be cut.

    >>> loops("So x = 2. " + "Wait, let me check. " * 9 + "Wait, le")
    True
    """
    backwards = text[-TAIL:][::-1]
    head = backwards[: LENGTH - LENGTH // TIMES]  # stands again one piece on, as no piece is longer than a quarter
    period = backwards.find(head, 1)
    while period > 0 and (length := max(LENGTH, TIMES * period)) <= len(backwards):
        if backwards[period:length] == backwards[: length - period]:
            return bool(backwards[:length].strip())
        period = backwards.find(head, period + 1)
    return False
