"""The texts about responses that a model is asked to answer: what a rewriter or a judge reads."""

from __future__ import annotations

from typing import Any

from micota.errors import MicotaError
from micota.specs import Inquiry
from micota.store.artifacts import Result
from micota.store.pool import find
from micota.store.records import read_rows, text_key, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, problem, answer, of}: each text once, `of` the [key, sample, sha] of its responses.

    Where answers are asked about, a response that is no more than a thought is left out.
    """
    spec = task.spec
    assert isinstance(spec, Inquiry)
    problems = {row["key"]: row for row in read_rows(task.rows(spec.problems))}
    pools = [task.store.pool(pool) for pool in task.input(spec.responses).pools]
    asked: dict[str, dict[str, Any]] = {}
    for one in find(pools, read_rows(task.rows(spec.responses))):
        about = problems[one.key]
        if (text := spec.text(about, one.target)) is not None:
            row = asked.setdefault(key := text_key(text), {**about, "key": key, "problem": text, "of": []})
            row["of"].append([one.key, one.sample, one.sha])
    if not asked:
        raise MicotaError("there is no response to ask about", fix="check the verdicts on them")
    write_rows(task.out / "rows.jsonl", asked.values())
    return Result({"problems": len(asked)})
