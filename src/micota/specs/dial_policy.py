"""The policy of the length dial: which settings are tried, round by round, and which of them is chosen.

The choice: among the candidates that lose little, the one whose length is nearest to the target.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from micota.errors import MicotaError
from micota.stats import Observed, mean, paired, ratio

SETTINGS = ("weight", "density", "lambda")
CLOSE = 0.01
"""A candidate whose share of the reference's length is this near to the target ends the search."""
Ranges = Mapping[str, float | tuple[float, float]]
Row = Mapping[str, float]


def ends(value: float | tuple[float, float]) -> tuple[float, float]:
    """The two ends of a range; a value is both."""
    return value if isinstance(value, tuple) else (value, value)


def grid(ranges: Ranges, steps: int) -> list[dict[str, float]]:
    """The settings of the first round: `steps` values along each range, both ends included, in all combinations."""
    axes = [
        [round(one[0] + (one[1] - one[0]) * i / (steps - 1), 6) for i in range(steps)]
        if isinstance(one, tuple)
        else [one]
        for one in (ranges[name] for name in SETTINGS)
    ]
    return [dict(zip(SETTINGS, point, strict=True)) for point in itertools.product(*axes)]


def finer(ranges: Ranges, rows: Sequence[Row], target: float, max_loss: float) -> list[dict[str, float]]:
    """The settings of the next round, none if the search has ended.

    Around the candidate that would be chosen now, or, if none loses little, around the one that loses least: half way
    to the next value on either side, along each range.
    """
    fit = _fitting(rows, max_loss)
    centre = min(fit, key=_distance(target)) if fit else min(rows, key=lambda row: row["loss"])
    if fit and abs(centre["share"] - target) <= CLOSE:
        return []
    found = []
    for name in (name for name in SETTINGS if isinstance(ranges[name], tuple)):
        values = sorted({row[name] for row in rows})
        at = values.index(centre[name])
        for other in values[max(0, at - 1) : at] + values[at + 1 : at + 2]:
            setting = {one: centre[one] for one in SETTINGS} | {name: round((centre[name] + other) / 2, 6)}
            if setting not in [{one: row[one] for one in SETTINGS} for row in rows]:
                found.append(setting)
    return found


def row(
    setting: Mapping[str, float], tokens: Observed, right: Observed, reference: tuple[Observed, Observed]
) -> dict[str, float]:
    """What a candidate came to: means, its share of the reference's length and its loss of accuracy, each with the
    ends of its 95 % interval, paired by problem (left out where no spread can be read)."""
    share = ratio((tokens, reference[0]))
    lost = paired((reference[1], right))
    made = {
        "tokens": mean(list(tokens.values())),
        "accuracy": mean(list(right.values())),
        "share": share.value,
        "share_low": share.low,
        "share_high": share.high,
        "loss": lost.value,
        "loss_low": lost.low,
        "loss_high": lost.high,
        "n": len(right),
    }
    return {**setting, **{name: value for name, value in made.items() if math.isfinite(value)}}


def nearest(rows: Sequence[Row], target: float, max_loss: float, fallback: bool) -> tuple[Row, bool]:
    """The row nearest to the target, and whether it loses at most `max_loss`; equal ones go to the smaller weight."""
    best = min(fitting(rows, max_loss, fallback), key=_distance(target))
    return best, bool(_fitting([best], max_loss))


def preferred(rows: Sequence[Row], measures: Sequence[float], max_loss: float) -> tuple[Row, bool]:
    """The row with the lowest measure, and whether it loses at most `max_loss`; equal ones go to the smaller weight."""
    best = min(zip(measures, rows, strict=True), key=lambda one: (one[0], *(one[1][name] for name in SETTINGS)))[1]
    return best, bool(_fitting([best], max_loss))


def fitting(rows: Sequence[Row], max_loss: float, fallback: bool) -> Sequence[Row]:
    """The rows that lose at most `max_loss`.

    If there are none that is a MicotaError, or with `fallback` all rows.
    """
    fit = _fitting(rows, max_loss)
    if not fit and not fallback:
        least = min(rows, key=lambda row: row["loss"])
        raise MicotaError(
            f"no candidate keeps the loss within max_loss {max_loss:g}: the least is {least['loss']:.3f}",
            where=f"dial, {len(rows)} candidates; the least is lost by {setting_text(least)}",
            fix="raise max_loss, widen weight, density or lambda, or set `fallback: nearest`",
        )
    return fit or rows


def _fitting(rows: Sequence[Row], max_loss: float) -> list[Row]:
    return [row for row in rows if row["loss"] <= max_loss + 1e-9]


def _distance(target: float) -> Any:
    return lambda row: (round(abs(row["share"] - target), 9), *(row[name] for name in SETTINGS))


def same_setting(row: Row, setting: Row) -> bool:
    """Whether a candidate has these settings."""
    return all(row[name] == setting[name] for name in SETTINGS)


def setting_text(row: Row) -> str:
    """`weight 0.55`, with density and lambda where they are not 1."""
    return ", ".join(f"{name} {row[name]:g}" for name in SETTINGS if name == "weight" or row[name] != 1)
