"""The fast rules: cheap, exact, bounded by a short regular expression, and never a guess.

They decide the two cases that make up almost all real answers: the same string, and two plain rational
numbers (`-12`, `1,234`, `0.50`, `3/4`, `1\frac{1}{2}`, with a `$`, `%` or degree sign). What they do not
recognise they leave to `compare`, which would say the same about everything that they do decide.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

LONGEST_NUMBER: Final = 60
_FRACTION = r"\\[dt]?frac\s*\{(\d{1,15})\}\s*\{(\d{1,15})\}"
_NUMBER = re.compile(
    rf"(-?)\s*(?:(\d{{1,3}}(?:(?:,|\{{,\}}|,\\!\s*)\d{{3}}){{1,4}}|\d{{0,18}}\.\d{{1,12}}|\d{{1,18}})"
    rf"(?:/(\d{{1,15}}))?|(\d{{1,9}})?\s*{_FRACTION})",
    re.A,
)
_GROUPING = re.compile(r"[^\d.]")


def plain_number(text: str) -> tuple[Fraction, bool] | None:
    """The value of a plain number and whether a comma in it could also separate two numbers."""
    if len(text) > LONGEST_NUMBER:
        return None
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, decimal, below, whole, top, bottom = match.groups()
    if decimal is not None:
        value = Fraction(_GROUPING.sub("", decimal))
        if below is not None and (not int(below) or "," in decimal or "." in decimal):
            return None
        value /= int(below or 1)
    else:
        if not int(bottom) or (whole and not 0 < int(top) < int(bottom)) or whole == "0":
            return None
        value = int(whole or 0) + Fraction(int(top), int(bottom))
    return (-value if sign else value), "," in text


def decide(answer: str, gold: str) -> bool | None:
    """True or False if the fast rules settle it, None if they do not."""
    left, right = _bare(answer), _bare(gold)
    if left == right and left:
        return True
    ours, theirs = plain_number(left), plain_number(right)
    if ours is None or theirs is None or ours[1] or theirs[1]:
        return None
    return True if ours[0] == theirs[0] else _differ(ours[0], theirs[0])


def _bare(text: str) -> str:
    return text.strip().rstrip(".").strip("$").strip()


def _differ(left: Fraction, right: Fraction) -> bool | None:
    """A long decimal may stand for a fraction, which `compare` decides."""
    return None if max(left.denominator, right.denominator) > 10**6 else False
