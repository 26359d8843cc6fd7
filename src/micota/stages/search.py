"""Try merges on probe problems: the models are read once, a candidate is made in memory, answers and is graded."""

from __future__ import annotations

import shutil
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.generation.engine import Engine, open_engine
from micota.generation.repetition import loops
from micota.grading import Grader, Item
from micota.merging import Settings as How
from micota.specs import MergeSearch
from micota.specs import dial_policy as choosing
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.pool import Pool, Writer
from micota.store.records import Request, read_rows, write_rows
from micota.store.task import Task

if TYPE_CHECKING:
    from micota.generation.transformers import Transformers
    from micota.merging.in_memory import InMemoryMerge

Settings = Mapping[str, float]
Row = dict[str, Any]
Figures = dict[tuple[Hashable, str], float]
"""A figure for each answer, by (sample, problem)."""


def run(task: Task) -> Result:
    """Write a row for each candidate and problem; the facts have a row for each candidate."""
    spec = task.spec
    assert isinstance(spec, MergeSearch)
    bench = CandidateRunner(task, spec)
    measured = _figures(read_rows(task.rows(spec.reference)))
    length, accuracy = (mean(list(one.values())) for one in measured)
    target = spec.length if spec.length is not None else float(spec.tokens or 0) / length
    tried: list[dict[str, float]] = []
    settings = choosing.grid(spec.ranges, spec.steps)
    for turn in range(spec.refine + 1):
        for setting in settings:
            rows = bench.try_out(setting, len(tried), len(tried) + len(settings) - settings.index(setting))
            found = choosing.row(setting, *_figures(rows), measured)
            runaways = {one: mean([row[one] for row in rows]) for one in ("truncated", "looped")}
            tried.append({**found, **runaways, "round": turn})
        settings = choosing.finer(spec.ranges, tried, target, spec.max_loss)
        if not settings:
            break
    write_rows(task.out / "rows.jsonl", bench.rows)
    facts = {"dial": tried, "reference": {"tokens": length, "accuracy": accuracy}, "target": target}
    return Result(facts | {"generated": bench.generated}, bench.pools)


def _figures(rows: Iterable[Row]) -> tuple[Figures, Figures]:
    """Tokens, and 1 or 0 for right or wrong, of each answer, by (sample, problem)."""
    tokens, right = {}, {}
    for row in rows:
        tokens[row["sample"], row["key"]] = float(row["tokens"])
        right[row["sample"], row["key"]] = float(row["verdict"] == "correct")
    return tokens, right


class CandidateRunner:
    """Where candidates are tried. Answers are kept in the pool of the merge that a candidate is, as they come."""

    def __init__(self, task: Task, spec: MergeSearch) -> None:
        self._task, self._spec, self._config = task, spec, task.machine.engine(spec)
        self._asked = spec.reference.completions
        problems = read_rows(task.rows(spec.problems))
        self._golds = {row["key"]: row["answer"] for row in problems}
        turns = [Request(row["key"], 0, self._asked.prompt.user_message(row["problem"])) for row in problems]
        self._requests = sorted(turns, key=lambda request: (len(request.prompt), request.key, request.sample))
        self.rows: list[Row] = []
        self.pools: list[str] = []
        self.generated = 0

    def try_out(self, setting: Settings, done: int, of: int) -> list[Row]:
        """The graded answers of a candidate."""
        candidate = self._spec.candidate(setting)
        pool_id = self._asked.pool(f"merge:{self._task.store.inputs_key(candidate)}")
        pool = self._task.store.pool(pool_id)
        owed = [request for request in self._requests if (request.key, request.sample) not in pool]
        said = choosing.setting_text(setting)
        self._task.progress(done, of, "candidates", said)
        if owed:
            self._generate(setting, pool, {(request.key, request.sample) for request in owed}, (done, of, said))
            pool.refresh()
        self.pools.append(pool_id)
        graded = self._grade(setting, pool)
        self.rows += graded
        return graded

    def _generate(self, setting: Settings, pool: Pool, owed: set[tuple[str, int]], at: tuple[int, int, str]) -> None:
        """Ask for what the pool lacks, in the same batches after an interruption: greedy text can depend on them. An
        engine that makes its own batches is asked for the rest alone."""
        about = {"candidate": dict(setting), "spec": self._asked.own_fields}
        done = 0
        with self._candidate(setting) as engine, Writer(pool.folder, about) as writer:
            for batch in self._batches(engine.batch, owed):
                lacking = {(request.key, request.sample) for request in batch} & owed
                for answers in engine.answer(batch) if lacking else ():
                    fresh = [one for one in answers if (one.key, one.sample) in lacking]
                    writer.write(fresh)
                    self.generated += len(fresh)
                    done += len(fresh)
                    self._task.progress(at[0] + done / len(owed), at[1], "candidates", at[2])

    def _batches(self, size: int | None, owed: set[tuple[str, int]]) -> list[list[Request]]:
        if size is None:
            return [[request for request in self._requests if (request.key, request.sample) in owed]]
        return [self._requests[start : start + size] for start in range(0, len(self._requests), size)]

    def _grade(self, setting: Settings, pool: Pool) -> list[Row]:
        answers = list(pool.read((request.key, request.sample) for request in self._requests))
        marks = self._spec.problems.benchmark
        items = [Item(a.text, self._golds[a.key], marks, truncated=a.finish_reason == "length") for a in answers]
        exact = self._spec.reference.by == "exact_match"
        with Grader(by="exact_match" if exact else "semantic", workers=self._task.machine.threads) as grader:
            grades = grader.grade(items)
        return [
            {**setting, "key": a.key, "sample": a.sample, "verdict": str(grade.verdict), "answer": grade.answer,
             "tokens": a.completion_tokens, "truncated": a.finish_reason == "length", "looped": loops(a.text)}
            for a, grade in zip(answers, grades, strict=True)
        ]  # fmt: skip

    @contextmanager
    def _candidate(self, setting: Settings) -> Iterator[Engine]:
        """The engine with a candidate's weights: put into the loaded model, or for vllm written and loaded anew."""
        engine, how = self._config.engine, self._how(setting)
        if engine == "scripted":
            yield self._open(self._folders[1])
        elif engine == "transformers":
            self._loaded.take(lambda put: self._trial.merge(how, put))
            yield self._loaded
        else:
            folder = self._task.scratch / "candidate"
            shutil.rmtree(folder, ignore_errors=True)
            try:
                self._trial.write(how, folder)
                with closing(self._open(folder)) as opened:
                    yield opened
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _open(self, folder: Path) -> Engine:
        task = self._task
        return open_engine(self._asked, folder, self._config, task.machine.threads, task.progress.stop)

    def _how(self, setting: Settings) -> How:
        spec = self._spec
        weights = (setting["weight"],) * len(spec.models)
        return How(spec.method, weights, setting["density"], setting["lambda"], spec.rescale or "none", seed=spec.seed)

    @cached_property
    def _folders(self) -> list[Path]:
        return [self._task.model(model) for model in (self._spec.base, *self._spec.models)]

    @cached_property
    def _trial(self) -> InMemoryMerge:
        from micota.merging.in_memory import InMemoryMerge

        base, *models = self._folders
        return InMemoryMerge(base, models, [str(i) for i in range(len(models))], self._task.machine.threads)

    @cached_property
    def _loaded(self) -> Transformers:
        from micota.generation.transformers import Transformers

        task = self._task
        return Transformers(self._asked, self._folders[1], self._config, task.machine.threads, task.progress.stop, True)
