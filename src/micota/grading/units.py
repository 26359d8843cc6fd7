"""Units of measure: which words name one, and how two of them convert.

A unit beside a number is not part of the number, yet `5 cm` is not `5 m`. So a unit is ignored unless both
sides name a known one: then the dimensions must agree, and the values are compared after conversion.
"""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import Final, NamedTuple

from micota.grading.vocabulary import POWERS, PREFIXES, lines


class Unit(NamedTuple):
    """The powers of the base dimensions, such as `length^2` or `length time^-1`, and the factor to its first unit."""

    dimension: str
    factor: Fraction


_PLAIN: Final[dict[str, Unit]] = {
    name: Unit(dimension, Fraction(factor))
    for dimension, factor, *names in lines("units") + lines("prefixed")
    for name in names
}
_UNITS: Final[dict[str, Unit]] = {
    prefix + name: Unit(dimension, Fraction(factor) * Fraction(times))
    for dimension, factor, *names in lines("prefixed")
    for symbol, times, word in zip(PREFIXES[::3], PREFIXES[1::3], PREFIXES[2::3], strict=True)
    for name in names
    for prefix in (symbol if len(name) < 3 else word,)
} | _PLAIN
_WORDS: Final = frozenset({*(name for name in _PLAIN if name != "Ω"), *POWERS, "unit", "cm", "mm", "km", "kg", "ml"})
_LAYOUT = re.compile(r"\\[,;:! ]|[~{}()\[\]]|\\cdot\s?|[*·.]")
_PIECE = re.compile(r"([$¢]|[^\W\d_]+)(?:\^(-?\d))?")


def _singular(word: str) -> str:
    word = word.lower().rstrip(".")
    return word[:-1] if word not in _UNITS and word.endswith("s") and len(word) > 2 else word


def is_unit(word: str) -> bool:
    """Whether the word alone says a measure (`cm`, `hours`, `square`)."""
    word = _singular(word)
    return word in _WORDS or (len(word) > 3 and word in _UNITS)


def read_unit(phrase: str) -> Unit | None:
    """The unit that a phrase names (`square inches`, `cm^2`, `miles per hour`); None if none is known."""
    powers, factor = Counter[str](), Fraction(1)
    for at, part in enumerate(re.split(r"/|\bper\b", _LAYOUT.sub(" ", phrase.replace(r"\Omega", "Ω")))):
        sign, ahead, last = (-1 if at else 1), 1, None
        if not part.strip():
            return None
        for word in re.sub(r"\s*\^\s*", "^", part).split():
            if (power := POWERS.get(word.lower())) is not None:
                if word.lower().endswith("ed") and last:
                    _multiply(powers, last, sign * (power - 1))
                    factor *= last.factor ** (sign * (power - 1))
                else:
                    ahead = power
                continue
            match = _PIECE.fullmatch(word)
            last = _unit(match[1]) if match else None
            if match is None or last is None:
                return None
            power = sign * ahead * int(match[2] or 1)
            _multiply(powers, last, power)
            factor, ahead = factor * last.factor**power, 1
        if last is None:
            return None
    return Unit(" ".join(f"{name}^{power}" for name, power in sorted(powers.items()) if power), factor)


def _multiply(powers: Counter[str], unit: Unit, times: int) -> None:
    above, _, below = unit.dimension.partition("/")
    for part, sign in ((above, 1), (below, -1)):
        name, _, power = part.partition("^")
        if name and name != "1":
            powers[name] += sign * times * int(power or 1)


def _unit(word: str) -> Unit | None:
    """A symbol is read as it is written, a word or a longer symbol in any case: `J`, `mPa`, `MPa`, `Meters`, `KM`."""
    return _UNITS.get(word) or (_UNITS.get(_singular(word)) if len(word) > 1 else None)
