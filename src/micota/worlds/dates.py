"""The lab's second world: a date that is moved some times, in words.

A problem is `14 March, 25 days later, 2 months later, 41 days earlier`: three or four moves, half of them by 10 to 50
days, which is hard, the rest by months. A year has 365 days. The answer is a date. A step at its three lengths:

    terse       25 days later: 8 April.
    expanded    25 days later: 14+25=39, March has 31, 39-31=8, April has 30: 8 April.
    checked     25 days later: 14+25=39, March has 31, 39-31=8, April has 30: 8 April.
                Check: 8-25=-17, March has 31, -17+31=14: 14 March, right.           (all on one line)

A checked step may first take a month for one day longer or shorter than it is, notice it (` wrong. Again, `) and be
done again. A month's number of days is looked up, not computed: words and numbers mix, unlike in arithmetic.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from micota.worlds.levels import EXPANDED, TERSE

MONTHS = (
    ("January", 31),
    ("February", 28),
    ("March", 31),
    ("April", 30),
    ("May", 31),
    ("June", 30),
    ("July", 31),
    ("August", 31),
    ("September", 30),
    ("October", 31),
    ("November", 30),
    ("December", 31),
)
Date = tuple[int, int]
"""Day from 1 on, and month from 0 on."""
Move = tuple[int, str]
"""How far, later or earlier, and the unit: `(-25, "days")`."""


@dataclass(frozen=True)
class Calendar:
    """What the problems are like: how many moves."""

    shortest: int
    longest: int

    def draw(self, rng: random.Random, shortest: int | None = None) -> "MovedDate":
        """A random date with at least `shortest` moves where that is given."""
        month = rng.randrange(12)
        start = (rng.randint(1, MONTHS[month][1]), month)
        moves = tuple(_draw_move(rng) for _ in range(rng.randint(shortest or self.shortest, self.longest)))
        return MovedDate(start, moves)


@dataclass(frozen=True)
class MovedDate:
    """A date and its moves, one after the other."""

    start: Date
    moves: tuple[Move, ...]

    @property
    def text(self) -> str:
        """The problem as the model reads it: `14 March, 25 days later, 2 months earlier`."""
        return ", ".join([name(self.start), *map(_words, self.moves)])

    @property
    def dates(self) -> list[Date]:
        """The date before the first move and after each."""
        dates = [self.start]
        for move in self.moves:
            dates.append(work(dates[-1], move)[1])
        return dates

    @property
    def answer(self) -> str:
        """The last date, as `8 April`."""
        return name(self.dates[-1])

    @property
    def hard(self) -> list[bool]:
        """Whether each move is by days."""
        return [unit == "days" for _, unit in self.moves]

    def write(self, levels: Sequence[int], slips: Sequence[int | None] = ()) -> str:
        """The working, each move at its level, and the boxed answer.

        `slips` makes, for a checked move by days, the first month longer (1) or shorter (2) by a day at first.
        """
        slips = slips or [None] * len(levels)
        return " ".join([*map(_write_move, self.dates, self.moves, levels, slips), rf"\boxed{{{self.answer}}}"])


def _draw_move(rng: random.Random) -> Move:
    way = rng.choice((1, -1))
    return (way * rng.randint(10, 50), "days") if rng.random() < 0.5 else (way * rng.randint(2, 9), "months")


def name(date: Date) -> str:
    """A date as `8 April`."""
    return f"{date[0]} {MONTHS[date[1]][0]}"


def _words(move: Move) -> str:
    return f"{abs(move[0])} {move[1]} {'later' if move[0] > 0 else 'earlier'}"


def _write_move(date: Date, move: Move, level: int, slip: int | None) -> str:
    head, (text, result) = _words(move), work(date, move)
    if level == TERSE:
        return f"{head}: {name(result)}."
    if level == EXPANDED:
        return f"{head}: {text}: {name(result)}."
    sure = f"{head}: {text}: {name(result)}. {check(date, move, result)}, right."
    wrong_text, wrong = work(date, move, slip)
    if wrong == result:
        return sure
    return f"{head}: {wrong_text}: {name(wrong)}. {check(date, move, wrong)}, wrong. Again, {sure}"


def work(date: Date, move: Move, slip: int | None = None) -> tuple[str, Date]:
    """How a move is computed, and where it ends; `slip` takes the first month that is passed for a day off."""
    number, unit = move
    if unit == "days":
        return _count_days(date, number, {1: 1, 2: -1}.get(slip or 0, 0))
    month = (date[1] + number) % 12
    way = 1 if number > 0 else -1
    passed = [MONTHS[(date[1] + way * step) % 12][0] for step in range(1, abs(number) + 1)]
    return f"{', '.join(passed)} has {MONTHS[month][1]}", (min(date[0], MONTHS[month][1]), month)


def _count_days(date: Date, days: int, error: int) -> tuple[str, Date]:
    """The days added or taken, then month by month until they are days of a month."""
    (day, month), parts = date, []
    total = day + days
    parts.append(f"{day}{days:+d}={total}")
    while True:
        if days < 0 and total > 0:
            return ", ".join(parts), (total, month)
        month = month if days > 0 else (month - 1) % 12
        length = MONTHS[month][1] + error
        parts.append(f"{MONTHS[month][0]} has {length}")
        if days > 0 and total <= length:
            return ", ".join(parts), (total, month)
        step = -length if days > 0 else length
        parts.append(f"{total}{step:+d}={total + step}")
        total, error = total + step, 0
        month = (month + 1) % 12 if days > 0 else month


def check(date: Date, move: Move, result: Date) -> str:
    """The move by another route: days are moved back, months are counted by their numbers."""
    number, unit = move
    if unit == "days":
        text, back = work(result, (-number, unit))
        return f"Check: {text}: {name(back)}"
    total = date[1] + 1 + number
    wrap = "" if 1 <= total <= 12 else f", {total}{-12 if total > 12 else 12:+d}={(total - 1) % 12 + 1}"
    return f"Check: {date[1] + 1}{number:+d}={total}{wrap}: {MONTHS[result[1]][0]}"
