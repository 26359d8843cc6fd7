"""Units of measure: which words are one, and how two of them relate.

A unit beside a number is not part of the number, yet `5 cm` is not `5 m`. So a unit is ignored unless both
sides name a known one: then the dimensions must agree, and the values are compared after conversion.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final, NamedTuple


class Unit(NamedTuple):
    """`dimension` such as `length^2` or `length/time`, and the factor to its first unit."""

    dimension: str
    factor: Fraction


_TABLE: Final = """
length 0.001 mm millimeter millimetre
length 0.01 cm centimeter centimetre
length 0.1 dm decimeter decimetre
length 1 m meter metre
length 1000 km kilometer kilometre
length 0.0254 in inch inches inche
length 0.3048 ft foot feet
length 0.9144 yd yard
length 1609.344 mi mile
time 1 s sec second
time 60 min minute
time 3600 h hr hour
time 86400 day
time 604800 week wk
mass 0.001 mg milligram
mass 1 g gram gm
mass 1000 kg kilogram
mass 453.59237 lb pound
mass 28.349523125 oz ounce
volume 0.001 ml milliliter millilitre
volume 1 l liter litre
volume 3.785411784 gal gallon
money 0.01 cent ¢
money 1 $ dollar usd buck
angle 1 degree deg
energy 1 j joule
energy 1000 kj kilojoule
force 1 n newton
power 1 w watt
temperature 1 celsius
temperature2 1 fahrenheit
"""
_UNITS: Final[dict[str, Unit]] = {
    name: Unit(dimension, Fraction(factor))
    for dimension, factor, *names in (line.split() for line in _TABLE.strip().splitlines())
    for name in names
}
_WHOLE: Final = {
    "mph": Unit("length/time", Fraction("0.44704")),
    "kmh": Unit("length/time", Fraction(1000, 3600)),
    "kph": Unit("length/time", Fraction(1000, 3600)),
    "acre": Unit("length^2", Fraction("4046.8564224")),
}
_POWERS: Final = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
_GENERIC: Final = frozenset({"unit", "units"})


def _singular(word: str) -> str:
    word = word.lower().rstrip(".")
    if word in _UNITS or word in _WHOLE:
        return word
    return word[:-1] if word.endswith("s") and len(word) > 2 else word


def is_unit(word: str) -> bool:
    """Whether the word alone says a measure (`cm`, `hours`, `square`)."""
    word = _singular(word)
    return word in _UNITS or word in _WHOLE or word in _POWERS or word in _GENERIC


def read_unit(phrase: str) -> Unit | None:
    """The unit that a phrase names (`square inches`, `cm^2`, `miles per hour`); None if none is known."""
    words = re.findall(r"[A-Za-z$¢]+|\^-?\d|/", re.sub(r"\bper\b", "/", phrase.lower()))
    above, below, side = list[tuple[Unit, int]](), list[tuple[Unit, int]](), 0
    power = 1
    for word in words:
        name = _singular(word)
        if word == "/":
            side, power = side + 1, 1
        elif word[0] == "^" or name in {"squared", "cubed"}:
            here = below if side else above
            if here:
                here[-1] = (here[-1][0], int(word[1:]) if word[0] == "^" else _POWERS[name])
        elif name in _POWERS:
            power = _POWERS[name]
        elif name in _UNITS or name in _WHOLE:
            (below if side else above).append((_UNITS.get(name) or _WHOLE[name], power))
            power = 1
        else:
            return None
    return _product(above, below) if above or below else None


def _product(above: list[tuple[Unit, int]], below: list[tuple[Unit, int]]) -> Unit:
    factor = Fraction(1)
    for units, sign in ((above, 1), (below, -1)):
        for unit, power in units:
            factor *= unit.factor ** (sign * power)
    return Unit("/".join("*".join(sorted(map(_dimension, units))) for units in (above, below) if units), factor)


def _dimension(part: tuple[Unit, int]) -> str:
    unit, power = part
    return unit.dimension if power == 1 else f"{unit.dimension}^{power}"
