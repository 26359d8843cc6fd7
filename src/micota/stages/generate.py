"""Answer problems with a model: each completion goes to the pool at once, and only what that lacks is asked for."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from micota.atomic import write_json
from micota.generation.engine import Engine, open_engine
from micota.generation.repetition import loops
from micota.generation.requests import requests
from micota.specs import Generate
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.pool import Pool, Writer
from micota.store.records import Completion, Request, write_rows
from micota.store.task import Task

WEIGHTS = ("transformers", "vllm", "rehearsed")  # the engines that load the model; a server needs its tokenizer at most


def run(task: Task) -> Result:
    """Write rows {key, sample, sha, tokens, finish}, and `looped` where a text runs away; texts stay in the pool."""
    spec = task.spec
    assert isinstance(spec, Generate)
    pool_id = spec.pool(task.input(spec.model).content)
    pool = task.store.pool(pool_id)
    wanted = requests(spec, task.rows(spec.problems), task.rows(spec.unless) if spec.unless else None)
    missing = [request for request in task.share(wanted) if (request.key, request.sample) not in pool]
    rendered = _generate(task, spec, pool, missing) if missing else None
    if (generated := task.together(len(missing))) is None:
        return Result({}, [])
    pool.refresh()
    rows, prompt_tokens = [], 0
    for completion in pool.read((r.key, r.sample) for r in wanted):
        rows.append(_row(completion))
        prompt_tokens += completion.prompt_tokens
    write_rows(task.out / "rows.jsonl", rows)
    tokens = [row["tokens"] for row in rows]
    facts = {
        "rows": len(rows),
        "generated": generated,
        "reused": len(rows) - generated,
        "tokens": sum(tokens),
        "prompt_tokens": prompt_tokens,
        "mean_tokens": mean(tokens),
        "truncated": sum(row["finish"] == "length" for row in rows),
        "looped": sum(row.get("looped", False) for row in rows),
    }
    return Result(facts | {"first_prompt": rendered or pool.about.get("first_prompt", "")}, [pool_id])


def _generate(task: Task, spec: Generate, pool: Pool, missing: list[Request]) -> str:
    """Ask the engine for what is missing, batch by batch; return the first prompt as the model saw it."""
    with closing(_engine(task, spec)) as engine:
        first = engine.render(missing[0])
        about = {"model": task.input(spec.model).content, "spec": spec.own_fields, "first_prompt": first}
        batches = _batches(task, missing, engine.batch) if engine.batch else [missing]
        total, tokens, done = sum(len(batch) for batch in batches), 0, 0
        one_of = f" in the first of {task.processes} processes" if task.processes > 1 else ""
        with Writer(pool.folder, about) as writer:
            for batch in batches:
                owed = {(r.key, r.sample) for r in batch if (r.key, r.sample) not in pool}
                for answers in engine.answer(batch) if owed else ():
                    fresh = [a for a in answers if (a.key, a.sample) in owed]
                    if fresh:
                        writer.write(fresh)
                    tokens += sum(a.completion_tokens for a in fresh)
                    done += len(answers)
                    task.progress(done, total, "answers", f"{tokens} tokens{one_of}")
                done += 0 if owed else len(batch)
    return first


def _engine(task: Task, spec: Generate) -> Engine:
    name = task.machine.engine(spec).engine
    folder = task.model(spec.model) if name in WEIGHTS else task.tokenizer(spec.model) if name == "openai" else None
    return open_engine(spec, folder, task.machine.engine(spec), task.machine.threads, task.progress.stop)


def _batches(task: Task, missing: list[Request], size: int) -> list[list[Request]]:
    """Batches of rows of similar length, the same ones after an interruption: greedy text can depend on its batch."""
    path = task.scratch / (f"batches-{task.rank}.json" if task.rank else "batches.json")
    planned = {(key, sample) for batch in _read(path) for key, sample, _ in batch}
    if not all((r.key, r.sample) in planned for r in missing):
        ordered = sorted(missing, key=lambda r: (len(r.prompt), r.key, r.sample))
        cut = [ordered[i : i + size] for i in range(0, len(ordered), size)]
        write_json(path, [[(r.key, r.sample, r.prompt) for r in batch] for batch in cut])
    return [[Request(*row) for row in batch] for batch in _read(path)]


def _read(path: Path) -> list[list[tuple[str, int, str]]]:
    return json.loads(path.read_text()) if path.exists() else []


def _row(completion: Completion) -> dict[str, Any]:
    row = {
        "key": completion.key,
        "sample": completion.sample,
        "sha": completion.sha,
        "tokens": completion.completion_tokens,
        "finish": completion.finish_reason,
    }
    return {**row, "looped": True} if loops(completion.text) else row
