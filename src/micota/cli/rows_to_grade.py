"""The rows of a file that `micota grade` reads: their problems, reference answers and responses."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from micota.benchmarks import BENCHMARKS
from micota.data import problem_sets
from micota.data.multiple_choice import asked
from micota.errors import MicotaError, suggestion
from micota.grading import Item
from micota.specs import Problems, Source
from micota.store.resolution import hub_revision, local


class Columns(NamedTuple):
    """The columns with the response and, of rows that name no benchmark, the reference answer and the problem."""

    response: str = "response"
    answer: str = "gold"
    problem: str = "problem"


ROWS = Columns()


class Asked(NamedTuple):
    """A row to grade: its problem, "" if it has none, the reference answer as one would read it, and what is graded.

    Of multiple choice, `options` holds the letter of the right option and the texts of all.
    """

    problem: str
    reference: Any
    item: Item
    options: tuple[str, ...] = ()


class References:
    """The rows of the benchmarks, read once each from `data_dir/NAME.jsonl` or from the Hub."""

    def __init__(self, data_dir: Path | None) -> None:
        self._dir = data_dir
        self._rows: dict[str, list[dict[str, Any]]] = {}

    def of(self, name: str) -> list[dict[str, Any]]:
        """The rows of one benchmark, with their problems and answers."""
        if name not in self._rows:
            self._rows[name] = list(problem_sets.read(self._spec(name)))
        return self._rows[name]

    def _spec(self, name: str) -> Problems:
        b = BENCHMARKS[name]
        if self._dir is not None:
            source = local(f"./{name}.jsonl", "dataset", self._dir)
            return Problems(source=source, benchmark=name, **b.columns)
        revision = hub_revision(b.source, "dataset")
        if revision is None:
            fix = "give a folder that holds it: --data-dir DIR"
            raise MicotaError(f"the benchmark {name} ({b.source}) could not be read from the Hub", fix=fix)
        source = Source(ref=b.source, revision=revision)
        return Problems(source=source, config=b.config, split=b.split, **b.columns)


def read(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, packed with gzip or not; a MicotaError names a line that is none."""
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
        raise unreadable(path, number, "it is not in UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise unreadable(path, number, f"it is not JSON ({error})") from None
    if not isinstance(row, dict):
        raise unreadable(path, number, "it is not a JSON object")
    return row


def is_sample(row: dict[str, Any]) -> bool:
    """Whether the row is a sample of lm-evaluation-harness."""
    return "resps" in row and "doc_id" in row


def asked_row(row: dict[str, Any], number: int, path: Path, references: References, columns: Columns) -> Asked:
    """What is graded of a row; a MicotaError names one without a response or a reference answer."""
    if is_sample(row):
        item, doc = _harness_item(row, number, path), row.get("doc")
        texts = [doc.get(name) for name in ("problem", "question", "Problem")] if isinstance(doc, dict) else []
        return Asked(next((text for text in texts if isinstance(text, str)), ""), item.gold, item)
    response, name = row.get(columns.response), row.get("benchmark")
    if not isinstance(response, str):
        raise unreadable(path, number, f"it has no text in `{columns.response}` (or --response COLUMN)")
    cut = str(row.get("truncated") or "").lower() not in {"", "false", "no", "0"}
    truncated = cut or row.get("finish_reason") == "length"
    problem = row.get(columns.problem)
    problem = problem if isinstance(problem, str) else ""
    if name is None:
        why = f"it has neither `benchmark` with `index` nor an answer in `{columns.answer}` (or --answer COLUMN)"
        gold = _reference(row.get(columns.answer), number, path, why)
        return _chosen(problem, row, number, path, columns, Item(response, gold, None, truncated))
    if name not in BENCHMARKS:
        raise unreadable(path, number, f"there is no benchmark '{name}': {suggestion(str(name), BENCHMARKS)}")
    index, known = row.get("index"), references.of(name)
    if type(index) is not int or not 0 <= index < len(known):
        raise unreadable(path, number, f"`index` is {index!r}; {name} has rows 0 to {len(known) - 1}")
    own = known[index]
    if BENCHMARKS[name].choices and own["problem"] not in problem:
        why = f"`{columns.problem}` does not show the options of {name} in the order in which micota asks"
        raise unreadable(path, number, f"{why}; give `choices` and the right one as the answer, and no benchmark")
    options = (own["answer"], *own["choices"]) if BENCHMARKS[name].choices else ()
    return Asked(own["problem"], own["answer"], Item(response, own["answer"], name, truncated), options)


def _chosen(problem: str, row: dict[str, Any], number: int, path: Path, columns: Columns, item: Item) -> Asked:
    """A row without a benchmark; one with `choices` is multiple choice, and its answer a letter, a number or a text."""
    if row.get("choices") is None:
        return Asked(problem, item.gold, item)
    spec = Problems(source=Source(ref=str(path)), problem="problem", answer="answer", choices="choices")
    try:
        own = asked(spec, {"problem": problem, "answer": item.gold, "choices": row["choices"]}, number)
    except MicotaError as error:
        raise unreadable(path, number, error.what) from None
    shown = problem if own["choices"][0] in problem else own["problem"]
    return Asked(shown, own["answer"], item, (own["answer"], *own["choices"]))


def _reference(answer: Any, number: int, path: Path, why: str) -> Any:
    """A reference answer; there is none in null, NaN, an empty text or list, and what is no text, number or list."""
    if not isinstance(answer, str | int | float | list) or answer in ("", []) or answer != answer:
        raise unreadable(path, number, why)
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


def unreadable(path: Path, number: int, why: str) -> MicotaError:
    """The error of a row that cannot be graded."""
    fix = 'a row is {"response": ..., "gold": ...} or {"response": ..., "benchmark": ..., "index": ...}'
    return MicotaError(f"row {number} cannot be graded: {why}", where=f"{path}, line {number}", fix=fix)
