"""Try merges on probe problems: the models are read once; each candidate is merged in memory, answers and is graded."""

from __future__ import annotations

import shutil
from collections.abc import Hashable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError
from micota.generation.collection import by_length, collect, missing
from micota.generation.engine import Engine, open_engine
from micota.generation.repetition import loops
from micota.grading import DIED
from micota.merging import settings_of
from micota.specs import Merge, MergeSearch, dial_policy
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.completion_grades import grade_completions
from micota.store.pool import Pool
from micota.store.records import Request, read_rows, write_rows
from micota.store.task import Task

if TYPE_CHECKING:
    from micota.generation.transformers import Transformers
    from micota.merging.in_memory import InMemoryMerge

Point = Mapping[str, float]
"""A candidate's weight, density and lambda."""
Row = dict[str, Any]
Figures = dict[tuple[Hashable, str], float]
"""A number for each answer, by (sample, problem)."""


def run(task: Task) -> Result:
    """Write a row for each candidate and problem; the facts have a row for each candidate."""
    spec = task.spec
    assert isinstance(spec, MergeSearch)
    runner = CandidateRunner(task, spec)
    reference = _figures(read_rows(task.rows(spec.reference)))
    length, accuracy = (mean(list(figures.values())) for figures in reference)
    target = spec.length if spec.tokens is None else spec.tokens / length
    candidates: list[dict[str, float]] = []
    points = dial_policy.grid(spec.ranges, spec.steps)
    for number in range(spec.refine + 1):
        total = len(candidates) + len(points)
        for point in points:
            rows = runner.run(point, len(candidates), total)
            shares = {name: mean([row[name] for row in rows]) for name in ("truncated", "looped")}
            row = dial_policy.row(point, *_figures(rows), reference)
            candidates.append({**row, **shares, "round": number})
        points = [] if target is None else dial_policy.finer(spec.ranges, candidates, target, spec.max_loss)
        if not points:
            break
    write_rows(task.out / "rows.jsonl", runner.rows)
    facts = {"dial": candidates, "reference": {"tokens": length, "accuracy": accuracy}, "target": target}
    return Result(facts | {"generated": runner.generated}, runner.pools)


def _figures(rows: Iterable[Row]) -> tuple[Figures, Figures]:
    """Tokens, and 1 or 0 for right or wrong, of each answer, by (sample, problem)."""
    tokens, right = {}, {}
    for row in rows:
        tokens[row["sample"], row["key"]] = float(row["tokens"])
        right[row["sample"], row["key"]] = float(row["verdict"] == "correct")
    return tokens, right


class CandidateRunner:
    """Merges candidates, has them answer the probe problems and grades the answers.

    Answers are kept, as they come, in the pool of the merge that a candidate is. `rows` are the graded answers of all
    candidates, `pools` where their texts are, `generated` counts the answers that were not in a pool before.
    """

    def __init__(self, task: Task, spec: MergeSearch) -> None:
        self._task, self._spec, self._config = task, spec, task.machine.engine(spec)
        self._generation = spec.reference.completions
        problems = read_rows(task.rows(spec.problems))
        self._golds = {row["key"]: row["answer"] for row in problems}
        requests = [Request(row["key"], 0, self._generation.prompt.user_message(row["problem"])) for row in problems]
        self._requests = sorted(requests, key=by_length)
        self.rows: list[Row] = []
        self.pools: list[str] = []
        self.generated = 0

    def run(self, point: Point, done: int, total: int) -> list[Row]:
        """The graded answers of one candidate, the one behind `done` of `total`."""
        task, merge = self._task, self._spec.candidate(point)
        pool_id = self._generation.pool(f"merge:{task.store.inputs_key(merge)}", task.fake)
        pool = task.store.pool(pool_id)
        lacking, note = missing(self._requests, pool), dial_policy.setting_text(point)
        task.progress(done, total, "candidates", note)
        if lacking:
            about = {"candidate": dict(point), "spec": self._generation.own_fields}
            plan = task.scratch / f"batches-{pool_id}.json"
            with self._engine(merge) as engine:
                for step in collect(engine, lacking, pool, about, plan, task.progress.check):
                    self.generated += len(step.new)
                    task.progress(done + step.done / step.total, total, "candidates", note)
            pool.refresh()
        self.pools.append(pool_id)
        rows = self._grade(point, pool)
        self.rows += rows
        return rows

    def _grade(self, point: Point, pool: Pool) -> list[Row]:
        answers = list(pool.read((request.key, request.sample) for request in self._requests))
        grades = grade_completions(answers, self._golds, self._spec.reference, self._task.machine.threads)
        if died := sum(grade.reason == DIED for grade in grades):
            fix = "run again: the answers are kept; if it comes again, leave more memory to the grading processes"
            raise MicotaError(f"grading processes died over {died} answers of a candidate", fix=fix)
        return [
            {**point, "key": a.key, "sample": a.sample, "verdict": str(grade.verdict), "answer": grade.answer,
             "tokens": a.completion_tokens, "truncated": a.finish_reason == "length", "looped": loops(a.text)}
            for a, grade in zip(answers, grades, strict=True)
        ]  # fmt: skip

    @contextmanager
    def _engine(self, merge: Merge) -> Iterator[Engine]:
        """The engine with a candidate's weights: put into the loaded model; for vLLM and on Ray written and loaded."""
        name = self._config.engine
        if name == "scripted":
            yield self._open(self._folders[1])
        elif name == "transformers" and self._config.ray is None:
            self._loaded.take(lambda put: self._merges.merge(settings_of(merge), put))
            yield self._loaded
        else:
            folder = self._task.scratch / "candidate"
            shutil.rmtree(folder, ignore_errors=True)
            try:
                self._merges.write(settings_of(merge), folder)
                with closing(self._open(folder)) as engine:
                    yield engine
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _open(self, folder: Path) -> Engine:
        task = self._task
        return open_engine(self._generation, folder, self._config, task.machine.threads, task.progress.stop)

    @cached_property
    def _folders(self) -> list[Path]:
        return [self._task.model(model) for model in (self._spec.base, *self._spec.models)]

    @cached_property
    def _merges(self) -> InMemoryMerge:
        from micota.merging.in_memory import InMemoryMerge

        base, *models = self._folders
        return InMemoryMerge(base, models, [str(i) for i in range(len(models))], self._task.machine.threads)

    @cached_property
    def _loaded(self) -> Transformers:
        from micota.generation.transformers import Transformers

        task = self._task
        return Transformers(
            self._generation, self._folders[1], self._config, task.machine.threads, task.progress.stop, True
        )
