"""Sets of real numbers: the algebra against membership, point by point, and what is no such set."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from micota.grading.answers import Answer, Group, Quantity, Union
from micota.grading.reading import read
from micota.grading.sets import NotReal, covers_all, difference, intersection, same_set
from micota.grading.trees import INFINITY

POINTS = [Fraction(at, 2) for at in range(-1, 14)]
"""The ends of the intervals below, the middle between each two, and what lies beyond."""


def some_set(dice: random.Random) -> Answer:
    parts = []
    for _ in range(dice.randint(1, 4)):
        low, high = sorted(dice.sample(range(6), 2))
        ends = (Quantity(("num", Fraction(low))), Quantity(("num", Fraction(high))))
        parts.append(
            Group("{", "}", ends) if dice.random() < 0.3 else Group(dice.choice("[("), dice.choice("])"), ends)
        )
    return Union(tuple(parts))


def holds(answer: Answer, point: Fraction) -> bool:
    if isinstance(answer, Union):
        return any(holds(part, point) for part in answer.parts)
    assert isinstance(answer, Group)
    values = [value(item) for item in answer.items]
    if answer.opening == "{":
        return point in values
    low, high = values
    return low < point < high or (point, answer.opening) == (low, "[") or (point, answer.closing) == (high, "]")


def value(item: Answer) -> Fraction:
    assert isinstance(item, Quantity)
    if item.tree[0] == "num":
        assert isinstance(item.tree[1], Fraction)
        return item.tree[1]
    return Fraction(10**6) if item.tree == INFINITY else Fraction(-(10**6))


def test_the_algebra_agrees_with_membership() -> None:
    dice = random.Random(7)
    for _ in range(500):
        left, right = some_set(dice), some_set(dice)
        both, rest = intersection([left, right]), difference(left, right)
        members = [(holds(left, point), holds(right, point)) for point in POINTS]
        assert [holds(both, point) for point in POINTS] == [a and b for a, b in members]
        assert [holds(rest, point) for point in POINTS] == [a and not b for a, b in members]
        assert same_set([left], [right]) == all(a == b for a, b in members)


def test_the_whole_line() -> None:
    assert covers_all(read(r"(-\infty,1]\cup(1,\infty)"))
    assert not covers_all(read(r"(-\infty,1)\cup(1,\infty)"))


@pytest.mark.parametrize("text", ["(2,1)", "(1,1)", "[1,i]", "(a,b)", r"[-\infty,1)", "(1,2,3)", r"\text{even}"])
def test_no_set_of_real_numbers(text: str) -> None:
    with pytest.raises(NotReal):
        intersection(read(text))
