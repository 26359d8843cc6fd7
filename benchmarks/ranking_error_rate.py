"""How often the analysis of rankings claims what is not so, in simulated maps; nominally 2.5 % on each side.

    python benchmarks/ranking_error_rate.py [--maps 1000] [--seed 0]

Each map has three students, eight seeds and seven data sets. Accuracies are those of 200 problems, with an effect of
each student and data set that is the same in all seeds, and one of each seed's student. Printed are the shares of maps

- in which the best of four useless measures and their pairs, chosen on half of the seeds, is called better or worse on
  the other half than the mean of the data sets, and the same when it is tested on the seeds that it was chosen on;
- in which a regret of 3 points is called smaller than 3 points.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

from micota.report.data_ranking import regrets, tested
from micota.stats import interval

USELESS = ("rsr", "bpc", "local", "gradient")
EDGE = 0.03
HEADS = ("better", "worse", "better, tested where chosen", "regret called smaller")


def table(dice: np.random.Generator, chance: np.ndarray, **measures: np.ndarray) -> pd.DataFrame:
    """A map out of the chances (student, seed, data set) that a problem is solved."""
    shape = chance.shape
    index = pd.MultiIndex.from_product([range(n) for n in shape], names=["student", "seed", "data"])
    accuracy = dice.binomial(200, np.clip(chance, 0.02, 0.98)) / 200
    columns = {name: np.broadcast_to(values, shape).ravel() for name, values in measures.items()}
    return pd.DataFrame({"accuracy": accuracy.ravel(), **columns}, index).reset_index()


def claims(dice: np.random.Generator) -> tuple[bool, ...]:
    """What is claimed of one simulated map, in the order of HEADS; all of it is false."""
    chance = dice.normal(0.5, 0.1, (3, 1, 7)) + dice.normal(0, 0.08, (3, 8, 1))
    useless = table(dice, chance, **{name: dice.random((3, 8, 7)) for name in USELESS})
    found = tested(useless)
    dredged = regrets(useless[useless["seed"] < 4], found.names)  # the seeds on which these were chosen
    again = interval(list(dredged.groupby("seed")["gain"].mean()))
    level = dice.normal(0.6, 0.08, (3, 8, 1)) + np.array([0.0, -EDGE, -0.2, -0.3])
    near = tested(table(dice, level, rsr=np.array([2.0, 1.0, 3.0, 4.0])), ["rsr"]).regret
    return found.gain.low > 0, found.gain.high < 0, again.low > 0, near.high < EDGE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dice = np.random.default_rng(given.seed)
    shares = np.array([claims(dice) for _ in range(given.maps)]).mean(axis=0)
    for head, share in zip(HEADS, shares, strict=True):
        error = np.sqrt(share * (1 - share) / given.maps)
        print(f"{head:30} {100 * share:5.1f} % ± {100 * error:.1f}")


if __name__ == "__main__":
    main()
