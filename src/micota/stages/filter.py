"""Select the responses of a data set whose measure under a model is lowest, such as their rank-surprisal ratio."""

from __future__ import annotations

from typing import Any

from micota.specs import SelectBy
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.records import read_rows, text_key, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, sample, sha}: the share of the measured responses that is kept; equal values by their keys."""
    spec = task.spec
    assert isinstance(spec, SelectBy)
    rows = read_rows(task.rows(spec.measure))
    measured = [(value, text_key(row["key"], str(row["sample"])), row) for row in rows
                if (value := _value(spec.by, row)) is not None]  # fmt: skip
    measured.sort(key=lambda one: one[:2])
    chosen = [row for _, _, row in measured[: max(1, round(spec.keep * len(measured)))]]
    write_rows(task.out / "rows.jsonl", [{name: row[name] for name in ("key", "sample", "sha")} for row in chosen])
    drops = {"unmeasured": len(rows) - len(measured), "beyond_the_share": len(measured) - len(chosen)}
    dropped = {reason: number for reason, number in drops.items() if number}
    tokens = mean([float(row["tokens"]) for row in chosen])
    facts = {"answers": len(rows), "kept": len(chosen), "mean_tokens": tokens, "dropped": dropped}
    return Result(facts, list(task.input(spec.measure).pools))


def _value(by: str, row: dict[str, Any]) -> float | None:
    """What is to be low; None for a response without a token that the model knows."""
    if not row["tokens"]:
        return None
    if by == "bpc":
        return float(row["nats"] / row["characters"])
    if by == "beyond":
        return float(row["beyond"] / row["tokens"])
    return -float(row["local"]) if by == "local" else float(row[by])
