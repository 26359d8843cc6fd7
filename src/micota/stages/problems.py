"""Read a problem set: from the Hub, from a file or folder, or from the lab's generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from typing import Any

from micota.data.overlap import Shared, shared
from micota.data.problem_sets import read
from micota.errors import MicotaError
from micota.specs import Problems
from micota.store.artifacts import Result
from micota.store.records import read_rows, text_key, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, problem, answer}. Repeated problems are dropped and counted."""
    spec = task.spec
    assert isinstance(spec, Problems)
    counts = {"duplicates": 0, "conflicting": 0}
    rows = _unique(read(spec, task.scratch), counts)
    chosen = list(islice(rows, spec.skip, None if spec.n is None else spec.skip + spec.n))
    if not chosen:
        raise MicotaError(f"no problem is left of {spec.source.ref}", fix="check split, skip and n")
    if spec.n is not None and len(chosen) < spec.n:
        what = f"{spec.source.ref} has {len(chosen)} problems, the recipe wants {spec.n}"
        raise MicotaError(what, fix=f"set n: {len(chosen)}")
    if spec.decontaminate:
        chosen = _decontaminated(task, spec, chosen, counts)
    task.progress(len(chosen), len(chosen), "problems")
    write_rows(task.out / "rows.jsonl", chosen)
    return Result({"problems": len(chosen), **counts})


def _decontaminated(
    task: Task, spec: Problems, rows: list[dict[str, Any]], counts: dict[str, int]
) -> list[dict[str, Any]]:
    """Write what the set shares with others to overlap.jsonl; with `drop`, leave those problems out."""
    others = {
        other.benchmark or other.source.ref: {row["key"]: row["problem"] for row in read_rows(task.rows(other))}
        for other in spec.against
    }
    pairs = list(shared({row["key"]: row["problem"] for row in rows}, others))
    write_rows(task.out / "overlap.jsonl", [asdict(pair) for pair in pairs])
    hit = {pair.key for pair in pairs}
    counts |= {"in_other_sets": len(hit), **Counter(f"in {name}" for name in _each_set_once(pairs))}
    return [row for row in rows if row["key"] not in hit] if spec.decontaminate == "drop" else rows


def _each_set_once(pairs: list[Shared]) -> list[str]:
    return [name for _, name in sorted({(pair.key, pair.other_set) for pair in pairs})]


def _unique(rows: Iterable[dict[str, Any]], counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    seen: dict[str, Any] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row["problem"], str) or not row["problem"].strip():
            raise MicotaError(f"row {number} has no problem text: {row['problem']!r:.80}", fix="remove or mend the row")
        golds = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
        if not golds or not all(isinstance(gold, str | int | float) and str(gold).strip() for gold in golds):
            why = "every response to it would be wrong"
            what = f"row {number} has no reference answer: {row['answer']!r:.80}"
            raise MicotaError(what, why=why, fix="remove the row, or write its answer as a text or a number")
        key = text_key(row["problem"])
        if key in seen:
            counts["duplicates" if seen[key] == row["answer"] else "conflicting"] += 1
            continue
        seen[key] = row["answer"]
        yield {"key": key, **row}
