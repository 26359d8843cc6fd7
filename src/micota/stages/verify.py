"""Give each answer a verdict: correct, wrong, no_answer or unverifiable."""

from __future__ import annotations

from collections import Counter
from typing import Any

from micota.grading import DIED, SEMANTIC_REVISION, Grade
from micota.specs import Verify
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.completion_grades import grade_completions
from micota.store.pool import find
from micota.store.records import read_rows, solves, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, sample, verdict, answer, reason, truncated, tokens}, and `looped` where it is so."""
    spec = task.spec
    assert isinstance(spec, Verify)
    problems = read_rows(task.rows(spec.problems))
    by_choice = spec.by == "choice"
    golds = {row["key"]: (row["answer"], *row["choices"]) if by_choice else row["answer"] for row in problems}
    rows = read_rows(task.rows(spec.completions))
    completions = find([task.store.pool(pool) for pool in task.input(spec.completions).pools], rows)
    grades = grade_completions(
        completions, golds, spec, task.machine.threads, lambda done: task.progress(done, len(rows), "answers")
    )
    graded = [_row(row, grade) for row, grade in zip(rows, grades, strict=True)]
    write_rows(task.out / "rows.jsonl", graded)
    verdicts = Counter(row["verdict"] for row in graded)
    tokens = mean([float(row["tokens"]) for row in rows])
    unsolved = len(golds.keys() - {row["key"] for row in graded if solves(row)})
    facts = {"rows": len(rows), "mean_tokens": tokens, "verdicts": dict(verdicts), "unsolved": unsolved}
    if accidents := sum(grade.reason == DIED for grade in grades):
        facts["accidents"] = accidents
    if spec.by == "semantic":
        facts["revision"] = SEMANTIC_REVISION
    return Result(facts)


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
