"""The word for a claim, from its interval over problems and its interval over seeds, and from nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from micota.stats import Estimate, interval

HOLDS, HERE, THESE = "holds", "holds in this run", "holds for these models"
NOT_SHOWN, REVERSED, OUTSIDE = "not shown", "reversed", "outside"
NO_LOSS, LOSES, MISSING = "no loss shown", "loses", "missing"


@dataclass(frozen=True)
class Evidence:
    """What is known of a claim: the figure with its interval over problems, and the same figure of each seed.

    The claim is that the figure lies above `low` and not above `high` (by default, that it is above zero).
    """

    over_problems: Estimate
    by_seed: Sequence[float]
    low: float = 0.0
    high: float = math.inf

    @property
    def over_seeds(self) -> Estimate:
        """The mean over seeds with its t interval."""
        return interval(self.by_seed)

    @property
    def seeds_right(self) -> int:
        """How many seeds lie on the claim's side by themselves."""
        return sum(self.low < value <= self.high for value in self.by_seed)

    def inside(self, estimate: Estimate) -> bool:
        """Whether an interval lies wholly on the claim\'s side."""
        return estimate.low > self.low and estimate.high < self.high

    def beyond(self, estimate: Estimate) -> bool:
        """Whether an interval lies wholly on the other side."""
        return estimate.high < self.low or estimate.low > self.high


def word(of: Evidence) -> str:
    """`holds`: both intervals lie on the claim's side; with a single seed only the first exists: `holds in this run`.

    `holds for these models`: only the interval over problems does. `reversed` (of a range: `outside`): that interval
    lies wholly on the other side. `not shown`: it does neither, or there is none.
    """
    if math.isnan(of.over_problems.value):
        return MISSING
    if of.beyond(of.over_problems):
        return REVERSED if of.high == math.inf else OUTSIDE
    if not of.inside(of.over_problems):
        return NOT_SHOWN
    if len(of.by_seed) < 2:
        return HERE
    return HOLDS if of.inside(of.over_seeds) else THESE


def loss_word(of: Evidence) -> str:
    """`loses` where the interval of the loss lies above zero; else `no loss shown`, which is not: no loss.

    A loss without an interval is `not shown`.
    """
    estimate = of.over_problems
    if math.isnan(estimate.value):
        return MISSING
    if math.isnan(estimate.low) and estimate.value > 0:
        return NOT_SHOWN
    return LOSES if of.beyond(estimate) else NO_LOSS
