"""The dial's rule of choice: among the candidates that lose little, the one whose length is nearest to the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from micota.errors import MicotaError


def seen(facts: Mapping[str, Any]) -> dict[str, float]:
    """Mean tokens and accuracy of a graded set of answers."""
    return {"tokens": facts["mean_tokens"], "accuracy": facts["verdicts"].get("correct", 0) / facts["rows"]}


def against(
    reference: Mapping[str, float], weights: Sequence[float], tried: Sequence[dict[str, float]]
) -> list[dict[str, float]]:
    """One row for each weight: tokens, accuracy, share of the reference's length, loss of its accuracy."""
    return [
        {
            "weight": weight,
            **one,
            "share": one["tokens"] / reference["tokens"],
            "loss": reference["accuracy"] - one["accuracy"],
        }
        for weight, one in zip(weights, tried, strict=True)
    ]


def nearest(
    rows: Sequence[dict[str, float]], target: float, max_loss: float, fallback: bool
) -> tuple[dict[str, float], bool]:
    """The chosen row and whether it qualified; equal distances go to the smaller weight.

    If none loses at most `max_loss` that is a MicotaError, or with `fallback` the nearest of all.
    """
    fit = [row for row in rows if row["loss"] <= max_loss + 1e-9]
    if not fit and not fallback:
        least = min(row["loss"] for row in rows)
        raise MicotaError(
            f"no weight keeps the loss within max_loss {max_loss:g}: the least is {least:.3f}",
            where=f"dial, weights {', '.join(format(row['weight'], 'g') for row in rows)}",
            fix="raise max_loss, widen weight, or set `fallback: nearest`",
        )
    best = min(fit or rows, key=lambda row: (round(abs(row["share"] - target), 9), row["weight"]))
    return best, bool(fit)
