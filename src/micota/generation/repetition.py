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
    reach = [0] * len(backwards)  # of each prefix, the longest proper prefix that is also its end
    matched = 0
    for i in range(1, len(backwards)):
        while matched and backwards[i] != backwards[matched]:
            matched = reach[matched - 1]
        matched += backwards[i] == backwards[matched]
        reach[i] = matched
        if i + 1 >= LENGTH and (i + 1) >= TIMES * (i + 1 - matched):
            return bool(backwards[: i + 1].strip())
    return False
