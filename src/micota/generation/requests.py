"""The requests of a generation, and how many of them the pool has answers to."""

from __future__ import annotations

from pathlib import Path

from micota.specs import Generate, Spec
from micota.store.artifacts import Store
from micota.store.records import Request, read_rows, solves


def pooled(spec: Generate, store: Store) -> tuple[int, int] | None:
    """How many answers are wanted, and how many of them the pool has; None as long as that cannot be known."""
    inputs = [store.manifest(question) for question in spec.questions]
    if store.content(spec.model) is None or not all(manifest and store.whole(manifest) for manifest in inputs):
        return None
    wanted = requests(spec, *(store.files(manifest) / "rows.jsonl" for manifest in inputs if manifest))
    pool = store.pool(store.pool_of(spec))
    return len(wanted), sum((request.key, request.sample) in pool for request in wanted)


def reads(spec: Generate, store: Store) -> tuple[Spec, ...]:
    """The inputs whose files a run needs: the model's only if the pool lacks something."""
    counts = pooled(spec, store)
    return spec.reads(answered=counts is not None and counts[0] <= counts[1])


def requests(spec: Generate, problems: Path, verdicts: Path | None = None) -> list[Request]:
    """A request for each sample of each problem, with its user message.

    With `verdicts`, those of `spec.unless`: the samples that these are of, and one more of each unsolved problem.
    """
    messages = {row["key"]: spec.prompt.user_message(row["problem"]) for row in read_rows(problems)}
    if verdicts is None:
        return [Request(key, sample, message) for key, message in messages.items() for sample in range(spec.n)]
    graded = read_rows(verdicts)
    solved = {row["key"] for row in graded if solves(row)}
    samples = [(row["key"], row["sample"]) for row in graded]
    samples += [(key, spec.n - 1) for key in messages if key not in solved]
    return [Request(key, sample, messages[key]) for key, sample in samples]
