"""The types of answer that the semantic grader tells apart."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from micota.grading.trees import INFINITY, MINUS_ONE, Tree


@dataclass(frozen=True, slots=True)
class Quantity:
    r"""A number or an expression, with its unit and further words: `2n-1`, `5\text{ cm}`, `3 years ago`."""

    tree: Tree
    unit: str = ""
    percent: bool = False
    words: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Group:
    r"""A tuple, an interval, a set or a bare list: `(3, 4]`, `\{1, 2\}`, `1 \pm \sqrt 5`.

    `opening` is `(`, `[` or `{`, or empty for a bare list.
    """

    opening: str
    closing: str
    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Union:
    r"""Intervals and sets joined: `(-\infty, 0) \cup \{1\}`."""

    parts: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    r"""An equation or an inequality, `sides[0] signs[0] sides[1] ...`: `y = 2x + 3`, `x \ge 2`."""

    sides: tuple[Answer, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of quantities."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Numeral:
    """Digits in a stated base: `4210_5`."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day: `4:30 p.m.`; `half` is a or p."""

    parts: tuple[int, ...]
    half: str


@dataclass(frozen=True, slots=True)
class Ratio:
    """Parts with colons: `2:3`."""

    parts: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """Words, the letter of a choice, and all that no rule reads."""

    words: str


Answer = Quantity | Group | Union | Relation | Matrix | Numeral | Clock | Ratio | Text
REALS: Final = Group("(", ")", (Quantity(("mul", MINUS_ONE, INFINITY)), Quantity(INFINITY)))
