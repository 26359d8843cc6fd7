r"""The types of answer.

Quantity   a number or an expression, with its unit          `\frac{3}{4}`, `2n-1`, `5\text{ cm}`
Group      a tuple, an interval, a set or a bare list        `(3, 4]`, `\{1, 2\}`, `1 \pm \sqrt 5`
Union      intervals and sets joined                         `(-\infty, 0) \cup \{1\}`
Relation   an equation or an inequality                      `y = 2x + 3`, `x \ge 2`
Matrix     rows of quantities
Numeral    digits in a stated base                           `4210_5`
Clock      a time of day; Ratio: parts with colons           `4:30 p.m.`, `2:3`
Text       words, a letter of a choice, and all that no rule reads
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from micota.grading.trees import INFINITY, MINUS_ONE, Tree


@dataclass(frozen=True, slots=True)
class Quantity:
    tree: Tree
    unit: str = ""
    percent: bool = False


@dataclass(frozen=True, slots=True)
class Group:
    """`opening` is `(`, `[` or `{`, or empty for a bare list."""

    opening: str
    closing: str
    items: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Union:
    parts: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """`sides[0] signs[0] sides[1] signs[1] ...`"""

    sides: tuple[Answer, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Numeral:
    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Clock:
    parts: tuple[int, ...]
    half: str


@dataclass(frozen=True, slots=True)
class Ratio:
    parts: tuple[Fraction, ...]


@dataclass(frozen=True, slots=True)
class Text:
    words: str


Answer = Quantity | Group | Union | Relation | Matrix | Numeral | Clock | Ratio | Text
REALS: Final = Group("(", ")", (Quantity(("mul", MINUS_ONE, INFINITY)), Quantity(INFINITY)))
