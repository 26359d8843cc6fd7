"""The lab's world: left-to-right arithmetic modulo 1000, and the ways in which it can be written down.

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

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MODULUS = 1000
Split = Literal["train", "dev", "test"]
Step = tuple[str, int]
"""One operation and its number: `("*", 5)`."""
TERSE, EXPANDED, CHECKED = 0, 1, 2


World = Literal["arithmetic", "arithmetic-hard"]


@dataclass(frozen=True)
class Rules:
    """What the problems of a world are like: how many operations, and the factors of its products."""

    shortest: int
    longest: int
    factors: tuple[int, int]


RULES: dict[World, Rules] = {"arithmetic": Rules(3, 4, (2, 9)), "arithmetic-hard": Rules(2, 3, (11, 99))}


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


def three(value: int) -> str:
    """A value modulo 1000 as three digits: 7 is `007`, -1 is `999`."""
    return f"{value % MODULUS:03d}"


def apply(value: int, step: Step) -> int:
    """The value after one step, modulo 1000."""
    sign, number = step
    result = value * number if sign == "*" else value + number if sign == "+" else value - number
    return result % MODULUS


def draw(rng: random.Random, shortest: int | None = None, world: World = "arithmetic") -> Chain:
    """A random chain of the world, with at least `shortest` operations where that is given."""
    rules = RULES[world]
    start, length = rng.randrange(MODULUS), rng.randint(shortest or rules.shortest, rules.longest)
    return Chain(start, tuple(_draw_step(rng, rules.factors) for _ in range(length)))


def _draw_step(rng: random.Random, factors: tuple[int, int]) -> Step:
    if rng.random() < 0.5:
        return "*", rng.randint(*factors)
    return rng.choice("+-"), rng.randint(10, 99)


def split_of(text: str) -> Split:
    """The one split to which a problem belongs, by a hash of its text: 8 in 10 train, 1 dev, 1 test."""
    tenth = hashlib.sha256(text.encode()).digest()[0] % 10
    return "test" if tenth == 0 else "dev" if tenth == 1 else "train"


def problems(n: int, seed: int = 0, split: Split = "train", world: World = "arithmetic") -> list[dict[str, str]]:
    """`n` different problems of a split of a world, as rows of `problem` and `answer`.

    Splits never share a problem, whatever `n` and `seed`; more problems of one seed begin with the fewer:

    >>> problems(2, seed=1) == problems(10, seed=1)[:2]
    True
    """
    rng = random.Random(f"problems {split} {seed}")
    found: dict[str, str] = {}
    while len(found) < n:
        chain = draw(rng, world=world)
        if split_of(chain.text) == split:
            found.setdefault(chain.text, chain.answer)
    return [{"problem": text, "answer": answer} for text, answer in found.items()]


def write(chain: Chain, levels: Sequence[int], slips: Sequence[int | None] = ()) -> str:
    """The chain's working, each step at its level, and the boxed answer.

    `slips` names, for a checked step, the digit (1 or 2) whose incoming carry is forgotten at first.
    """
    values = chain.values
    slips = slips or [None] * len(levels)
    steps = map(_write_step, values, chain.steps, levels, slips)
    return "".join(steps) + rf"\boxed{{{chain.answer}}}"


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


Style = Literal["basics", "mixed", "instruct", "terse", "long", "expanded", "checked", "slips"]
"""What a working is composed in: the mixtures of pre-training and the styles of tuning, see `compose`."""

Shares = tuple[float, float, float]
"""How likely a step is terse, expanded, checked."""
SHARES: dict[Style, tuple[Shares, Shares]] = {
    "terse": ((1, 0, 0), (1, 0, 0)),
    "instruct": ((0.85, 0.15, 0), (0.95, 0.05, 0)),
    "mixed": ((0.15, 0.60, 0.25), (0.75, 0.15, 0.10)),
    "long": ((0, 0.1, 0.9), (0, 0.1, 0.9)),
    "expanded": ((0, 1, 0), (0, 1, 0)),
    "checked": ((0, 0, 1), (0, 0, 1)),
    "slips": ((0, 0, 1), (0, 0, 1)),
}
"""For a product, which is hard, and for a sum or a difference, which is not."""
DETERMINED: tuple[Style, ...] = ("terse", "expanded", "checked")
"""The styles in which a problem has a single working."""
SLIPS: dict[Style, float] = {"checked": 0.0, "slips": 0.3}
"""How likely a checked step forgets a carry; one time in ten where nothing is said."""


def compose(style: Style, chain: Chain, rng: random.Random) -> str:
    """The chain's working in a style.

    - `terse`: every step terse. `instruct`: nearly every step.
    - `mixed`: the length of each step is drawn on its own, by its difficulty.
    - `basics`: two in three `terse`, the rest `mixed`: the quick start of pre-training.
    - `long`: nearly every step checked. One checked step in ten forgets a carry, here and in `mixed`.
    - `expanded`: every step expanded. `checked`: every step checked, and right at once. `slips`: every step
      checked, and three in ten forget a carry.

    A forgotten carry of 0 changes nothing and shows nowhere.
    """
    if style == "basics":
        style = "terse" if rng.random() < 0.65 else "mixed"
    product, other = SHARES[style]
    levels = [rng.choices((TERSE, EXPANDED, CHECKED), product if s == "*" else other)[0] for s, _ in chain.steps]
    slips = [rng.choice((1, 2)) if rng.random() < SLIPS.get(style, 0.1) else None for _ in chain.steps]
    return write(chain, levels, slips)
