"""Answer problems with a model: each completion goes to the pool at once, and only what that lacks is asked for."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from micota.engines import Engine, open_engine
from micota.pool import Key, Pool, Writer
from micota.prompts import user_turn
from micota.records import Completion, Request, read_rows, write_rows
from micota.specs import Generate, Spec
from micota.stats import mean
from micota.store import Result, Store, write_whole
from micota.task import Task

WEIGHTS = ("transformers", "vllm")  # the engines that load the model; a server needs its tokenizer at most


def run(task: Task) -> Result:
    """Write rows {key, sample, sha, tokens, finish}; the texts stay in the pool."""
    spec = task.spec
    assert isinstance(spec, Generate)
    pool_id = spec.pool(task.input(spec.model).content)
    pool = task.store.pool(pool_id)
    wanted = _requests(spec, task.rows(spec.problems))
    missing = [request for request in wanted if (request.key, request.sample) not in pool]
    rendered = _generate(task, spec, pool, missing) if missing else None
    pool.refresh()
    rows = [_row(completion) for completion in pool.read((r.key, r.sample) for r in wanted)]
    write_rows(task.out / "rows.jsonl", rows)
    tokens = [row["tokens"] for row in rows]
    facts = {
        "rows": len(rows),
        "generated": len(missing),
        "reused": len(rows) - len(missing),
        "tokens": sum(tokens),
        "mean_tokens": mean(tokens),
        "truncated": sum(row["finish"] == "length" for row in rows),
    }
    return Result(facts | ({"first_prompt": rendered} if rendered else {}), [pool_id])


def missing_from(spec: Generate, store: Store, model_content: str, problems: Path) -> list[Key]:
    """The keys that the pool lacks: where there are none, the model is not needed."""
    pool = store.pool(spec.pool(model_content))
    return [(r.key, r.sample) for r in _requests(spec, problems) if (r.key, r.sample) not in pool]


def reads(spec: Generate, store: Store) -> tuple[Spec, ...]:
    """The inputs whose files a run needs: the model's only if the pool lacks something."""
    problems = store.manifest(spec.problems)
    assert problems is not None, "asked only when the inputs are done"
    if not store.whole(problems):
        return spec.children
    lacking = missing_from(spec, store, str(store.content(spec.model)), store.files(problems) / "rows.jsonl")
    return spec.children if lacking else (spec.problems,)


def _requests(spec: Generate, problems: Path) -> list[Request]:
    rows = read_rows(problems)
    return [Request(r["key"], s, user_turn(spec.prompt, r["problem"])) for r in rows for s in range(spec.n)]


def _generate(task: Task, spec: Generate, pool: Pool, missing: list[Request]) -> str:
    """Ask the engine for what is missing, batch by batch; return the first prompt as the model saw it."""
    with closing(_engine(task, spec)) as engine:
        first = engine.render(missing[0])
        about = {"model": task.input(spec.model).content, "spec": spec.own_fields, "first_prompt": first}
        batches = _batches(task, missing, engine.batch) if engine.batch else [missing]
        total, tokens = sum(len(batch) for batch in batches), 0
        done = 0
        with Writer(pool.folder, about) as writer:
            for batch in batches:
                owed = {(r.key, r.sample) for r in batch if (r.key, r.sample) not in pool}
                for answers in engine.answer(batch) if owed else ():
                    fresh = [a for a in answers if (a.key, a.sample) in owed]
                    writer.write(fresh)
                    tokens += sum(a.completion_tokens for a in fresh)
                    done += len(answers)
                    task.progress(done, total, "answers", f"{tokens} tokens")
                done += 0 if owed else len(batch)
    return first


def _engine(task: Task, spec: Generate) -> Engine:
    name = task.place.engine
    folder = task.model(spec.model) if name in WEIGHTS else task.tokenizer(spec.model) if name == "openai" else None
    return open_engine(spec, folder, task.place, task.machine.threads, task.progress.stop)


def _batches(task: Task, missing: list[Request], size: int) -> list[list[Request]]:
    """Batches of rows of similar length, the same ones after an interruption: greedy text can depend on its batch."""
    path = task.scratch / "batches.json"
    planned = {(key, sample) for batch in _read(path) for key, sample, _ in batch}
    if not all((r.key, r.sample) in planned for r in missing):
        ordered = sorted(missing, key=lambda r: (len(r.prompt), r.key, r.sample))
        cut = [ordered[i : i + size] for i in range(0, len(ordered), size)]
        write_whole(path, [[(r.key, r.sample, r.prompt) for r in batch] for batch in cut])
    return [[Request(*row) for row in batch] for batch in _read(path)]


def _read(path: Path) -> list[list[tuple[str, int, str]]]:
    return json.loads(path.read_text()) if path.exists() else []


def _row(completion: Completion) -> dict[str, Any]:
    return {
        "key": completion.key,
        "sample": completion.sample,
        "sha": completion.sha,
        "tokens": completion.completion_tokens,
        "finish": completion.finish_reason,
    }
