"""Grade completions as a `Verify` spec says: the answers of a model, or those of a merge candidate."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import cast

from micota.grading import By, Grade, Item, grade_responses
from micota.specs import Verify
from micota.store.records import Completion
from micota.store.resolution import grader


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
    benchmark = spec.problems.benchmark
    items = (
        Item(one.text if one.answered else "", golds[one.key], benchmark, one.finish_reason == "length")
        for one in completions
    )
    return grade_responses(items, by, workers, progress)
