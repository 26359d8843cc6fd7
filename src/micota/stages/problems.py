"""Read a problem set: from the Hub, from a file or folder, or from the lab's world that makes its own."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.overlap import Shared, shared
from micota.records import read_rows, text_key, write_rows
from micota.sources import LAB_WORLD
from micota.specs import Problems
from micota.store import Result
from micota.tables import table
from micota.task import Task


def run(task: Task) -> Result:
    """Write rows {key, problem, answer}. Problems whose text came before are dropped and counted."""
    spec = task.spec
    assert isinstance(spec, Problems)
    counts = {"duplicates": 0, "conflicting": 0}
    rows = _unique(read(spec, task.scratch), counts)
    kept = list(islice(rows, spec.skip, None if spec.n is None else spec.skip + spec.n))
    if not kept:
        raise MicotaError(f"no problem is left of {spec.source.ref}", fix="check split, skip and n")
    if spec.n is not None and len(kept) < spec.n:
        what = f"{spec.source.ref} has {len(kept)} problems, {spec.n} are wanted"
        raise MicotaError(what, fix=f"set n: {len(kept)}")
    if spec.decontaminate:
        kept = _decontaminated(task, spec, kept, counts)
    task.progress(len(kept), len(kept), "problems")
    write_rows(task.out / "rows.jsonl", kept)
    return Result({"problems": len(kept), **counts})


def _decontaminated(
    task: Task, spec: Problems, rows: list[dict[str, Any]], counts: dict[str, int]
) -> list[dict[str, Any]]:
    """List what the set shares with others in overlap.jsonl; with `drop`, leave those problems out."""
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


def read(spec: Problems, cache: Path | None = None) -> Generator[dict[str, Any], None, None]:
    """The rows of a problem set in their own order, as {problem, answer}; a missing column is a MicotaError.

    `cache` is where `datasets` keeps its tables: a folder of its own, removed afterwards, unless one is given.
    """
    if cache is None:
        with tempfile.TemporaryDirectory() as folder:
            yield from read(spec, Path(folder))
        return
    if spec.source.ref == LAB_WORLD:
        yield from _world(spec)
        return
    found = table(spec.source, spec.config, spec.split, cache)
    for column in (spec.problem, spec.answer):
        if column not in found.column_names:
            raise MicotaError(
                f"{spec.source.ref} has no column '{column}'; it has {', '.join(found.column_names)}",
                fix="name the columns in the recipe, as in `problem: question`",
            )
    for row in found:
        yield {"problem": row[spec.problem], "answer": row[spec.answer]}


def _world(spec: Problems) -> Iterable[dict[str, Any]]:
    from micota import arithmetic

    if spec.n is None or spec.split not in ("train", "dev", "test"):
        raise MicotaError(
            f"{LAB_WORLD} makes its problems: say how many and of which split",
            fix="{problems: {source: lab:arithmetic, split: train, n: 600}}  (or dev, test)",
        )
    if spec.config not in (None, "hard"):
        raise MicotaError(
            f"{LAB_WORLD} has no config '{spec.config}'",
            fix="leave config out, or take the harder problems: `config: hard`",
        )
    split: arithmetic.Split = spec.split  # type: ignore[assignment]
    world: arithmetic.World = "arithmetic-hard" if spec.config else "arithmetic"
    return arithmetic.problems(spec.skip + spec.n, spec.seed, split, world)


def _unique(rows: Iterable[dict[str, Any]], counts: dict[str, int]) -> Iterator[dict[str, Any]]:
    seen: dict[str, Any] = {}
    for number, row in enumerate(rows):
        if not isinstance(row["problem"], str) or not row["problem"].strip():
            raise MicotaError(f"row {number} has no text for its problem: {row['problem']!r}")
        key = text_key(row["problem"])
        if key in seen:
            counts["duplicates" if seen[key] == row["answer"] else "conflicting"] += 1
            continue
        seen[key] = row["answer"]
        yield {"key": key, **row}
