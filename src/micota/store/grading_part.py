"""A part of many answers, graded in a process of its own, which reads their texts from the pool: it starts fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from micota.grading import By, Item, grade_responses
from micota.store.pool import Files
from micota.store.records import Completion


def grade(files: list[str], rows: list[Any], by: By, benchmark: str | None) -> list[tuple[str, str | None, str]]:
    """The verdict, answer and reason of each row [places of its text in the files, sha, gold]."""
    with Files() as texts:

        def found(places: list[tuple[int, int]], sha: str) -> Completion:
            read = (Completion.parse(texts.line(Path(files[file]), offset)) for file, offset in places)
            return next(one for one in read if one.sha == sha)

        items = (item(found(places, sha), gold, benchmark) for places, sha, gold in rows)
        return [(str(one.verdict), one.answer, one.reason) for one in grade_responses(items, by)]


def item(one: Completion, gold: object, benchmark: str | None) -> Item:
    """A completion as a grader takes it: one that never gets past its thought is an empty response."""
    return Item(one.text if one.answered else "", gold, benchmark, one.finish_reason == "length")
