"""The statistics that the tables show."""

from __future__ import annotations

import math
from collections.abc import Sequence


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean; nan of nothing."""
    return sum(values) / len(values) if values else math.nan


def accuracy(correct: int, n: int) -> tuple[float, float]:
    """A proportion and its standard error sqrt(p (1 - p) / n); (nan, nan) of nothing."""
    if n == 0:
        return math.nan, math.nan
    share = correct / n
    return share, math.sqrt(share * (1 - share) / n)


def clustered_accuracy(correct_of: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """Accuracy over problems with several samples each, and its standard error with problems as the units.

    `correct_of` holds one sequence of verdicts for each problem. With one sample a problem it is `accuracy`.
    """
    if all(len(verdicts) == 1 for verdicts in correct_of):
        return accuracy(sum(verdicts[0] for verdicts in correct_of), len(correct_of))
    shares = [mean([float(v) for v in verdicts]) for verdicts in correct_of]
    centre = mean(shares)
    if len(shares) < 2:
        return centre, math.nan
    variance = sum((share - centre) ** 2 for share in shares) / (len(shares) - 1)
    return centre, math.sqrt(variance / len(shares))
