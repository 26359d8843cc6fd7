"""Grade completions as a `Verify` spec says: the answers of a model, or those of a merge candidate.

Many answers of a pool are graded in parts, each in one of several processes, which reads the texts of its part itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, cast

from micota.bounded import Bounded, Failed
from micota.grading import By, Grade, Verdict, grade_responses
from micota.specs import Verify
from micota.store.grading_part import item
from micota.store.pool import Pool, find
from micota.store.records import Completion
from micota.store.resolution import grader

PART, MANY = 1_000, 10_000
"""Answers that one process grades at a time, and so many that processes which read for themselves are worth a start."""
_DAY_S, _MEMORY_MB = 86_400, 4_096  # of a process that grades a part: what one answer may take is bounded in there


def grade_rows(
    pools: Sequence[Pool],
    rows: Sequence[dict[str, Any]],
    golds: Mapping[str, object],
    spec: Verify,
    workers: int,
    progress: Callable[[int], object],
) -> list[Grade]:
    """A grade for the completion of each row {key, sample, sha}, in their order, by so many processes.

    A user's own grader runs in this process. So does a part whose texts another process does not find or finish.
    """
    if workers == 1 or spec.grader is not None or len(rows) < MANY:
        return grade_completions(find(pools, rows), golds, spec, workers, progress)
    grades: list[Grade] = []
    starts = range(0, len(rows), PART)
    processes = Bounded("micota.store.grading_part:grade", _DAY_S, _MEMORY_MB, "micota.grading", workers)

    def grade(start: int) -> list[Grade]:
        chosen = rows[start : start + PART]
        places = [[place for pool in pools for place in pool.places((row["key"], row["sample"]))] for row in chosen]
        files = list(dict.fromkeys(str(path) for found in places for path, _ in found))
        numbers = {file: number for number, file in enumerate(files)}
        jobs = [
            ([(numbers[str(path)], offset) for path, offset in found], row["sha"], golds[row["key"]])
            for row, found in zip(chosen, places, strict=True)
        ]
        try:
            said = processes(files=files, rows=jobs, by=spec.by, benchmark=spec.problems.benchmark)
        except Failed:
            return grade_completions(find(pools, chosen), golds, spec, 1)
        return [Grade(Verdict(verdict), answer, reason) for verdict, answer, reason in said]

    with closing(processes), ThreadPoolExecutor(workers) as threads:
        try:
            for graded in threads.map(grade, starts):
                grades += graded
                progress(len(grades))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise
    return grades


def grade_completions(
    completions: Iterable[Completion],
    golds: Mapping[str, object],
    spec: Verify,
    workers: int,
    progress: Callable[[int], object] = lambda done: None,
) -> list[Grade]:
    """A grade for each completion, by the grader that `spec` names; `golds` has a reference answer for each problem.

    One whose thought never ends, or that nothing follows, is graded as an empty response, by every grader.

    `workers` is the number of grading processes; `progress` is called with the number of grades so far.
    """
    by = grader(spec.grader) if spec.grader is not None else cast(By, spec.by)
    items = (item(one, golds[one.key], spec.problems.benchmark) for one in completions)
    return grade_responses(items, by, workers, progress)
