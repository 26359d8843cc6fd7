"""`micota grade`: grade anybody's responses under the paper's scorer and under the one that reads meaning.

Rows carry `response` and either `benchmark` with `index`, or `gold`. Sample files of lm-evaluation-harness
(`--log_samples`) are read too, so that old runs can be graded again.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.atomic import atomic
from micota.benchmarks import BENCHMARKS
from micota.data import problem_sets
from micota.errors import MicotaError, suggestion
from micota.generation.repetition import loops
from micota.grading import Grade, Grader, Item, Verdict, exact_match, strict_match
from micota.specs import Problems, Source
from micota.store.resolution import hub_revision, local

AT_ONCE = 256


@dataclass(frozen=True)
class Graded:
    """A row with its two grades, and whether it ran away; `strict` is GSM8K's second figure."""

    row: dict[str, Any]
    benchmark: str | None
    exact: Grade
    semantic: Grade
    truncated: bool
    looped: bool
    strict: Grade | None = None

    def json(self) -> dict[str, Any]:
        """The row as it came, with the grades added."""
        added: dict[str, Any] = {"exact_match": int(self.exact.verdict == Verdict.correct)}
        if self.strict is not None:
            added["strict_match"] = int(self.strict.verdict == Verdict.correct)
        added |= {
            "semantic": str(self.semantic.verdict),
            "answer": self.semantic.answer,
            "reason": self.semantic.reason,
            "looped": self.looped,
        }
        return {**self.row, **added}


def grade_file(path: Path, out: Path, data_dir: Path | None, workers: int, progress: Any) -> list[Graded]:
    """Grade every row of a JSONL file and write them in their order; nothing is written if a row cannot be read."""
    rows = _read(path)
    golds = _Golds(data_dir)
    items = [_item(row, number, path, golds) for number, row in enumerate(rows, 1)]
    done: list[Graded] = []
    with Grader(by="semantic", workers=workers) as grader:
        for start in range(0, len(items), AT_ONCE):
            chunk = items[start : start + AT_ONCE]
            meant = grader.grade(chunk)
            done += [_graded(row, item, by) for row, item, by in zip(rows[start:], chunk, meant, strict=False)]
            progress(len(done), len(items))
    with atomic(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(one.json()) + "\n" for one in done)
    return done


def differences(done: list[Graded]) -> list[tuple[str, str, str, int, str, str]]:
    """Where the two scorers part: (benchmark, exact match, semantic, how often, reason, an example), most first."""
    groups: defaultdict[tuple[str, str, str, str], list[Graded]] = defaultdict(list)
    for one in done:
        if (one.exact.verdict == Verdict.correct) != (one.semantic.verdict == Verdict.correct):
            key = (one.benchmark or "–", str(one.exact.verdict), str(one.semantic.verdict), one.semantic.reason)
            groups[key].append(one)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(name, exact, meant, len(ones), reason, _shown(ones[0])) for (name, exact, meant, reason), ones in ordered]


def totals(done: list[Graded]) -> dict[str, Counter[str]]:
    """For each benchmark: n, how many are correct under each scorer, how many ran away, and the semantic verdicts."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in done:
        here = counts[one.benchmark or "–"]
        here["n"] += 1
        here["exact_match"] += one.exact.verdict == Verdict.correct
        here["truncated"] += one.truncated
        here["looped"] += one.looped
        here["strict_match"] += one.strict is not None and one.strict.verdict == Verdict.correct
        here[str(one.semantic.verdict)] += 1
    return dict(counts)


def golds_that_fail(data_dir: Path | None) -> Iterator[tuple[str, int, str, Grade, Grade]]:
    """Every gold that does not grade itself: (benchmark, row, gold, exact grade, semantic grade)."""
    golds = _Golds(data_dir)
    for name in BENCHMARKS:
        rows = golds.of(name)
        items = [_itself(name, gold) for gold in rows]
        with Grader(by="semantic") as grader:
            meant = grader.grade(items)
        for index, (item, semantic) in enumerate(zip(items, meant, strict=True)):
            exact = exact_match(item.response, item.gold, name)
            if not exact.verdict == semantic.verdict == Verdict.correct:
                yield name, index, str(item.gold), exact, semantic


class _Golds:
    """The gold answers of the benchmarks, read once each from `data_dir/NAME.jsonl` or from the Hub."""

    def __init__(self, data_dir: Path | None) -> None:
        self._dir = data_dir
        self._read: dict[str, list[Any]] = {}

    def of(self, name: str) -> list[Any]:
        if name not in self._read:
            self._read[name] = [row["answer"] for row in problem_sets.read(self._spec(name))]
        return self._read[name]

    def _spec(self, name: str) -> Problems:
        b = BENCHMARKS[name]
        if self._dir is not None:
            source = local(f"./{name}.jsonl", "dataset", self._dir)
            return Problems(source=source, problem=b.problem, answer=b.answer, benchmark=name)
        revision = hub_revision(b.source, "dataset")
        if revision is None:
            fix = "give a folder that holds it: --data-dir DIR"
            raise MicotaError(f"the benchmark {name} ({b.source}) cannot be had from the Hub", fix=fix)
        source = Source(ref=b.source, revision=revision)
        return Problems(source=source, config=b.config, split=b.split, problem=b.problem, answer=b.answer)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise MicotaError(f"there is no file {path}", fix="check the path")
    rows = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise _unreadable(path, number, f"it is no JSON ({error})") from None
            if not isinstance(row, dict):
                raise _unreadable(path, number, "it is no JSON object")
            rows.append(row)
    return rows


def _item(row: dict[str, Any], number: int, path: Path, golds: _Golds) -> Item:
    if "resps" in row and "doc" in row:
        return _harness_item(row, path)
    response, name = row.get("response"), row.get("benchmark")
    if not isinstance(response, str):
        raise _unreadable(path, number, "it has no text in `response`")
    truncated = bool(row.get("truncated")) or row.get("finish_reason") == "length"
    if name is None:
        if "gold" not in row:
            raise _unreadable(path, number, "it has neither `benchmark` with `index` nor `gold`")
        return Item(response, row["gold"], None, truncated)
    if name not in BENCHMARKS:
        raise _unreadable(path, number, f"there is no benchmark '{name}': {suggestion(str(name), BENCHMARKS)}")
    index, answers = row.get("index"), golds.of(name)
    if type(index) is not int or not 0 <= index < len(answers):
        raise _unreadable(path, number, f"`index` is {index!r}; {name} has rows 0 to {len(answers) - 1}")
    return Item(response, answers[index], name, truncated)


def _harness_item(row: dict[str, Any], path: Path) -> Item:
    """A sample of lm-evaluation-harness: its first response; the benchmark by the file's or the task's name."""
    response = row["resps"]
    while isinstance(response, list):
        response = response[0] if response else ""
    task, doc = f"{path.name} {row.get('task', '')}".lower(), row["doc"]
    known = {"gsm8k": "gsm8k", "aime": "aime24", "amc": "amc23", "olympiad": "olympiadbench", "math": "math500"}
    name = next((benchmark for word, benchmark in known.items() if word in task), None)
    column = BENCHMARKS[name].answer if name else "answer"
    return Item(str(response), doc.get(column, row.get("target")), name)


def _graded(row: dict[str, Any], item: Item, meant: Grade) -> Graded:
    exact = exact_match(item.response, item.gold, item.benchmark)
    strict = strict_match(item.response, item.gold) if item.benchmark == "gsm8k" else None
    return Graded(row, item.benchmark, exact, meant, item.truncated, loops(item.response), strict)


def _itself(name: str, gold: Any) -> Item:
    answer = gold[0] if isinstance(gold, list) else gold
    return Item(str(answer) if name == "gsm8k" else f"\\boxed{{{answer}}}", gold, name)


def _unreadable(path: Path, number: int, why: str) -> MicotaError:
    fix = 'a row is {"response": ..., "gold": ...} or {"response": ..., "benchmark": ..., "index": ...}'
    return MicotaError(f"row {number} cannot be graded: {why}", where=f"{path}, line {number}", fix=fix)


def _shown(one: Graded) -> str:
    gold = one.row.get("gold", one.row.get("index", ""))
    return f"{(one.semantic.answer or one.exact.answer or '')[:40]!r} for {str(gold)[:40]!r}"
