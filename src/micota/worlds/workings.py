"""The worlds by their names: their problems, and the styles in which a program writes the workings."""

import hashlib
import random
from collections.abc import Mapping
from typing import Literal

from micota.worlds.arithmetic import Chain, Rules
from micota.worlds.dates import Calendar, MovedDate
from micota.worlds.levels import CHECKED, EXPANDED, TERSE

World = Literal["arithmetic", "arithmetic-hard", "dates"]
WORLDS: Mapping[World, Rules | Calendar] = {
    "arithmetic": Rules(3, 4, (2, 9)),
    "arithmetic-hard": Rules(2, 3, (11, 99)),
    "dates": Calendar(3, 4),
}
"""What the problems of each world are like, and the program that draws them."""
Problem = Chain | MovedDate
Split = Literal["train", "dev", "test"]


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
        chain = WORLDS[world].draw(rng)
        if split_of(chain.text) == split:
            found.setdefault(chain.text, chain.answer)
    return [{"problem": text, "answer": answer} for text, answer in found.items()]


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
"""For a hard step (a product, a move by days) and for another."""
DETERMINED: tuple[Style, ...] = ("terse", "expanded", "checked")
"""The styles in which a problem has a single working."""
SLIPS: dict[Style, float] = {"checked": 0.0, "slips": 0.3}
"""How likely a checked step slips; one time in ten where nothing is said."""


def compose(style: Style, chain: Problem, rng: random.Random) -> str:
    """A problem's working in a style.

    - `terse`: every step terse. `instruct`: nearly every step.
    - `mixed`: the length of each step is drawn on its own, by its difficulty.
    - `basics`: two in three `terse`, the rest `mixed`: the quick start of pre-training.
    - `long`: nearly every step checked. One checked step in ten slips, here and in `mixed`.
    - `expanded`: every step expanded. `checked`: every step checked, and right at once. `slips`: every step
      checked, and three in ten slip.

    A slip that changes nothing, such as a forgotten carry of 0, shows nowhere.
    """
    if style == "basics":
        style = "terse" if rng.random() < 0.65 else "mixed"
    hard, other = SHARES[style]
    levels = [rng.choices((TERSE, EXPANDED, CHECKED), hard if one else other)[0] for one in chain.hard]
    slips = [rng.choice((1, 2)) if rng.random() < SLIPS.get(style, 0.1) else None for _ in chain.hard]
    return chain.write(levels, slips)
