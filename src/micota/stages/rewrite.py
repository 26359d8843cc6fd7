"""Chains that a model has written again become training data with the prompts of the chains."""

from __future__ import annotations

from dataclasses import replace

from micota.chat import answer_begins
from micota.specs import Rewrite, sha
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.pool import Writer, find
from micota.store.records import Completion, read_rows, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, sample, sha} and a pool with their texts: what follows the rewriter's own thought."""
    spec = task.spec
    assert isinstance(spec, Rewrite)
    chains = {(one.key, one.sample, one.sha): one for one in _completions(task, spec.data)}
    of = {row["key"]: row["of"] for row in read_rows(task.rows(spec.inquiry))}
    n = spec.rewritten.completions.n
    chosen = [
        (chains[tuple(chain)], _again(chains[tuple(chain)], one, n))
        for one in _completions(task, spec.rewritten)
        for chain in of[one.key]
    ]
    pool_id = sha({"rewrite": spec.identity({child.digest: task.input(child).content for child in spec.children})})
    pool, about = task.store.pool(pool_id), {"spec": spec.own_fields}
    with Writer(pool.folder, about, task.progress.check) as writer:
        writer.write(new for _, new in chosen if (new.key, new.sample) not in pool)
    write_rows(task.out / "rows.jsonl", [{"key": new.key, "sample": new.sample, "sha": new.sha} for _, new in chosen])
    before, after = (mean([float(len(one.target)) for one in side]) for side in zip(*chosen, strict=True))
    tokens = mean([float(new.completion_tokens) for _, new in chosen])
    kept = len({(old.key, old.sample) for old, _ in chosen})
    facts = {"answers": len(chains), "kept": len(chosen), "mean_tokens": tokens, "share_of_the_length": after / before}
    return Result(facts | {"dropped": {"rewritten wrongly": len(chains) - kept}}, [pool_id])


def _completions(task: Task, data: object) -> list[Completion]:
    pools = [task.store.pool(pool) for pool in task.input(data).pools]  # type: ignore[arg-type]
    return list(find(pools, read_rows(task.rows(data))))  # type: ignore[arg-type]


def _again(chain: Completion, new: Completion, n: int) -> Completion:
    """The chain's completion with the rewritten text; of several for one chain each has a sample number of its own."""
    text = new.text[answer_begins(new.text, new.think_prefix) :].strip()
    return replace(new, key=chain.key, sample=chain.sample * n + new.sample, prompt=chain.prompt, text=text,
                   think_prefix="")  # fmt: skip
