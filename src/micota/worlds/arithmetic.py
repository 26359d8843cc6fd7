"""The lab's first world: left-to-right arithmetic modulo 1000, and the ways in which it can be written down.

A problem is a chain such as `452*5+17-23`: a three-digit start and three or four operations, half of them
a product with one digit, the rest a sum or a difference with two digits. It is worked from left to right,
every value modulo 1000, so the answer is always three digits. One step can be written at three lengths:

    terse       452*5=260;
    expanded    452*5:2*5=10,5*5+1=26,4*5+2=22=260;         each digit from the right, with the carry
    checked     452*5:2*5=10,5*5+1=26,4*5+2=22=260 Hmm 400*5=000,52*5=260,000+260=260 ok;

A checked step may first slip (a carry forgotten), notice it (` no Redo `) and be done again. The pipeline
reads problems only; the chains are for pre-training the lab's models, which then write chains of their own.

The harder world `arithmetic-hard` has two or three operations and products with two digits, too much for one
step of a small model. Expanded, such a product is its two partial products and their sum; the check goes
through the digits of the other factor:

    452*57:2*7=14,5*7+1=36,4*7+3=31=164,2*5=10,5*5+1=26=600,164+600=764
        Hmm 57*2=114,57*50=850,57*400=800,114+850+800=764 ok;               (all on one line)
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from micota.worlds.levels import EXPANDED, TERSE

MODULUS = 1000
Step = tuple[str, int]
"""One operation and its number: `("*", 5)`."""


@dataclass(frozen=True)
class Rules:
    """What the problems of a world are like: how many operations, and the factors of its products."""

    shortest: int
    longest: int
    factors: tuple[int, int]

    def draw(self, rng: random.Random, shortest: int | None = None) -> "Chain":
        """A random chain with at least `shortest` operations where that is given."""
        start, length = rng.randrange(MODULUS), rng.randint(shortest or self.shortest, self.longest)
        return Chain(start, tuple(_draw_step(rng, self.factors) for _ in range(length)))


@dataclass(frozen=True)
class Chain:
    """A start and the operations applied to it, one after the other."""

    start: int
    steps: tuple[Step, ...]

    @property
    def text(self) -> str:
        """The problem as the model reads it: `452*5+17-23`."""
        return three(self.start) + "".join(f"{sign}{number}" for sign, number in self.steps)

    @property
    def values(self) -> list[int]:
        """The value before the first step and after each."""
        values = [self.start]
        for step in self.steps:
            values.append(apply(values[-1], step))
        return values

    @property
    def answer(self) -> str:
        """The last value, as three digits."""
        return three(self.values[-1])

    @property
    def hard(self) -> list[bool]:
        """Whether each step is a product."""
        return [sign == "*" for sign, _ in self.steps]

    def write(self, levels: Sequence[int], slips: Sequence[int | None] = ()) -> str:
        """The working, each step at its level, and the boxed answer.

        `slips` names, for a checked step, the digit (1 or 2) whose incoming carry is forgotten at first.
        """
        slips = slips or [None] * len(levels)
        steps = map(_write_step, self.values, self.steps, levels, slips)
        return "".join(steps) + rf"\boxed{{{self.answer}}}"


def three(value: int) -> str:
    """A value modulo 1000 as three digits: 7 is `007`, -1 is `999`."""
    return f"{value % MODULUS:03d}"


def apply(value: int, step: Step) -> int:
    """The value after one step, modulo 1000."""
    sign, number = step
    result = value * number if sign == "*" else value + number if sign == "+" else value - number
    return result % MODULUS


def _draw_step(rng: random.Random, factors: tuple[int, int]) -> Step:
    if rng.random() < 0.5:
        return "*", rng.randint(*factors)
    return rng.choice("+-"), rng.randint(10, 99)


def _write_step(value: int, step: Step, level: int, slip: int | None) -> str:
    head, result = f"{three(value)}{step[0]}{step[1]}", apply(value, step)
    if level == TERSE:
        return f"{head}={three(result)};"
    work, _ = expand(value, step)
    if level == EXPANDED:
        return f"{head}:{work}={three(result)};"
    sure = f"{head}:{work}={three(result)} Hmm {check(value, step, result)} ok;"
    wrong_work, wrong = expand(value, step, slip)
    if wrong == result:
        return sure
    return f"{head}:{wrong_work}={three(wrong)} Hmm {check(value, step, wrong)} no Redo {sure}"


def expand(value: int, step: Step, slip: int | None = None) -> tuple[str, int]:
    """The step digit by digit from the right, and its result; `slip` forgets the carry into that digit.

    A product with two digits is two partial products, of which the first may slip, and their sum.
    """
    sign, number = step
    if sign != "*" or number < 10:
        return _digits(value, step, slip)
    low_work, low = _digits(value, ("*", number % 10), slip)
    high_work, high = _digits(value, ("*", number // 10), places=2)
    low, high = low % MODULUS, high * 10 % MODULUS
    return f"{low_work}={three(low)},{high_work}={three(high)},{three(low)}+{three(high)}", (low + high) % MODULUS


def _digits(value: int, step: Step, slip: int | None = None, places: int = 3) -> tuple[str, int]:
    """The lowest digits of a step, each with its carry, and the result up to there."""
    sign, number = step
    parts, result, carry = [], 0, 0
    for place in range(places):
        digit, other = value // 10**place % 10, number if sign == "*" else number // 10**place % 10
        carry = 0 if slip == place else carry
        tail = "" if place == 0 else f"-{carry}" if sign == "-" else f"+{carry}"
        if sign == "-":
            total = digit - other - carry
            carry = int(total < 0)
            written = f"{carry}{total % 10}"
        else:
            total = digit * other + carry if sign == "*" else digit + other + carry
            carry, written = total // 10, f"{total:02d}"
        parts.append(f"{digit}{sign}{other}{tail}={written}")
        result += total % 10 * 10**place
    return ",".join(parts), result


def check(value: int, step: Step, result: int) -> str:
    """The step by another route: a product in parts, a sum or a difference by its inverse."""
    sign, number = step
    if sign == "*" and number >= 10:
        digits = [value % 10, value // 10 % 10 * 10, value // 100 * 100]
        parts = [three(number * digit) for digit in digits]
        lines = [f"{number}*{digit}={part}" for digit, part in zip(digits, parts, strict=True)]
        return ",".join([*lines, f"{'+'.join(parts)}={three(value * number)}"])
    if sign == "*":
        high, low = value // 100 * 100, value % 100
        left, right = three(high * number), three(low * number)
        return f"{high:03d}*{number}={left},{low:02d}*{number}={right},{left}+{right}={three(value * number)}"
    inverse = "-" if sign == "+" else "+"
    return f"{three(result)}{inverse}{number}={three(apply(result, (inverse, number)))}"
