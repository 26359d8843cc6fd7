"""Units of measure: which words name one, and how two of them convert.

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
length/time 0.44704 mph
length^2 4046.8564224 acre
temperature 1 celsius
temperature2 1 fahrenheit
"""
_UNITS: Final[dict[str, Unit]] = {
    name: Unit(dimension, Fraction(factor))
    for dimension, factor, *names in (line.split() for line in _TABLE.strip().splitlines())
    for name in names
}
_POWERS: Final = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "squared": 2, "cubed": 3}
_WORDS: Final = frozenset({*_UNITS, *_POWERS, "unit"})
_PART = re.compile(r"(?:(square|sq|cubic|cu)\.? )?([a-z$¢]+)(?: (squared|cubed)|\^(\d))?\.?")


def _singular(word: str) -> str:
    word = word.lower().rstrip(".")
    return word[:-1] if word not in _UNITS and word.endswith("s") and len(word) > 2 else word


def is_unit(word: str) -> bool:
    """Whether the word alone says a measure (`cm`, `hours`, `square`)."""
    return _singular(word) in _WORDS


def read_unit(phrase: str) -> Unit | None:
    """The unit that a phrase names (`square inches`, `cm^2`, `miles per hour`); None if none is known."""
    above, *below = [_part(part.strip()) for part in re.split(r"/|\bper\b", phrase.lower())]
    if above is None or not below:
        return above
    per = below[0]
    return per and Unit(f"{above.dimension}/{per.dimension}", above.factor / per.factor) if len(below) == 1 else None


def _part(text: str) -> Unit | None:
    match = _PART.fullmatch(text)
    unit = _UNITS.get(_singular(match[2])) if match else None
    if match is None or unit is None:
        return None
    power = _POWERS.get(match[1] or match[3]) or int(match[4] or 1)
    return unit if power == 1 else Unit(f"{unit.dimension}^{power}", unit.factor**power)
