"""Whether a measure that is known before training names the best data for a student: rank correlation, regret, and a
choice on one half that is tested on the other.

A map is a table with a row for each student, seed and data set: `student`, `seed`, `data`, `accuracy` (a share) and a
column for each measure. Accuracies and regrets are shares; 0.01 is a point.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from micota.stats import RESAMPLES, Estimate, bootstrap, interval

if TYPE_CHECKING:
    from pandas import DataFrame

PREFERRED = {"rsr": -1, "bpc": -1, "local": 1, "beyond": -1, "tokens": -1,
             "trial_loss": -1, "trial_accuracy": 1, "gradient": 1}  # fmt: skip
"""The measures, with the end that is preferred: 1 the highest, -1 the lowest."""
NAMED_BY = "rsr"
"""The measure by which a ranking is sorted."""
UNSHOWN = "not yet shown to name the best data."
WORTH = (
    f"{UNSHOWN} In a published table of five students of 3B to 14B by eleven teachers "
    "(arXiv 2601.14249) its first data set is 0 to 1.2 points below the best one, but it is the same for all five; in "
    "the lab it names the wrong one."
)
"""What that order is worth."""
UNIT = ["student", "seed"]
Names = tuple[str, ...]


def ranks(frame: DataFrame, names: Names) -> DataFrame:
    """A row for each student and seed, a column for each data set: its rank by a measure, the preferred first.

    Of several measures the ranks are added up. A data set without a measure has no rank (nan).
    """
    tables = [_wide(frame, name).rank(axis=1, ascending=PREFERRED[name] < 0) for name in names]
    return sum(tables[1:], tables[0])


def correlations(frame: DataFrame, names: Sequence[str] | None = None) -> DataFrame:
    """Spearman's correlation of each measure with the accuracy after training, for each student over the data sets.

    Positive where the measure prefers what teaches well. Columns: student, measure, value, low, high, n. Of several
    seeds it is the mean of the seeds' correlations, with `stats.bootstrap` over seeds; of one, the data sets are
    resampled (percentiles of 10,000 resamples), and n is their number.
    """
    import pandas as pd

    accuracy = _wide(frame, "accuracy")
    rows = []
    for name in names or measures(frame):
        order = -ranks(frame, (name,))
        for student, own in accuracy.groupby(level="student"):
            found = _correlation(order.loc[own.index].to_numpy(), own.to_numpy())
            rows.append({"student": student, "measure": name, **_ends(found)})
    return pd.DataFrame(rows)


def measures(frame: DataFrame) -> list[str]:
    """The measures that a map has."""
    return [name for name in frame if name in PREFERRED and frame[name].notna().any()]


def regrets(frame: DataFrame, names: Names) -> DataFrame:
    """What following a measure costs: columns student, seed, regret, gain.

    The regret is the accuracy of the student's best data set (the highest mean over the seeds of the map) less that of
    the preferred one; the gain is that of the preferred one less the mean of all. Data sets that are preferred equally
    count with their mean.
    """
    accuracy = _wide(frame, "accuracy")
    return _regrets(accuracy, _followed(accuracy, ranks(frame, names))).reset_index()


def worth(frame: DataFrame) -> DataFrame:
    """For each measure what it was worth: its mean correlation over the students, the lowest and the highest of them,
    and means over the seeds of regret and gain with t intervals. Columns: measure, correlation, lowest, highest,
    regret, regret_low, regret_high, gain, gain_low, gain_high.
    """
    import pandas as pd

    rows = []
    for name, own in correlations(frame).groupby("measure", sort=False)["value"]:
        found = regrets(frame, (str(name),)).groupby("seed")
        row: dict[str, Any] = {"measure": name, "correlation": own.mean(), "lowest": own.min(), "highest": own.max()}
        for what in ("regret", "gain"):
            mean = interval(list(found[what].mean()))
            row |= {what: mean.value, f"{what}_low": mean.low, f"{what}_high": mean.high}
        rows.append(row)
    return pd.DataFrame(rows).sort_values("regret", kind="stable", ignore_index=True)


@dataclass(frozen=True)
class Tested:
    """A measure, or two together, that was chosen on one half of the units and tested on the other.

    `regret` and `gain` are means over the units of the testing half with t intervals; `constant` is the regret
    of training on what was best on the choosing half, the control that needs no measure.
    """

    names: Names
    regret: Estimate
    gain: Estimate
    constant: Estimate


def tested(
    frame: DataFrame,
    names: Sequence[str] | None = None,
    unit: Literal["seed", "student"] = "seed",
    chosen: Sequence[Hashable] | None = None,
) -> Tested:
    """Choose the measure, or the two, with the least mean regret on some units (by default the first half), and test it
    on the others. Nothing of the testing half is looked at before; the regret there is against its own best data set.
    """
    units = sorted(frame[unit].unique())
    first = list(chosen) if chosen is not None else units[: len(units) // 2]
    mine = frame[unit].isin(first)
    names = names or measures(frame)
    ways: list[Names] = [(one,) for one in names] + list(itertools.combinations(names, 2))
    best = _least(frame[mine], ways)
    rest = frame[~mine]
    accuracy = _wide(rest, "accuracy")
    found = regrets(rest, best)
    fixed = _regrets(accuracy, _constant(_wide(frame[mine], "accuracy"), accuracy)).reset_index()
    regret, gain, constant = (
        interval(list(table.groupby(unit)[column].mean()))
        for table, column in ((found, "regret"), (found, "gain"), (fixed, "regret"))
    )
    return Tested(best, regret, gain, constant)


def _least(frame: DataFrame, ways: Sequence[Names]) -> Names:
    """The way with the least mean regret; of equal ones the first."""
    accuracy = _wide(frame, "accuracy")
    single = {name: ranks(frame, (name,)) for way in ways for name in way if len(way) == 1}
    reached = [_followed(accuracy, sum(single[name] for name in way)) for way in ways]
    costs = [float(_regrets(accuracy, one)["regret"].mean()) for one in reached]
    return ways[min(range(len(ways)), key=lambda i: (math.isnan(costs[i]), round(costs[i], 12)))]


def _constant(before: DataFrame, accuracy: DataFrame) -> Any:
    """The accuracy, by row, of the data set that was best before: for the student where it was there, else overall."""
    overall = before.mean().idxmax()
    best = before.groupby(level="student").mean().idxmax(axis=1)
    return [accuracy.at[index, best.get(index[0], overall)] for index in accuracy.index]


def _followed(accuracy: DataFrame, order: DataFrame) -> Any:
    """The accuracy, by row, of the data sets with the first rank."""
    import numpy as np

    places = order.to_numpy()
    first = places == np.nanmin(places, axis=1, keepdims=True)
    return (accuracy.to_numpy() * first).sum(axis=1) / first.sum(axis=1)


def _regrets(accuracy: DataFrame, reached: Any) -> DataFrame:
    """Regret and gain, by row, of reaching so much."""
    import numpy as np
    import pandas as pd

    values, students = accuracy.to_numpy(), pd.factorize(accuracy.index.get_level_values("student"))[0]
    best = np.array([values[students == i].mean(axis=0).argmax() for i in range(students.max() + 1)])
    highest = values[np.arange(len(values)), best[students]]
    return pd.DataFrame({"regret": highest - reached, "gain": reached - values.mean(axis=1)}, accuracy.index)


def _wide(frame: DataFrame, column: str) -> DataFrame:
    return frame.set_index([*UNIT, "data"])[column].astype(float).unstack("data")


def _correlation(order: Any, accuracy: Any) -> Estimate:
    """Of arrays (seed, data set): over the seeds, or with one seed over resampled data sets."""
    import numpy as np

    if len(order) > 1:
        return bootstrap([float(one) for one in _spearman(order, accuracy) if np.isfinite(one)])
    there = np.isfinite(order[0]) & np.isfinite(accuracy[0])
    x, y = order[0][there], accuracy[0][there]
    value = float(_spearman(x[None], y[None])[0])
    picks = np.random.default_rng(0).integers(0, len(x), (RESAMPLES, len(x)))
    draws = _spearman(x[picks], y[picks])
    draws = draws[np.isfinite(draws)]  # a resample of one data set alone has no order
    if not len(draws):
        return Estimate(value, n=len(x))
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(draws.std()), float(low), float(high), len(x))


def _spearman(x: Any, y: Any) -> Any:
    """Spearman's correlation of each row of two arrays; nan of a row without differences."""
    import numpy as np
    from scipy.stats import rankdata

    none = np.isnan(x) | np.isnan(y)
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = (rankdata(np.where(none, np.nan, one), axis=1, nan_policy="omit") for one in (x, y))
        a, b = (one - np.nansum(one, axis=1, keepdims=True) / (~none).sum(axis=1, keepdims=True) for one in (a, b))
        return np.nansum(a * b, axis=1) / np.sqrt(np.nansum(a**2, axis=1) * np.nansum(b**2, axis=1))


def _ends(found: Estimate) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}
