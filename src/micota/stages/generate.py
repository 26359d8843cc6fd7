"""Answer problems with a model: each completion goes to the pool at once, and only what that lacks is asked for."""

from __future__ import annotations

from contextlib import closing

from micota.generation.answer_rows import answer_rows
from micota.generation.collection import collect, missing
from micota.generation.engine import Engine, open_engine
from micota.generation.requests import requests
from micota.specs import Generate
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.pool import Pool
from micota.store.records import Request, write_rows
from micota.store.task import Task

WEIGHTS = ("transformers", "vllm", "rehearsed")  # the engines that load the model; a server needs its tokenizer at most


def run(task: Task) -> Result:
    """Write rows {key, sample, sha, tokens, finish}, and `looped` where a text degenerates, `unanswered` where it is
    no more than a thought; texts stay in the pool."""
    spec = task.spec
    assert isinstance(spec, Generate)
    pool_id = spec.pool(task.input(spec.model).content, task.fake)
    pool = task.store.pool(pool_id)
    wanted = requests(spec, task.rows(spec.problems), task.rows(spec.unless) if spec.unless else None)
    lacking = missing(wanted, pool)
    first_prompt = _generate(task, spec, pool, lacking) if lacking else None
    if lacking:
        pool.refresh()
    counted = answer_rows(pool, [(r.key, r.sample) for r in wanted], task.machine.threads)
    rows = [row for row, _ in counted]
    write_rows(task.out / "rows.jsonl", rows)
    tokens = [row["tokens"] for row in rows]
    facts = {
        "rows": len(rows),
        "generated": len(lacking),
        "reused": len(rows) - len(lacking),
        "tokens": sum(tokens),
        "prompt_tokens": sum(tokens for _, tokens in counted),
        "mean_tokens": mean(tokens),
        "truncated": sum(row["finish"] == "length" for row in rows),
        "looped": sum(row.get("looped", False) for row in rows),
    }
    return Result(facts | {"first_prompt": first_prompt or pool.about.get("first_prompt", "")}, [pool_id])


def _generate(task: Task, spec: Generate, pool: Pool, lacking: list[Request]) -> str:
    """Ask the engine for what is missing; return the first prompt as the model reads it."""
    with closing(_engine(task, spec)) as engine:
        first = engine.render(lacking[0])
        about = {"model": task.input(spec.model).content, "spec": spec.own_fields, "first_prompt": first}
        tokens = 0
        for step in collect(engine, lacking, pool, about, task.scratch / "batches.json", task.progress.check):
            tokens += sum(answer.completion_tokens for answer in step.new)
            task.progress(step.done, step.total, "answers", f"{tokens} tokens{getattr(engine, 'note', '')}")
    return first


def _engine(task: Task, spec: Generate) -> Engine:
    config = task.machine.engine(spec).changed(fake=task.fake)
    name = config.engine
    folder = task.model(spec.model) if name in WEIGHTS else task.tokenizer(spec.model) if name == "openai" else None
    return open_engine(spec, folder, config, task.machine.threads, task.progress.stop)
