"""Eight problems in the place of thousands: the real ones wherever they can be had, else sums in the named columns."""

from __future__ import annotations

import contextlib
import json
import tempfile
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from micota.data import problem_sets
from micota.data.loading import table
from micota.errors import MicotaError
from micota.specs import Problems, SftData, Source, sha
from micota.store.resolution import LAB_WORLDS, content_hash

ROWS = 8


@dataclass(frozen=True)
class Few:
    """A data set of a few rows: the fields that are changed, its rows, and where they are from."""

    fields: dict[str, Any]
    rows: list[dict[str, Any]]
    origin: str


def few(spec: Problems, folder: Path, online: bool) -> Few:
    """The first rows of a problem set. What cannot be read keeps its source: its stage will say what is wrong."""
    wanted = min(spec.n or ROWS, ROWS)
    if spec.source.path or spec.source.ref in LAB_WORLDS:
        rows = _own(spec, wanted)
        return Few({"n": len(rows) or wanted}, rows, "real")
    rows = _streamed(spec, wanted) if online else []
    origin = "real" if rows else "stand-in"
    made = rows or [_sum(spec, spec.skip + i) for i in range(wanted)]
    columns = [{spec.problem: row["problem"], spec.answer: row["answer"]} for row in made]
    return Few({**_file(spec, columns, folder), "n": None, "skip": 0}, made, origin)


def _own(spec: Problems, wanted: int) -> list[dict[str, Any]]:
    """The first different rows of a local set; none if it cannot be read."""
    found: dict[str, dict[str, Any]] = {}
    short = spec if spec.source.path else spec.changed(n=wanted)
    try:
        with contextlib.closing(problem_sets.read(short)) as rows:
            for row in rows:
                found.setdefault(str(row["problem"]), row)
                if len(found) == spec.skip + wanted:
                    break
    except MicotaError:
        return []
    return list(found.values())[spec.skip :]


def _streamed(spec: Problems, wanted: int) -> list[dict[str, Any]]:
    """The first rows of a data set of the Hub; none if it does not give them.

    Columns that are not there are a MicotaError, as they would be in the run.
    """
    rows = _from_the_hub(spec, spec.skip, wanted)
    for column in (spec.problem, spec.answer):
        if rows and column not in rows[0]:
            raise MicotaError(f"{spec.source.ref} has no column '{column}'; it has {', '.join(rows[0])}")
    return [{"problem": row[spec.problem], "answer": row[spec.answer]} for row in rows]


def _from_the_hub(spec: Problems | SftData, skip: int, wanted: int) -> list[dict[str, Any]]:
    """Rows of a data set of the Hub, without the rest of it; none if it does not give them."""
    import datasets

    source = spec.source
    try:
        found = datasets.load_dataset(
            source.ref, spec.config, split=spec.split or "train", revision=source.revision, streaming=True
        )
        return list(islice(found, skip, skip + wanted))
    except Exception:  # whatever the Hub or a loader says, there are stand-ins
        return []


def few_rows(spec: SftData, folder: Path, online: bool) -> Few:
    """The first rows of training data made elsewhere, with all their columns."""
    if spec.source.path:
        try:
            with tempfile.TemporaryDirectory() as cache:
                rows = [dict(row) for row in islice(table(spec.source, spec.config, spec.split, Path(cache)), ROWS)]
        except MicotaError:
            return Few({}, [], "real")
        return Few(_file(spec, rows, folder), rows, "real")
    rows = _from_the_hub(spec, 0, ROWS) if online else []
    made = rows or [_answered(spec, i) for i in range(ROWS)]
    return Few(_file(spec, made, folder), made, "real" if rows else "stand-in")


def _answered(spec: SftData, row: int) -> dict[str, Any]:
    ask, answer = f"What is 1000 + {row}?", f"1000 + {row} is {1000 + row}.\n\n\\boxed{{{1000 + row}}}"
    if spec.messages:
        return {spec.messages: [{"role": "user", "content": ask}, {"role": "assistant", "content": answer}]}
    return {spec.prompt or "prompt": ask, spec.response or "response": answer}


def _file(spec: Problems | SftData, rows: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """The rows as a file of their own, which takes the place of the source."""
    path = folder / f"{spec.digest}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), encoding="utf-8")
    return {"source": Source(ref=spec.source.ref, revision=content_hash(path), path=str(path))}


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
