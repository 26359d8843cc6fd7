"""Give each answer a verdict: correct, wrong, no_answer or unverifiable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from micota.grading import DIED, SEMANTIC_REVISION, Grade, Verdict, judge_verdict
from micota.specs import Inquiry, Verify
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.checked import say
from micota.store.completion_grades import grade_rows
from micota.store.pool import find
from micota.store.records import Completion, read_rows, solves, text_key, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, sample, verdict, answer, reason, truncated, tokens}, and `looped` where it is so."""
    spec = task.spec
    assert isinstance(spec, Verify)
    problems = read_rows(task.rows(spec.problems))
    rows = read_rows(task.rows(spec.completions))
    pools = [task.store.pool(pool) for pool in task.input(spec.completions).pools]
    by_rule = spec.changed(by="choice" if spec.problems.choices else "semantic", judged=None) if spec.judged else spec
    by_choice = by_rule.by == "choice"
    golds = {row["key"]: (row["answer"], *row["choices"]) if by_choice else row["answer"] for row in problems}
    grades = grade_rows(
        pools, rows, golds, by_rule, task.machine.threads, lambda done: task.progress(done, len(rows), "answers")
    )
    agreement: dict[str, Any] = {}
    if spec.judged:
        ruled, grades = grades, _judged(task, spec, {row["key"]: row for row in problems}, find(pools, rows))
        agreement = {"agreement": _agreement(by_rule.by, ruled, grades)}
    graded = [_row(row, grade) for row, grade in zip(rows, grades, strict=True)]
    write_rows(task.out / "rows.jsonl", graded)
    verdicts = Counter(row["verdict"] for row in graded)
    tokens = mean([float(row["tokens"]) for row in rows])
    unsolved = len(golds.keys() - {row["key"] for row in graded if solves(row)})
    facts = {"rows": len(rows), "mean_tokens": tokens, "verdicts": dict(verdicts), "unsolved": unsolved, **agreement}
    if accidents := sum(grade.reason == DIED for grade in grades):
        facts["accidents"] = accidents
    if spec.by == "semantic":
        facts["revision"] = SEMANTIC_REVISION
    return Result(facts)


def _judged(task: Task, spec: Verify, problems: dict[str, Any], answers: Iterable[Completion]) -> list[Grade]:
    """The verdicts in a judge's replies; of a response that is no more than a thought there is no answer."""
    assert spec.judged is not None and isinstance(spec.judged.problems, Inquiry)
    texts = [spec.judged.problems.text(problems[one.key], one.target) for one in answers]
    pools = [task.store.pool(pool) for pool in task.input(spec.judged).pools]
    said = list(find(pools, read_rows(task.rows(spec.judged))))
    replies = {one.key: judge_verdict(one.target) for one in said}
    if open_ := sum(one.verdict == Verdict.unverifiable for one in replies.values()):
        cut = sum(one.finish_reason == "length" for one in said)
        what = f"{open_} of the judge's {len(said)} replies hold no verdict, so these answers count as not correct"
        fix = "raise the judge's max_tokens, or have its prompt ask for `Verdict: correct` or `Verdict: wrong`"
        say(f"{what}; {cut} were cut: {fix}")
    none = Grade(Verdict.no_answer, None, "nothing follows the thought")
    return [none if text is None else replies[text_key(text)] for text in texts]


def _agreement(rule: str, ruled: list[Grade], judged: list[Grade]) -> dict[str, Any]:
    """How many answers a judge and a rule both hold correct or both not, and how many only one of them does."""
    sides = ([one.verdict == Verdict.correct for one in grades] for grades in (ruled, judged))
    pairs = Counter(zip(*sides, strict=True))
    only = {"only_judge": pairs[False, True], "only_rule": pairs[True, False]}
    return {"with": rule, "share": 1 - sum(only.values()) / len(judged), **only}


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
