"""Grade completions as a `Verify` spec says: the answers of a model, or those of a merge candidate.

Many answers of a pool are graded in parts, each in one of several processes, which reads the texts of its part itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, cast

from micota.grading import By, Grade, Verdict, grade_responses
from micota.specs import Verify
from micota.store.grading_part import item
from micota.store.pool import Pool, find
from micota.store.pool_parts import MANY, in_parts
from micota.store.records import Completion
from micota.store.resolution import grader


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
    keys, grades = [(row["key"], row["sample"]) for row in rows], list[Grade]()
    more = [(row["sha"], golds[row["key"]]) for row in rows]

    def here(part: slice) -> list[Any]:
        return [
            (one.verdict, one.answer, one.reason) for one in grade_completions(find(pools, rows[part]), golds, spec, 1)
        ]

    name, same = "micota.store.grading_part:grade", {"by": spec.by, "benchmark": spec.problems.benchmark}
    with closing(in_parts(name, pools, keys, more, workers, here, **same)) as parts:
        for made in parts:
            grades += [Grade(Verdict(verdict), answer, reason) for verdict, answer, reason in made]
            progress(len(grades))
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
