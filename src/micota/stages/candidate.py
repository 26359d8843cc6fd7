"""Take the verified answers of one candidate of a search as training data; the search has them in its pools."""

from __future__ import annotations

from micota.errors import MicotaError
from micota.specs import CandidateChains, dial_policy
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.records import read_rows, solves, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, sample, sha}: the candidate's answers that are correct and whole."""
    spec = task.spec
    assert isinstance(spec, CandidateChains)
    setting = dial_policy.grid(spec.search.ranges, spec.search.steps)[spec.number]
    answers = [row for row in read_rows(task.rows(spec.search)) if setting.items() <= row.items()]
    right = [(row["key"], row["sample"]) for row in answers if solves(row)]
    if not right:
        what = f"no answer to a probe problem is correct and whole of {dial_policy.setting_text(setting)}"
        raise MicotaError(what, fix="raise the probe's max_tokens, or lower max_loss")
    pool = task.input(spec.search).pools[spec.number]
    chosen = list(task.store.pool(pool).read(right))
    write_rows(task.out / "rows.jsonl", [{"key": one.key, "sample": one.sample, "sha": one.sha} for one in chosen])
    tokens = mean([float(one.completion_tokens) for one in chosen])
    facts = {"answers": len(answers), "kept": len(chosen), "mean_tokens": tokens}
    return Result(facts, [pool])
