"""`micota grade`: grade the responses of a file by the paper's exact match and by the semantic grader.

Rows carry `response` and either `benchmark` with `index`, or `gold`. Sample files of lm-evaluation-harness
(`--log_samples`) are read too, so that old runs can be graded again.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from micota.atomic import write_text
from micota.benchmarks import BENCHMARKS, PAPER
from micota.data import problem_sets
from micota.errors import MicotaError, suggestion
from micota.generation.repetition import loops
from micota.grading import DIED, Grade, Item, Verdict, exact_match, grade_responses, strict_match
from micota.grading.extract import answered
from micota.specs import Problems, Source
from micota.store.resolution import hub_revision, local


class Columns(NamedTuple):
    """The columns with the response and the reference answer of rows that name no benchmark."""

    response: str = "response"
    answer: str = "gold"


ROWS = Columns()


@dataclass(frozen=True)
class GradedRow:
    """A row with its two grades, and whether its text repeats itself to the end; `strict` is GSM8K's second figure.

    `group` is the line of the tables that counts it.
    """

    row: dict[str, Any]
    group: str
    exact: Grade
    semantic: Grade
    truncated: bool
    looped: bool
    strict: Grade | None = None

    def json(self) -> dict[str, Any]:
        """The row as it came, with the grades added."""
        added: dict[str, Any] = {"exact_match": int(_is_correct(self.exact))}
        if self.strict is not None:
            added["strict_match"] = int(_is_correct(self.strict))
        added |= {
            "semantic": str(self.semantic.verdict),
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
) -> list[GradedRow]:
    """Grade every row of a JSONL file and write them in their order; nothing is written if a row cannot be read.

    Returns the rows to count: of lm-eval's several rows for a response, one for each filter, the first. They are
    grouped by the column `by`, or by their benchmarks. `data_dir` holds the benchmarks as NAME.jsonl (None: the Hub).
    `progress` is called with rows done and all rows.
    """
    rows = _read(path)
    if by is not None and not any(by in row for row in rows):
        known = sorted({column for row in rows for column in row})
        raise MicotaError(f"no row has a column '{by}'", where=str(path), fix=f"--by with one of {', '.join(known)}")
    references = _References(data_dir)
    items = [_item(row, number, path, references, columns) for number, row in enumerate(rows, 1)]
    if columns.answer == "answer":  # where the answer goes that was read from the response
        rows = [{**row, "gold": item.gold} for row, item in zip(rows, items, strict=True)]
    grades = grade_responses(items, "semantic", workers, lambda done: progress(done, len(items)))
    graded = [_graded(*parts, by) for parts in zip(rows, items, grades, strict=True)]
    write_text(out, "".join(json.dumps(row.json()) + "\n" for row in graded))
    first = {(row.row["doc_id"], str(row.row["resps"])): row for row in reversed(graded) if _is_sample(row.row)}
    return [row for row in graded if not _is_sample(row.row) or first[row.row["doc_id"], str(row.row["resps"])] is row]


def differences(graded: list[GradedRow]) -> list[tuple[str, str, str, int, str, str]]:
    """Where the two graders disagree: (benchmark, exact match, semantic, rows, reason, an example), most rows first."""
    groups: defaultdict[tuple[str, str, str, str], list[GradedRow]] = defaultdict(list)
    for row in graded:
        if _is_correct(row.exact) != _is_correct(row.semantic):
            verdicts = str(row.exact.verdict), str(row.semantic.verdict)
            groups[row.group, *verdicts, row.semantic.reason].append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [
        (name, exact, semantic, len(rows), why, _example(rows[0])) for (name, exact, semantic, why), rows in ordered
    ]


def totals(graded: list[GradedRow]) -> dict[str, Counter[str]]:
    """For each benchmark: n, correct by each grader, truncated, looped, and the semantic grader's verdicts."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in graded:
        here = counts[row.group]
        here["n"] += 1
        here["exact_match"] += _is_correct(row.exact)
        here["truncated"] += row.truncated
        here["looped"] += row.looped
        here["strict_match"] += row.strict is not None and _is_correct(row.strict)
        here[str(row.semantic.verdict)] += 1
        here["accidents"] += row.semantic.reason == DIED
    return dict(counts)


def rejected_references(data_dir: Path | None) -> Iterator[tuple[str, int, str, Grade, Grade]]:
    """The benchmarks' reference answers that a grader rejects: (benchmark, row, reference, exact, semantic grade)."""
    references = _References(data_dir)
    for name in PAPER:
        items = [_own_answer(name, reference) for reference in references.of(name)]
        pairs = zip(grade_responses(items, "exact_match"), grade_responses(items), strict=True)
        for index, (exact, semantic) in enumerate(pairs):
            if not (_is_correct(exact) and _is_correct(semantic)):
                yield name, index, str(items[index].gold), exact, semantic


class _References:
    """The reference answers of the benchmarks, read once each from `data_dir/NAME.jsonl` or from the Hub."""

    def __init__(self, data_dir: Path | None) -> None:
        self._dir = data_dir
        self._answers: dict[str, list[Any]] = {}

    def of(self, name: str) -> list[Any]:
        if name not in self._answers:
            self._answers[name] = [row["answer"] for row in problem_sets.read(self._spec(name))]
        return self._answers[name]

    def _spec(self, name: str) -> Problems:
        b = BENCHMARKS[name]
        if self._dir is not None:
            source = local(f"./{name}.jsonl", "dataset", self._dir)
            return Problems(source=source, problem=b.problem, answer=b.answer, benchmark=name)
        revision = hub_revision(b.source, "dataset")
        if revision is None:
            fix = "give a folder that holds it: --data-dir DIR"
            raise MicotaError(f"the benchmark {name} ({b.source}) could not be read from the Hub", fix=fix)
        source = Source(ref=b.source, revision=revision)
        return Problems(source=source, config=b.config, split=b.split, problem=b.problem, answer=b.answer)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        what = f"{path} is a folder" if path.is_dir() else f"there is no file {path}"
        raise MicotaError(what, fix="name a file with one JSON object in each line")
    with open(path, "rb") as start:
        packed = start.read(2) == b"\x1f\x8b"
    rows = []
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                rows.append(_row(line, number, path))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise MicotaError(
            f"{path} cannot be unpacked: {error}", fix="copy it again, or unpack it with gunzip"
        ) from None
    return rows


def _row(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _unreadable(path, number, "it is not in UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _unreadable(path, number, f"it is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise _unreadable(path, number, "it is not a JSON object")
    return row


def _is_sample(row: dict[str, Any]) -> bool:
    """Whether the row is a sample of lm-evaluation-harness."""
    return "resps" in row and "doc_id" in row


def _item(row: dict[str, Any], number: int, path: Path, references: _References, columns: Columns) -> Item:
    if _is_sample(row):
        return _harness_item(row, number, path)
    response, name = row.get(columns.response), row.get("benchmark")
    if not isinstance(response, str):
        raise _unreadable(path, number, f"it has no text in `{columns.response}` (or --response COLUMN)")
    cut = str(row.get("truncated") or "").lower() not in {"", "false", "no", "0"}
    truncated = cut or row.get("finish_reason") == "length"
    if name is None:
        why = f"it has neither `benchmark` with `index` nor an answer in `{columns.answer}` (or --answer COLUMN)"
        return Item(response, _reference(row.get(columns.answer), number, path, why), None, truncated)
    if name not in BENCHMARKS:
        raise _unreadable(path, number, f"there is no benchmark '{name}': {suggestion(str(name), BENCHMARKS)}")
    if BENCHMARKS[name].choices:
        raise _unreadable(
            path, number, f"the order of the options of {name} is not known here; evaluate it in a recipe"
        )
    index, answers = row.get("index"), references.of(name)
    if type(index) is not int or not 0 <= index < len(answers):
        raise _unreadable(path, number, f"`index` is {index!r}; {name} has rows 0 to {len(answers) - 1}")
    return Item(response, answers[index], name, truncated)


def _reference(answer: Any, number: int, path: Path, why: str) -> Any:
    """A reference answer; there is none in null, NaN, an empty text or list, and what is no text, number or list."""
    if not isinstance(answer, str | int | float | list) or answer in ("", []) or answer != answer:
        raise _unreadable(path, number, why)
    return answer


def _harness_item(row: dict[str, Any], number: int, path: Path) -> Item:
    """A sample of lm-evaluation-harness: its first response; the benchmark by the file's or the task's name."""
    response = row["resps"]
    while isinstance(response, list):
        response = response[0] if response else ""
    task, doc = f"{path.name} {row.get('task', '')}".lower(), row.get("doc")
    known = {"gsm8k": "gsm8k", "aime": "aime24", "amc": "amc23", "olympiad": "olympiadbench", "math": "math500"}
    name = next((benchmark for word, benchmark in known.items() if word in task), None)
    column = BENCHMARKS[name].answer if name else "answer"
    answer = doc.get(column) if isinstance(doc, dict) else None
    why = f"it has no reference answer in doc.{column} or `target`"
    return Item(str(response), _reference(row.get("target") if answer is None else answer, number, path, why), name)


def _graded(row: dict[str, Any], item: Item, semantic: Grade, by: str | None) -> GradedRow:
    response = answered(item.response)  # as in a run
    exact = exact_match(response, item.gold, item.benchmark)
    strict = strict_match(response, item.gold) if item.benchmark == "gsm8k" else None
    group = str(row.get(by, "–")) if by is not None else item.benchmark or "–"
    return GradedRow(row, group, exact, semantic, item.truncated, loops(item.response), strict)


def _own_answer(name: str, reference: Any) -> Item:
    """A response that states the reference answer itself."""
    answer = reference[0] if isinstance(reference, list) else reference
    return Item(str(answer) if name == "gsm8k" else f"\\boxed{{{answer}}}", reference, name)


def _is_correct(grade: Grade) -> bool:
    return grade.verdict == Verdict.correct


def _unreadable(path: Path, number: int, why: str) -> MicotaError:
    fix = 'a row is {"response": ..., "gold": ...} or {"response": ..., "benchmark": ..., "index": ...}'
    return MicotaError(f"row {number} cannot be graded: {why}", where=f"{path}, line {number}", fix=fix)


def _example(row: GradedRow) -> str:
    reference = row.row.get("gold", row.row.get("index", ""))
    return f"{(row.semantic.answer or row.exact.answer or '')[:40]!r} for {str(reference)[:40]!r}"
