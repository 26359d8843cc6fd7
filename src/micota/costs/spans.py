"""A quantity that is known only between two ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Two ends, at least 0; equal ends are a known number."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def __mul__(self, other: Span | float) -> Span:
        """Low end times low end, high end times high end."""
        other = other if isinstance(other, Span) else known(other)
        return Span(self.low * other.low, self.high * other.high)

    def __truediv__(self, by: float) -> Span:
        return Span(self.low / by, self.high / by)

    def at_most(self, limit: float) -> Span:
        """Both ends limited."""
        return Span(min(self.low, limit), min(self.high, limit))

    def minus(self, number: float) -> Span:
        """Both ends less by a number, but never below 0."""
        return Span(max(0, self.low - number), max(0, self.high - number))


NOTHING = Span(0, 0)


def known(value: float) -> Span:
    """A number without uncertainty."""
    return Span(value, value)


def total(spans: Iterable[Span]) -> Span:
    """The sum, end by end."""
    return sum(spans, NOTHING)


def at_ends(function: Callable[..., float], *arguments: Span) -> Span:
    """A function of numbers at the low ends and at the high ends of its arguments."""
    return Span(function(*(one.low for one in arguments)), function(*(one.high for one in arguments)))
