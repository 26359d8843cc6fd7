"""What a generation asks for, and how much of it the pool has."""

from __future__ import annotations

from pathlib import Path

from micota.specs import Generate, Spec
from micota.store.artifacts import Store
from micota.store.records import Request, read_rows, solves


def pooled(spec: Generate, store: Store) -> tuple[int, int] | None:
    """How many answers are wanted, and how many of them the pool has; None as long as that cannot be known."""
    content = store.content(spec.model)
    inputs = [store.manifest(one) for one in spec.questions]
    if content is None or not all(one and store.whole(one) for one in inputs):
        return None
    wanted = requests(spec, *(store.files(one) / "rows.jsonl" for one in inputs if one))
    pool = store.pool(spec.pool(content))
    return len(wanted), sum((request.key, request.sample) in pool for request in wanted)


def reads(spec: Generate, store: Store) -> tuple[Spec, ...]:
    """The inputs whose files a run needs: the model's only if the pool lacks something."""
    counts = pooled(spec, store)
    return spec.reads(answered=counts is not None and counts[0] <= counts[1])


def requests(spec: Generate, problems: Path, verdicts: Path | None = None) -> list[Request]:
    """Every key that is wanted, with the user message it is asked with; `verdicts` are those of `spec.unless`."""
    turns = {row["key"]: spec.prompt.user_message(row["problem"]) for row in read_rows(problems)}
    if verdicts is None:
        return [Request(key, sample, turn) for key, turn in turns.items() for sample in range(spec.n)]
    graded = read_rows(verdicts)
    again = turns.keys() - {row["key"] for row in graded if solves(row)}
    wanted = [(row["key"], row["sample"]) for row in graded] + [(key, spec.n - 1) for key in turns if key in again]
    return [Request(key, sample, turns[key]) for key, sample in wanted]
