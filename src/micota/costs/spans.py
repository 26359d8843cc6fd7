"""A quantity that is only known between two ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Two ends that are at least 0; equal ones are a number that is known."""

    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.low + other.low, self.high + other.high)

    def __mul__(self, other: Span | float) -> Span:
        """Ends times ends."""
        other = other if isinstance(other, Span) else Span(other, other)
        return Span(self.low * other.low, self.high * other.high)

    def __truediv__(self, by: float) -> Span:
        return Span(self.low / by, self.high / by)

    def at_most(self, most: float) -> Span:
        return Span(min(self.low, most), min(self.high, most))

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


NOTHING = Span(0, 0)


def known(value: float) -> Span:
    return Span(value, value)


def total(spans: Iterable[Span]) -> Span:
    return sum(spans, NOTHING)
