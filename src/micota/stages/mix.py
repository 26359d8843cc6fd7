"""Mix data sets by share of examples, as Mix-Long mixes long and short chains 1:4. Components may share prompts."""

from __future__ import annotations

from typing import Any

from micota.errors import MicotaError
from micota.specs import Mix
from micota.store.artifacts import Result
from micota.store.records import read_rows, text_key, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, sample, sha}: as many as the shares allow, chosen by the seed and each row's own key."""
    spec = task.spec
    assert isinstance(spec, Mix)
    parts = [read_rows(task.rows(part.data)) for part in spec.parts]
    total = min(int(len(rows) / part.share + 1e-9) for rows, part in zip(parts, spec.parts, strict=True))
    counts = [round(total * part.share) for part in spec.parts]
    if not all(counts):
        sizes = [len(rows) for rows in parts]
        raise MicotaError(
            f"a component of the mixture would be empty: the data sets have {sizes} rows", fix="raise its share"
        )
    chosen = [row for i, rows in enumerate(parts) for row in _draw(rows, counts[i], spec.seed, i)]
    write_rows(task.out / "rows.jsonl", chosen)
    pools = dict.fromkeys(pool for part in spec.parts for pool in task.input(part.data).pools)
    return Result({"rows": len(chosen), "parts": counts}, list(pools))


def _draw(rows: list[dict[str, Any]], n: int, seed: int, part: int) -> list[dict[str, Any]]:
    """The n rows with the smallest hashes: more rows in a component change few of them."""
    return sorted(rows, key=lambda row: text_key(str(seed), str(part), row["key"], str(row["sample"])))[:n]
