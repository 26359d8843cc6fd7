"""The tidy table of a recipe and the texts of its responses as Parquet files, one of each for a generation.

STORE/view/RECIPE/   rows-KEY.parquet, texts-KEY.parquet, problems-KEY.parquet, words-KEY.sqlite (the index for search)

A file is named by the hash of what is in it, so it is written once. All of them can be removed at any time.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from micota.atomic import atomic
from micota.errors import MicotaError
from micota.recipe.recipe import Evaluation
from micota.report.answer_frame import AFTER, BEFORE, answer_frame, gold_text, plain, variable_columns
from micota.report.graded_answers import GradedAnswers
from micota.store.records import text_key

FORMAT = "1"  # of the files: another one is written anew
BATCH = 512  # texts of a row group, which is what one page reads
FLAGS = ("truncated", "repetitive", "fake", "disagree")
NUMBERS = ("sample", "tokens", "row")
ADDED = ("reason", "level", "subject", "disagree", "texts", "problems", "row")
"""What a row has beside the tidy table: why the grader decided, the problem's level and subject, whether scorers
disagree, and where its texts are."""
ADDRESS = ("q", "in", "key", "show", "page", "sort", "baseline", "least", "most", "right", "wrong", "number")
"""What an address says beside the filters by columns."""
WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Part:
    """One generation with its evaluations under each scorer that is done, and the keys of its files."""

    evaluations: tuple[Evaluation, ...]
    rows: str
    texts: str
    problems: str


class ParquetFiles:
    """The files of a recipe's evaluations in a folder."""

    def __init__(self, results: GradedAnswers, folder: Path) -> None:
        self.results, self.folder = results, folder
        self.variables = tuple(variable_columns(results.recipe.evaluations).values())
        if taken := {*ADDED, *ADDRESS} & {*self.variables}:
            what = f"micota view cannot show a variable called '{min(taken)}'"
            raise MicotaError(what, why="its pages mean something else by this word", fix="rename it in `for`")

    def path(self, kind: str, key: str) -> Path:
        """The file of a kind: rows, texts, problems or words."""
        return self.folder / f"{kind}-{key}.{'sqlite' if kind == 'words' else 'parquet'}"

    def parts(self) -> list[Part]:
        """What the store has now, in the recipe's order."""
        store, groups = self.results.store, dict[tuple[str, str, str], list[Evaluation]]()
        store.refresh()
        for evaluation in self.results.recipe.evaluations:
            if self.results.manifest(evaluation.spec):
                group = evaluation.model, evaluation.data, evaluation.spec.completions.digest
                groups.setdefault(group, []).append(evaluation)
        return [self._part(tuple(evaluations)) for evaluations in groups.values()]

    def _part(self, evaluations: tuple[Evaluation, ...]) -> Part:
        spec, content = evaluations[0].spec, self.results.store.content
        words = [[one.role, one.model, one.data_word, one.spec.by, dict(one.variables)] for one in evaluations]
        texts = text_key(FORMAT, str(content(spec.completions)), str(self.results.facts(spec.completions)))
        problems = text_key(FORMAT, str(content(spec.completions.problems)))
        verdicts = [str(content(one.spec)) for one in evaluations]
        return Part(evaluations, text_key(FORMAT, json.dumps(words), *verdicts, texts, problems), texts, problems)

    def write(self, part: Part) -> None:
        """Write the files of a part that are not there yet."""
        completions = part.evaluations[0].spec.completions
        if not (path := self.path("problems", part.problems)).exists():
            self._write(path, _strings("problem", "text", "gold", "level", "subject"), [self._problems(part)])
        if not (path := self.path("texts", part.texts)).exists():
            columns = _strings("problem", "response", "prompt", "finish", "engine")
            self._write(path, columns | _whole("sample", "row", "prompt_tokens"), self._texts(completions))
        if not (path := self.path("rows", part.rows)).exists():
            self._write(path, self.columns, [self._rows(part)])

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a file of rows with their types."""
        import pyarrow as pa

        names = (*BEFORE, *self.variables, *AFTER, *ADDED)
        return _strings(*names) | _whole(*NUMBERS) | {name: pa.bool_() for name in FLAGS}

    def empty(self) -> Path:
        """A file of rows without rows, so that there is always a table."""
        path = self.path("rows", text_key(*self.columns))
        if not path.exists():
            self._write(path, self.columns, [])
        return path

    def _write(self, path: Path, columns: dict[str, Any], batches: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema(list(columns.items()))
        with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_table(pa.table({name: batch[name] for name in columns}, schema=schema))

    def _problems(self, part: Part) -> dict[str, list[Any]]:
        rows = self.results.rows(part.evaluations[0].spec.completions.problems)
        found: dict[str, list[Any]] = {name: [_text(row.get(name)) for row in rows] for name in ("level", "subject")}
        return found | {
            "problem": [row["key"] for row in rows],
            "text": [plain(row["problem"]) for row in rows],
            "gold": [plain(gold_text(row["answer"])) for row in rows],
        }

    def _texts(self, completions: Any) -> Iterator[dict[str, list[Any]]]:
        pool = self.results.pool(completions)
        rows = enumerate(self.results.rows(completions))
        while batch := list(islice(rows, BATCH)):
            keys = [(row["key"], row["sample"]) for _, row in batch]
            there = [key for key in keys if pool is not None and key in pool]
            found = dict(zip(there, pool.read(there), strict=True)) if pool is not None else {}
            answers = [found.get(key) for key in keys]
            yield {
                "problem": [key for key, _ in keys],
                "sample": [sample for _, sample in keys],
                "row": [number for number, _ in batch],
                "response": [plain(one.target) if one else None for one in answers],
                "prompt": [plain(one.prompt) if one else None for one in answers],
                "finish": [one.finish_reason if one else None for one in answers],
                "engine": [one.engine if one else None for one in answers],
                "prompt_tokens": [one.prompt_tokens if one else None for one in answers],
            }

    def _rows(self, part: Part) -> Any:
        """The tidy table of a part, with what is added to it."""
        completions, graded = part.evaluations[0].spec.completions, [*map(self.results.graded, part.evaluations)]
        frame = answer_frame(self.results.recipe.evaluations, graded)
        places = {(row["key"], row["sample"]): i for i, row in enumerate(self.results.rows(completions))}
        about = {row["key"]: row for row in self.results.rows(completions.problems)}
        keys = list(zip(frame["problem"], frame["sample"], strict=True))
        right = frame["verdict"] == "correct"
        more = {
            "reason": [plain(row.get("reason")) for each in graded for row in each.rows],
            "disagree": right.groupby([frame["problem"], frame["sample"]]).transform("nunique") > 1,
            "row": [places.get(key) for key in keys],
            **{name: [_text(about.get(key, {}).get(name)) for key, _ in keys] for name in ("level", "subject")},
        }
        words = {name: frame[name].astype("string") for name in (*BEFORE, *self.variables, *AFTER)}
        typed = {name: frame[name] for name in (*NUMBERS, *FLAGS) if name in frame}
        return {**words, **typed, **more} | {k: [v] * len(frame) for k, v in _keys(part).items()}

    def index(self, part: Part) -> None:
        """Write the index of the words of a part's responses, if it is not there yet."""
        import pyarrow.parquet as pq

        path = self.path("words", part.texts)
        if path.exists():
            return
        with atomic(path) as temporary:
            base = sqlite3.connect(temporary)
            base.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")
            base.execute("CREATE VIRTUAL TABLE words USING fts5(response, content='', detail=none)")
            file = pq.ParquetFile(self.path("texts", part.texts))
            for batch in file.iter_batches(BATCH, columns=["row", "response"]):
                base.executemany(
                    "INSERT INTO words(rowid, response) VALUES (?, ?)", zip(*batch.to_pydict().values(), strict=True)
                )
            base.commit()
            base.close()

    def found(self, key: str, query: str) -> Sequence[int] | None:
        """The rows of a file of texts that have all the words of a query; None as long as it has no index."""
        path, words = self.path("words", key), WORD.findall(query)
        if not path.exists():
            return None
        wanted = " AND ".join(f'"{word}"' for word in words)
        base = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            return (
                [row for (row,) in base.execute("SELECT rowid FROM words WHERE words MATCH ?", [wanted])]
                if words
                else []
            )
        finally:
            base.close()


def _keys(part: Part) -> dict[str, str]:
    return {"texts": part.texts, "problems": part.problems}


def _text(value: Any) -> str | None:
    return None if value is None else plain(value)


def _strings(*names: str) -> dict[str, Any]:
    import pyarrow as pa

    return dict.fromkeys(names, pa.string())


def _whole(*names: str) -> dict[str, Any]:
    import pyarrow as pa

    return dict.fromkeys(names, pa.int64())
