"""A part of many answers, graded in a process of its own, which reads their texts from the pool: it starts fast."""

from __future__ import annotations

from functools import cache
from itertools import islice
from typing import Any

from micota.grading import By, Grade, Grader, Item
from micota.grading.grader import BATCH
from micota.store.pool_parts import completions
from micota.store.records import Completion


def grade(files: list[str], rows: list[Any], by: By, benchmark: str | None) -> list[tuple[str, str | None, str]]:
    """The verdict, answer and reason of each row [places of its text in the files, [sha, gold]]."""
    found = ((next(one for one in texts if one.sha == sha), gold) for texts, (sha, gold) in completions(files, rows))
    items = (item(one, gold, benchmark) for one, gold in found)
    grades: list[Grade] = []
    while batch := [*islice(items, BATCH)]:
        grades += _grader(by).grade(batch)
    return [(str(one.verdict), one.answer, one.reason) for one in grades]


@cache
def _grader(by: By) -> Grader:
    """For all parts of this process: the one that compares answers takes half a second to start."""
    return Grader(by)


def item(one: Completion, gold: object, benchmark: str | None) -> Item:
    """A completion as a grader takes it: one that never gets past its thought is an empty response."""
    return Item(one.text if one.answered else "", gold, benchmark, one.finish_reason == "length")
