"""Select the answers that become training data, and count what was dropped and why (Eq. 1 of the paper)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from micota.errors import MicotaError
from micota.specs import Select
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.records import read_rows, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, sample, sha}: which completions of the pool to train on."""
    spec = task.spec
    assert isinstance(spec, Select)
    answers = read_rows(task.rows(spec.completions))
    decided = list(decisions(spec, answers, read_rows(task.rows(spec.verdicts))))
    dropped = Counter(reason for _, reason in decided if reason)
    chosen = [row for row, reason in decided if reason is None]
    if not chosen:
        raise MicotaError(
            f"no answer is left to train on: of {len(answers)} were dropped {dict(dropped)}",
            why="a model cannot be trained on nothing",
            fix="raise max_tokens"
            if spec.keep == "all"
            else "check the verdicts; raise max_tokens, take a stronger teacher, or set `keep: all`",
        )
    write_rows(task.out / "rows.jsonl", [{k: row[k] for k in ("key", "sample", "sha")} for row in chosen])
    lengths = [float(row["tokens"]) for row in chosen]
    facts = {"answers": len(answers), "kept": len(chosen), "mean_tokens": mean(lengths), "dropped": dict(dropped)}
    return Result(facts, list(task.input(spec.completions).pools))


def decisions(
    spec: Select, answers: Iterable[dict[str, Any]], verdicts: Iterable[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Each answer with the reason to drop it, None for one that is selected, by the rows of answers and verdicts."""
    words = {(row["key"], row["sample"]): row["verdict"] for row in verdicts}
    seen: set[str] = set()
    for row in answers:
        reason = _why_not(spec, row, words[row["key"], row["sample"]], seen)
        if reason is None:
            seen.add(row["sha"])
        yield row, reason


def _why_not(spec: Select, row: dict[str, Any], verdict: str, seen: set[str]) -> str | None:
    """The reason to drop an answer, or None. What met the token limit or is only a thought has no end to train on."""
    if row["finish"] == "length":
        return "truncated"
    if row["finish"] == "filter":
        return "filtered"
    if row.get("unanswered"):
        return "unanswered"
    if spec.max_tokens is not None and row["tokens"] > spec.max_tokens:
        return "too_long"
    if spec.keep == "correct" and verdict != "correct":
        return verdict
    if spec.duplicates == "drop" and row["sha"] in seen:
        return "duplicate"
    return None
