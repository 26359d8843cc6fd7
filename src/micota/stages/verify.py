"""Give each answer a verdict: correct, wrong, no_answer or unverifiable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from micota.grading import Grade, Grader, Item, Verdict
from micota.specs import Source, Verify
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.records import Completion, read_rows, solves, write_rows
from micota.store.resolution import grader
from micota.store.task import Task

AT_ONCE = 256


def run(task: Task) -> Result:
    """Write rows {key, sample, verdict, answer, reason, truncated, tokens}, and `looped` where it is so."""
    spec = task.spec
    assert isinstance(spec, Verify)
    golds = {row["key"]: row["answer"] for row in read_rows(task.rows(spec.problems))}
    rows = read_rows(task.rows(spec.completions))
    pool = task.store.pool(task.input(spec.completions).pools[0])
    graded: list[dict[str, Any]] = []
    with _grader(spec, task.machine.threads) as judge:
        for start in range(0, len(rows), AT_ONCE):
            chunk = rows[start : start + AT_ONCE]
            answers = pool.read((row["key"], row["sample"]) for row in chunk)
            items = [_item(answer, golds[answer.key], spec.problems.benchmark) for answer in answers]
            graded += [_row(row, grade) for row, grade in zip(chunk, judge.grade(items), strict=True)]
            task.progress(len(graded), len(rows), "answers")
    write_rows(task.out / "rows.jsonl", graded)
    verdicts = Counter(row["verdict"] for row in graded)
    tokens = mean([float(row["tokens"]) for row in rows])
    unsolved = len(golds.keys() - {row["key"] for row in graded if solves(row)})
    facts = {"rows": len(rows), "mean_tokens": tokens, "verdicts": dict(verdicts), "unsolved": unsolved}
    return Result(facts)


class _Own:
    """A grader of the user's own, `function(response, gold)`, which gives a Grade, a verdict's word or a bool."""

    def __init__(self, source: Source) -> None:
        self._function = grader(source)

    def grade(self, items: Sequence[Item]) -> list[Grade]:
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Grade:
        said = self._function(item.response, item.gold)
        if isinstance(said, Grade):
            return said
        word = said if isinstance(said, str) else "correct" if said else "wrong"
        return Grade(Verdict(word), None, "the user's grader")


def _grader(spec: Verify, workers: int) -> AbstractContextManager[Grader | _Own]:
    if spec.grader is not None:
        return nullcontext(_Own(spec.grader))
    return Grader(by="exact_match" if spec.by == "exact_match" else "semantic", workers=workers)


def _item(answer: Completion, gold: object, benchmark: str | None) -> Item:
    return Item(answer.text, gold, benchmark, truncated=answer.finish_reason == "length")


def _row(row: dict[str, Any], grade: Grade) -> dict[str, Any]:
    verdict = {"verdict": str(grade.verdict), "answer": grade.answer, "reason": grade.reason}
    return {
        "key": row["key"],
        "sample": row["sample"],
        **verdict,
        "truncated": row["finish"] == "length",
        "tokens": row["tokens"],
        **({"looped": True} if row.get("looped") else {}),
    }
