"""Exact values of trees that are rational numbers, with a bound on their digits."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, comb, factorial, floor
from typing import Final

from micota.grading.trees import Tree, Undefined

EXACT_BITS: Final = 40_000
"""Integers longer than this are not built."""


class Inexact(Exception):
    """The value is not a rational number that exact arithmetic reaches."""


def exact(tree: Tree) -> Fraction:
    """The rational value. Raises Inexact where there is none to be had exactly."""
    kind = tree[0]
    if kind == "num":
        return Fraction(tree[1])
    if kind in {"add", "mul", "div", "pow"}:
        return _exact_operation(kind, [exact(part) for part in tree[1:]])
    if kind == "deg":
        return exact(tree[1])
    if kind == "fn":
        return _exact_function(tree[1], [exact(part) for part in tree[2:]])
    raise Inexact(kind)


def _exact_operation(kind: str, parts: list[Fraction]) -> Fraction:
    if kind == "add":
        return sum(parts, Fraction(0))
    first, *rest = parts
    for part in rest:
        if kind == "mul":
            first = _sized(first * part)
        elif kind == "div":
            if not part:
                raise Undefined("division by zero")
            first = _sized(first / part)
        else:
            first = _exact_power(first, part)
    return first


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _sized(value: Fraction) -> Fraction:
    if _bits(value) > EXACT_BITS:
        raise Inexact("too many digits")
    return value


def _exact_power(base: Fraction, power: Fraction) -> Fraction:
    if power.denominator != 1:
        raise Inexact("a root")
    if base in {0, 1, -1}:
        if not base and power < 0:
            raise Undefined("division by zero")
        return base ** (int(power) % 2 if base == -1 else int(power > 0) if not base else 0)
    if abs(power) * _bits(base) > EXACT_BITS:
        raise Inexact("too many digits")
    return base ** int(power)


def _exact_function(name: str, parts: list[Fraction]) -> Fraction:
    whole = all(part.denominator == 1 for part in parts)
    first = parts[0]
    if name == "abs":
        return abs(first)
    if name in {"floor", "ceiling"}:
        return Fraction(floor(first) if name == "floor" else ceil(first))
    if name == "factorial" and whole and 0 <= first <= 2500:
        return Fraction(factorial(int(first)))
    if name == "binomial" and whole and parts[1] >= 0 and 0 <= first <= 5000:
        return _sized(Fraction(comb(int(first), int(parts[1]))))
    raise Inexact(name)
