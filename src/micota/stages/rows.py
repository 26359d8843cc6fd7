"""Take in training data that was made elsewhere: each row a prompt and its response, put into a pool of its own."""

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
    found = table(spec.source, spec.config, spec.split, task.scratch)
    made: list[dict[str, Any]] = []
    with Writer(pool.folder, {"source": spec.source.ref, "spec": spec.own_fields}) as writer:
        fresh: list[Completion] = []
        for one in _completions(spec, found, dropped):
            made.append({"key": one.key, "sample": one.sample, "sha": one.sha})
            if (one.key, one.sample) not in pool:
                fresh.append(one)
            if len(fresh) == AT_ONCE:
                writer.write(fresh)
                fresh = []
                task.progress(len(made), len(found), "rows")
        if fresh:
            writer.write(fresh)
    if not made:
        what = f"no row of {spec.source.ref} is left to learn from: of {len(found)} were dropped {dict(dropped)}"
        raise MicotaError(what, fix="look at the column of the responses")
    task.progress(len(found), len(found), "rows")
    write_rows(task.out / "rows.jsonl", made)
    return Result({"answers": len(found), "kept": len(made), "dropped": dict(dropped)}, [pool_id])


def _completions(spec: SftData, found: Any, dropped: Counter[str]) -> Iterator[Completion]:
    """The rows that are kept, each once, in their own order."""
    pair = (spec.prompt, spec.response) if spec.prompt and spec.response else None
    read = reader(found.column_names, pair, spec.messages, spec.source.ref)
    asked: Counter[str] = Counter()
    seen: set[str] = set()
    for number, row in enumerate(found, 1):
        turn = read(row, number)
        _check(spec, turn, number)
        prompt = Prompt(template=spec.template).user_message(turn.prompt)
        key, sha_ = text_key(prompt), text_key(prompt, turn.response)
        if not turn.response.strip():
            dropped["empty"] += 1
        elif spec.duplicates == "drop" and sha_ in seen:
            dropped["duplicate"] += 1
        else:
            seen.add(sha_)
            yield Completion(key, asked[key], prompt, turn.response, "stop", 0, 0, "made elsewhere")
            asked[key] += 1


def _check(spec: SftData, turn: Turn, number: int) -> None:
    if not turn.prompt.strip():
        raise MicotaError(f"row {number} of {spec.source.ref} asks nothing", fix="leave the row out")
    if turn.system is not None and turn.system != spec.system:
        raise MicotaError(
            f"row {number} of {spec.source.ref} has the system message {turn.system!r:.120}, "
            f"the recipe {'none' if spec.system is None else repr(spec.system)}",
            why="a model that learns under one system message is worse under another",
            fix="write it into `rows: {system: ...}` and `train: {system: ...}` alike, or take it out of the rows",
        )
