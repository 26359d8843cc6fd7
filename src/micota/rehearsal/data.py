"""Eight problems in the place of thousands: the real ones wherever they can be had, else sums in the named columns."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.sources import LAB_WORLD, content_hash
from micota.specs import Problems, Source, sha
from micota.stages import problems

ROWS = 8


@dataclass(frozen=True)
class Few:
    """A problem set of a few rows: the fields that are changed, its rows, and where they are from."""

    fields: dict[str, Any]
    rows: list[dict[str, Any]]
    origin: str


def few(spec: Problems, folder: Path, online: bool) -> Few:
    """The first rows of a problem set. What cannot be read keeps its source: its stage will say what is wrong."""
    wanted = min(spec.n or ROWS, ROWS)
    if spec.source.path or spec.source.ref == LAB_WORLD:
        rows = _own(spec, wanted)
        return Few({"n": len(rows) or wanted}, rows, "real")
    rows = _streamed(spec, wanted) if online else []
    origin = "real" if rows else "stand-in"
    made = rows or [_sum(spec, spec.skip + i) for i in range(wanted)]
    path = folder / f"{spec.digest}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({spec.problem: r["problem"], spec.answer: r["answer"]}) + "\n" for r in made))
    source = Source(ref=spec.source.ref, revision=content_hash(path), path=str(path))
    return Few({"source": source, "n": None, "skip": 0}, made, origin)


def _own(spec: Problems, wanted: int) -> list[dict[str, Any]]:
    """The first different rows of a local set; none if it cannot be read."""
    found: dict[str, dict[str, Any]] = {}
    fields = {name: getattr(spec, name) for name in type(spec).model_fields}
    short = spec if spec.source.path else Problems(**{**fields, "n": wanted})
    try:
        with contextlib.closing(problems.read(short)) as rows:
            for row in rows:
                found.setdefault(str(row["problem"]), row)
                if len(found) == spec.skip + wanted:
                    break
    except MicotaError:
        return []
    return list(found.values())[spec.skip :]


def _streamed(spec: Problems, wanted: int) -> list[dict[str, Any]]:
    """The first rows of a data set of the Hub, without the rest of it; none if the Hub does not give them.

    Columns that are not there are a MicotaError, as they would be in the run.
    """
    import datasets

    try:
        table = datasets.load_dataset(
            spec.source.ref, spec.config, split=spec.split or "train", revision=spec.source.revision, streaming=True
        )
        rows = list(islice(table, spec.skip, spec.skip + wanted))
    except Exception:  # whatever the Hub or a loader says, there are stand-ins
        return []
    for column in (spec.problem, spec.answer):
        if rows and column not in rows[0]:
            raise MicotaError(f"{spec.source.ref} has no column '{column}'; it has {', '.join(rows[0])}")
    return [{"problem": row[spec.problem], "answer": row[spec.answer]} for row in rows]


def _sum(spec: Problems, row: int) -> dict[str, Any]:
    """A problem of its own for each row of each split, with its answer in the form of the benchmark."""
    start = int(sha([spec.source.ref, spec.config, spec.split]), 16) % 9000
    one, two = 1000 + start, 2 + row
    answer: Any = str(one + two)
    if spec.benchmark == "olympiadbench":
        answer = [answer]
    elif spec.benchmark == "gsm8k":
        answer = f"{one} + {two} = {answer}\n#### {answer}"
    return {"problem": f"What is {one} + {two}?", "answer": answer}
