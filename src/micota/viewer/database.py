"""DuckDB over the Parquet files of a recipe: the questions that the pages ask, and their answers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.viewer.filters import Filters, identifier
from micota.viewer.parquet_files import ParquetFiles, Part

if TYPE_CHECKING:
    from pandas import DataFrame

PAUSE = 3.0  # seconds between two times that the table is loaded anew
ROWS = 50  # of one page of a list
SIDES = 4  # models beside each other, at most
ORDER = "number, model, sample"
TYPES = ("arm", "model", "benchmark", "scorer", "verdict")
VERDICTS = ("correct", "wrong", "no_answer", "unverifiable")
SETTINGS = {
    "memory_limit": "1GB",
    "threads": 2,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


class Database:
    """The answers of a recipe. Any number of threads may ask; memory stays within 1 GB, whatever the recipe has."""

    def __init__(self, files: ParquetFiles) -> None:
        import duckdb

        self.files = files
        self._base = duckdb.connect(":memory:", config=SETTINGS)
        self._lock, self.parts, self.waiting, self.indexed = (
            threading.Lock(),
            list[Part](),
            len(files.results.recipe.evaluations),
            0,
        )
        self.page, self.sides = ROWS, SIDES
        self.options: dict[str, list[str]] = {}
        self._held = False  # whether all texts that are left are in memory
        self.several = False  # a problem has several responses of one model: samples, or those of seeds
        cells = files.results.recipe.evaluations
        self.models = list(dict.fromkeys(cell.model for cell in cells))
        self.arms = {cell.model: cell.role for cell in cells}
        self.words = list(dict.fromkeys(self.arms.values()))
        words = {"arm": self.arms.values(), "model": self.models, "benchmark": [cell.data_word for cell in cells]}
        for name, values in {**words, "scorer": [cell.spec.by for cell in cells], "verdict": VERDICTS}.items():
            listed = ", ".join(map(literal, dict.fromkeys(values) or [""]))
            self._base.execute(f"CREATE TYPE {name}_word AS ENUM ({listed})")
        columns = ("problem", "text", "gold", "level", "subject", "problems")
        self._base.execute(f"CREATE TABLE problems ({', '.join(f'{name} VARCHAR' for name in columns)})")
        self._load([])

    def refresh(self, search: bool = True) -> None:
        """Take in what the store has now: one part after the other, then the indexes for `search`."""
        parts = self.files.parts()
        there = [part for part in parts if self.files.path("rows", part.rows).exists()]
        self.waiting = len(parts) - len(there)
        if {part.rows for part in there} != {part.rows for part in self.parts}:
            self._load(there)
        loaded = time.monotonic()
        for part in [part for part in parts if part not in there]:
            self.files.write(part)
            there.append(part)
            if len(there) == len(parts) or time.monotonic() - loaded > PAUSE:
                self._load(there)
                self.waiting, loaded = len(parts) - len(there), time.monotonic()
        for part in parts if search else ():
            self.files.index(part)
            self.indexed = sum(self.files.path("words", one.texts).exists() for one in parts)

    def _load(self, parts: Sequence[Part]) -> None:
        def listed(kind: str, keys: Sequence[str], *more: Path) -> str:
            paths = [*(self.files.path(kind, key) for key in dict.fromkeys(keys)), *more]
            return f"read_parquet([{', '.join(map(literal, paths))}], filename = true)"

        rows = listed("rows", [part.rows for part in parts], self.files.empty())
        words = ", ".join(f"{name}::{name}_word AS {name}" for name in TYPES)
        problems = listed("problems", [part.problems for part in parts]) if parts else ""
        with self._lock:
            self._base.execute(
                f"CREATE OR REPLACE TABLE answers AS SELECT * EXCLUDE (filename) REPLACE ({words}), "
                f"dense_rank() OVER (ORDER BY benchmark::benchmark_word, problem) AS number FROM {rows} "
                "ORDER BY number, model, sample, scorer"
            )
            if problems:
                key = "regexp_extract(filename, '-([0-9a-f]+).parquet$', 1) AS problems"
                self._base.execute(f"CREATE OR REPLACE TABLE problems AS SELECT *, {key} FROM {problems}")
            self.parts = list(parts)
            columns = ("benchmark", "scorer", "verdict", "level", "subject", *self.files.variables)
            self.options = {name: self._distinct(name) for name in columns}
            samples = self.rows("SELECT coalesce(max(sample), 0) AS last FROM answers")[0]["last"]
            self.several = samples > 0 or "seed" in self.files.variables

    def _distinct(self, column: str) -> list[str]:
        name = identifier(column)
        found = self.rows(f"SELECT DISTINCT {name} AS word FROM answers WHERE {name} IS NOT NULL ORDER BY word")
        return [str(row["word"]) for row in found]

    def _ask(self, sql: str, values: Sequence[Any], search: str = "") -> Any:
        """A cursor with the answer; to it alone, `found` is the table of what a search has found."""
        cursor = self._base.cursor()
        if search:
            cursor.register(
                "found", places(self, tuple({part.texts: None for part in self.parts}), self.indexed, search)
            )
        return cursor.execute(sql, list(values))

    def draw(self, limit: int) -> set[tuple[str, str]]:
        """Problems, as (benchmark, problem), that have `limit` verdicts together, at least one."""
        size = self.rows("SELECT count(*) AS n, count(DISTINCT number) AS problems FROM answers")[0]
        share = max(1, limit * size["problems"] // max(1, size["n"]))
        order = "SELECT benchmark, problem FROM answers GROUP BY number, benchmark, problem ORDER BY problem, number"
        return {(row["benchmark"], row["problem"]) for row in self.rows(f"{order} LIMIT {share}")}

    def restrict(self, drawn: set[tuple[str, str]]) -> int:
        """From now on only have these problems; returns how many verdicts there are to them."""
        self._base.execute("CREATE TEMP TABLE drawn (benchmark VARCHAR, problem VARCHAR)")
        self._base.executemany("INSERT INTO drawn VALUES (?, ?)", sorted(drawn) or [("", "")])
        kept = "SELECT 1 FROM drawn d WHERE d.benchmark = a.benchmark::VARCHAR AND d.problem = a.problem"
        self._base.execute(f"DELETE FROM answers a WHERE NOT EXISTS ({kept})")
        for key in (row["texts"] for row in self.rows("SELECT DISTINCT texts FROM answers")):  # of each file once
            held = f"SELECT t.* FROM {self._file(key)} t SEMI JOIN answers a ON a.texts = ? AND a.row = t.row"
            self._base.execute(f"CREATE OR REPLACE TABLE {identifier(f'held_{key}')} AS {held}", [key])
        self._held = True
        there = int(self.rows("SELECT count(*) AS n FROM answers")[0]["n"])
        self.page, self.sides = max(there, 1), len(self.models)
        return there

    def rows(self, sql: str, values: Sequence[Any] = (), search: str = "") -> list[dict[str, Any]]:
        """The rows of a question, as dictionaries."""
        cursor = self._ask(sql, values, search)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def frame(self, sql: str, values: Sequence[Any] = ()) -> DataFrame:
        """The rows of a question, as pandas' frame."""
        return self._ask(sql, values).df()

    def listed(self, filters: Filters, page: int) -> list[dict[str, Any]]:
        """One page of the responses that the filters leave, with the beginnings of their problems."""
        source, values = filters.source()
        sql = (
            f"SELECT a.*, left(p.text, 300) AS problem_text FROM (SELECT * FROM {source} ORDER BY {ORDER} "
            f"LIMIT ? OFFSET ?) a LEFT JOIN problems p USING (problems, problem) ORDER BY {ORDER}"
        )
        return self.rows(sql, [*values, self.page, self.page * (page - 1)], filters.search)

    def count(self, filters: Filters) -> dict[str, Any]:
        """How many `responses` the filters leave, and to how many `problems`."""
        source, values = filters.source()
        sql = f"SELECT count(*) AS responses, count(DISTINCT number) AS problems FROM {source}"
        return self.rows(sql, values, filters.search)[0]

    def neighbours(self, filters: Filters, benchmark: str, problem: str) -> dict[str, dict[str, Any] | None]:
        """The problems before and after one, `prev` and `next`, among those that the filters leave."""
        source, values = filters.source()
        here = self.rows(
            "SELECT number FROM answers WHERE problem = ? AND benchmark::VARCHAR = ?", [problem, benchmark]
        )
        found: dict[str, dict[str, Any] | None] = {"prev": None, "next": None}
        for name, sign, order in (("prev", "<", "DESC"), ("next", ">", "ASC")) if here else ():
            sql = f"SELECT benchmark, problem FROM {source} WHERE number {sign} ? ORDER BY number {order} LIMIT 1"
            found[name] = next(iter(self.rows(sql, [*values, here[0]["number"]], filters.search)), None)
        return found

    def problem(self, benchmark: str, problem: str) -> dict[str, Any] | None:
        """Text, reference answer, level and subject of a problem in the problem set of a benchmark."""
        sets = "SELECT problems FROM answers WHERE problem = ? AND benchmark::VARCHAR = ?"
        sql = f"SELECT text, gold, level, subject FROM problems WHERE problem = ? AND problems IN ({sets}) LIMIT 1"
        return next(iter(self.rows(sql, [problem, problem, benchmark])), None)

    def texts(self, source: str, values: Sequence[Any], search: str = "") -> Iterator[dict[str, Any]]:
        """The rows of a source with their texts, file after file: memory holds a few of them at a time."""
        for key in (row["texts"] for row in self.rows(f"SELECT DISTINCT texts FROM {source}", values, search)):
            sql = (
                "SELECT a.*, t.response, t.prompt, t.finish, t.engine, t.prompt_tokens, p.text AS problem_text, p.gold "
                f"FROM {source} a JOIN {self._file(key)} t ON a.row = t.row "
                "LEFT JOIN problems p ON a.problems = p.problems AND a.problem = p.problem WHERE a.texts = ?"
            )
            cursor = self._ask(sql, [*values, key], search)
            names = [column[0] for column in cursor.description]
            while batch := cursor.fetchmany(100):
                yield from (dict(zip(names, row, strict=True)) for row in batch)

    def _file(self, key: str) -> str:
        """The texts of a generation, as SELECT reads them."""
        return identifier(f"held_{key}") if self._held else f"read_parquet({literal(self.files.path('texts', key))})"

    def answers(self, benchmark: str, problem: str, models: Sequence[str]) -> list[dict[str, Any]]:
        """Every response of some models to one problem under every scorer, with its texts."""
        marks = ", ".join("?" * len(models))
        source = f"(SELECT * FROM answers WHERE benchmark::VARCHAR = ? AND problem = ? AND model::VARCHAR IN ({marks}))"
        return list(self.texts(source, [benchmark, problem, *models]))


@lru_cache(maxsize=8)
def places(base: Database, texts: Sequence[str], indexed: int, search: str) -> Any:
    """The places (texts, row) of all responses that have every word of a search, as an Arrow table."""
    import pyarrow as pa

    found = {key: base.files.found(key, search) or [] for key in texts}
    tables = [
        pa.table({"texts": pa.repeat(key, len(rows)), "row": pa.array(rows, pa.int64())}) for key, rows in found.items()
    ]
    return pa.concat_tables([pa.table({"texts": pa.array([], pa.string()), "row": pa.array([], pa.int64())}), *tables])


def literal(text: object) -> str:
    """A text as SQL writes it."""
    return "'" + str(text).replace("'", "''") + "'"
