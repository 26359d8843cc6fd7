"""`micota grade`: grade the responses of a file by the paper's exact match and by the semantic grader.

Rows carry `response` and either `benchmark` with `index`, or `gold`. Sample files of lm-evaluation-harness
(`--log_samples`) are read too, so that old runs can be graded again.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.atomic import write_text
from micota.benchmarks import PAPER
from micota.cli.rows_to_grade import ROWS, Asked, Columns, References, asked_row, is_sample, read, unreadable
from micota.errors import MicotaError
from micota.generation.repetition import loops
from micota.grading import DIED, Grade, Item, Verdict, exact_match, grade_responses, strict_match
from micota.grading.extract import answered

Judging = Callable[[Sequence[Asked]], list[Grade]]
"""What gives the verdicts of a model on rows."""


@dataclass(frozen=True)
class GradedRow:
    """A row with its grades, and whether its text repeats itself to the end; `strict` is GSM8K's second figure.

    `group` is the line of the tables that counts it. Multiple choice has no `exact`, and `choice` in place of the
    semantic grade; `judge` is the verdict of a model.
    """

    row: dict[str, Any]
    group: str
    exact: Grade | None
    semantic: Grade
    truncated: bool
    looped: bool
    strict: Grade | None = None
    judge: Grade | None = None

    def json(self) -> dict[str, Any]:
        """The row as it came, with the grades added."""
        added: dict[str, Any] = {} if self.exact is None else {"exact_match": int(_is_correct(self.exact))}
        if self.strict is not None:
            added["strict_match"] = int(_is_correct(self.strict))
        if self.judge is not None:
            added["judge"] = str(self.judge.verdict)
        added |= {
            "choice" if self.exact is None else "semantic": str(self.semantic.verdict),
            "answer": self.semantic.answer,
            "reason": self.semantic.reason,
            "looped": self.looped,
        }
        return {**self.row, **added}


def grade_file(
    path: Path,
    out: Path,
    data_dir: Path | None,
    workers: int,
    progress: Callable[[int, int], object],
    by: str | None = None,
    columns: Columns = ROWS,
    judging: Judging | None = None,
) -> list[GradedRow]:
    """Grade every row of a JSONL file and write them in their order; nothing is written if a row cannot be read.

    Returns the rows to count: of lm-eval's several rows for a response, one for each filter, the first. They are
    grouped by the column `by`, or by their benchmarks. `data_dir` holds the benchmarks as NAME.jsonl (None: the Hub).
    `progress` is called with rows done and all rows. `judging` gives the verdicts of a model on all rows.
    """
    rows = read(path)
    if by is not None and not any(by in row for row in rows):
        known = sorted({column for row in rows for column in row})
        raise MicotaError(f"no row has a column '{by}'", where=str(path), fix=f"--by with one of {', '.join(known)}")
    references = References(data_dir)
    wanted = [asked_row(row, number, path, references, columns) for number, row in enumerate(rows, 1)]
    if columns.answer == "answer":  # where the answer goes that was read from the response
        rows = [{**row, "gold": one.item.gold} for row, one in zip(rows, wanted, strict=True)]
    if judging and (without := [number for number, one in enumerate(wanted, 1) if not one.problem]):
        raise unreadable(path, without[0], f"a judge needs its problem, in `{columns.problem}` (or --problem COLUMN)")
    verdicts = judging(wanted) if judging else [None] * len(rows)
    grades = _by_rule(wanted, workers, lambda done: progress(done, len(wanted)))
    graded = [_graded(*parts, by) for parts in zip(rows, wanted, grades, verdicts, strict=True)]
    write_text(out, "".join(json.dumps(row.json()) + "\n" for row in graded))
    first = {(row.row["doc_id"], str(row.row["resps"])): row for row in reversed(graded) if is_sample(row.row)}
    return [row for row in graded if not is_sample(row.row) or first[row.row["doc_id"], str(row.row["resps"])] is row]


def _by_rule(wanted: Sequence[Asked], workers: int, progress: Callable[[int], object]) -> list[Grade]:
    """The grades of `choice` where there are options, else of `semantic`."""
    chosen = iter(grade_responses([Item(one.item.response, one.options) for one in wanted if one.options], "choice"))
    meant = iter(grade_responses([one.item for one in wanted if not one.options], "semantic", workers, progress))
    return [next(chosen if one.options else meant) for one in wanted]


def differences(graded: list[GradedRow]) -> list[tuple[str, str, str, int, str, str]]:
    """Where the two graders disagree: (benchmark, exact match, semantic, rows, reason, an example), most rows first."""
    groups: defaultdict[tuple[str, str, str, str], list[GradedRow]] = defaultdict(list)
    for row in graded:
        if row.exact and _is_correct(row.exact) != _is_correct(row.semantic):
            verdicts = str(row.exact.verdict), str(row.semantic.verdict)
            groups[row.group, *verdicts, row.semantic.reason].append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        (name, exact, semantic, len(rows), why, _example(rows[0])) for (name, exact, semantic, why), rows in ordered
    ]


def totals(graded: list[GradedRow]) -> dict[str, Counter[str]]:
    """For each benchmark: n, correct by each grader, truncated, looped, and the verdicts of `semantic` or `choice`.

    `options` counts the rows of multiple choice, which exact match does not grade; `judged` those that the judge holds
    correct, `judge_agrees` those that it and the rule both hold correct or both not.
    """
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in graded:
        here = counts[row.group]
        here["n"] += 1
        if row.exact is None:
            here["options"] += 1
        else:
            here["exact_match"] += _is_correct(row.exact)
        here["truncated"] += row.truncated
        here["looped"] += row.looped
        here["strict_match"] += row.strict is not None and _is_correct(row.strict)
        here[str(row.semantic.verdict)] += 1
        if row.judge:
            here["judged"] += _is_correct(row.judge)
            here["judge_agrees"] += _is_correct(row.judge) == _is_correct(row.semantic)
            here["judge_open"] += row.judge.verdict == Verdict.unverifiable
        here["accidents"] += row.semantic.reason == DIED
    return dict(counts)


def rejected_references(data_dir: Path | None) -> Iterator[tuple[str, int, str, Grade, Grade]]:
    """The benchmarks' reference answers that a grader rejects: (benchmark, row, reference, exact, semantic grade)."""
    references = References(data_dir)
    for name in PAPER:
        items = [_own_answer(name, row["answer"]) for row in references.of(name)]
        pairs = zip(grade_responses(items, "exact_match"), grade_responses(items), strict=True)
        for index, (exact, semantic) in enumerate(pairs):
            if not (_is_correct(exact) and _is_correct(semantic)):
                yield name, index, str(items[index].gold), exact, semantic


def _graded(row: dict[str, Any], asked: Asked, semantic: Grade, judge: Grade | None, by: str | None) -> GradedRow:
    item, response = asked.item, answered(asked.item.response)  # as in a run
    exact = None if asked.options else exact_match(response, item.gold, item.benchmark)
    strict = strict_match(response, item.gold) if item.benchmark == "gsm8k" else None
    group = str(row.get(by, "–")) if by is not None else item.benchmark or "–"
    return GradedRow(row, group, exact, semantic, item.truncated, loops(item.response), strict, judge)


def _own_answer(name: str, reference: Any) -> Item:
    """A response that states the reference answer itself."""
    answer = reference[0] if isinstance(reference, list) else reference
    return Item(str(answer) if name == "gsm8k" else f"\\boxed{{{answer}}}", reference, name)


def _is_correct(grade: Grade) -> bool:
    return grade.verdict == Verdict.correct


def _example(row: GradedRow) -> str:
    reference = row.row.get("gold", row.row.get("index", ""))
    exact = row.exact.answer if row.exact else None
    return f"{(row.semantic.answer or exact or '')[:40]!r} for {str(reference)[:40]!r}"
