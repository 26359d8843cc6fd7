"""Import training data of other origin: each row a prompt and its response, put into a pool of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from micota.data.dialogue import Turn, reader
from micota.data.loading import table
from micota.errors import MicotaError
from micota.specs import Prompt, SftData, sha
from micota.store.artifacts import Result
from micota.store.pool import Writer
from micota.store.records import Completion, text_key, write_rows
from micota.store.task import Task

AT_ONCE = 1_000


def run(task: Task) -> Result:
    """Write rows {key, sample, sha}, as a selection has them; samples count the responses to one prompt."""
    spec = task.spec
    assert isinstance(spec, SftData)
    pool_id = sha({"rows": spec.identity({spec.source.digest: task.input(spec.source).content})})
    pool = task.store.pool(pool_id)
    dropped: Counter[str] = Counter()
    rows = table(spec.source, spec.config, spec.split, task.scratch)
    chosen: list[dict[str, Any]] = []
    about = {"source": spec.source.ref, "spec": spec.own_fields}
    with Writer(pool.folder, about, task.progress.check) as writer:
        fresh: list[Completion] = []
        for completion in completions(spec, rows, dropped):
            chosen.append({"key": completion.key, "sample": completion.sample, "sha": completion.sha})
            if (completion.key, completion.sample) not in pool:
                fresh.append(completion)
            if len(fresh) == AT_ONCE:
                writer.write(fresh)
                fresh = []
                task.progress(len(chosen), len(rows), "rows")
        if fresh:
            writer.write(fresh)
    if not chosen:
        what = f"no row of {spec.source.ref} is left to train on: of {len(rows)} were dropped {dict(dropped)}"
        raise MicotaError(what, fix="check the column of the responses")
    task.progress(len(rows), len(rows), "rows")
    write_rows(task.out / "rows.jsonl", chosen)
    return Result({"answers": len(rows), "kept": len(chosen), "dropped": dict(dropped)}, [pool_id])


def completions(spec: SftData, rows: Any, dropped: Counter[str]) -> Iterator[Completion]:
    """The rows to train on, each once, in their own order; `dropped` counts the others. Raises MicotaError."""
    pair = (spec.prompt, spec.response) if spec.prompt and spec.response else None
    read = reader(rows.column_names, pair, spec.messages, spec.source.ref)
    samples: Counter[str] = Counter()
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        turn = read(row, number)
        _check(spec, turn, number)
        prompt = Prompt(template=spec.template).user_message(turn.prompt)
        key, sha_ = text_key(prompt), text_key(prompt, turn.response)
        if not turn.trained:
            dropped["weight 0"] += 1
        elif not turn.response.strip():
            dropped["empty"] += 1
        elif spec.duplicates == "drop" and sha_ in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(sha_)
            yield Completion(key, samples[key], prompt, turn.response, "stop", 0, 0, "made elsewhere")
            samples[key] += 1


def _check(spec: SftData, turn: Turn, number: int) -> None:
    if not turn.prompt.strip():
        raise MicotaError(f"row {number} of {spec.source.ref} has an empty prompt", fix="remove the row")
    if turn.system is not None and turn.system != spec.system:
        raise MicotaError(
            f"row {number} of {spec.source.ref} has the system message {turn.system!r:.120}, "
            f"the recipe {'none' if spec.system is None else repr(spec.system)}",
            why="a model that is trained with one system message is worse with another",
            fix="write it into both `rows: {system: ...}` and `train: {system: ...}`, or remove it from the rows",
        )
