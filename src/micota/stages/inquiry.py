"""The texts about responses that a model is asked to answer: prompts of a rewriter."""

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

    A response that is no more than a thought is not asked about.
    """
    spec = task.spec
    assert isinstance(spec, Inquiry)
    problems = {row["key"]: row for row in read_rows(task.rows(spec.problems))}
    pools = [task.store.pool(pool) for pool in task.input(spec.responses).pools]
    asked: dict[str, dict[str, Any]] = {}
    unanswered = 0
    for one in find(pools, read_rows(task.rows(spec.responses))):
        about = problems[one.key]
        gold = about["answer"]
        gold = " or ".join(map(str, gold)) if isinstance(gold, list) else str(gold)
        text = spec.text(problem=about["problem"], response=one.target, gold=gold)
        row = asked.setdefault(key := text_key(text), {**about, "key": key, "problem": text, "of": []})
        row["of"].append([one.key, one.sample, one.sha])
        unanswered += not one.answered
    if not asked:
        raise MicotaError("there is no response to ask about", fix="check the verdicts on them")
    write_rows(task.out / "rows.jsonl", asked.values())
    return Result({"problems": len(asked)})
