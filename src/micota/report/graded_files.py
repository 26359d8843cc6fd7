"""Graded rows of a file as the tidy table that comparisons read: of `micota grade`, of `Results`, or of lm-eval."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.data.rows_of_files import FileRows
from micota.errors import MicotaError
from micota.report.answer_frame import rows_where, usual_scorer
from micota.report.comparison import Comparison, compared
from micota.store.records import text_key

if TYPE_CHECKING:
    from pandas import DataFrame

SCORES = ("semantic", "exact_match")
COLUMNS = ("arm", "model", "benchmark", "problem", "sample", "scorer", "verdict", "tokens", "fake")


class GradedFile:
    """A file of graded rows: JSONL, CSV or Parquet.

    A row has a grade, `verdict` with `scorer`, or `semantic` and `exact_match` as `micota grade` writes them, and says
    which problem it answers: by `problem`, `key`, `index`, `doc_id`, or by the text of the prompt. `arm`, `benchmark`,
    `sample`, `tokens` and `level` are read where they are; without `sample`, rows of one problem are its samples.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.recipe_name = path, str(path)

    @cached_property
    def frame(self) -> DataFrame:
        """The rows: arm, model, benchmark, problem, sample, scorer, verdict, tokens, fake."""
        import pandas as pd

        rows = [tidy for row in self._rows for tidy in _tidy(row, self.path)]
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        counted = frame.groupby(["arm", "benchmark", "problem", "scorer"], observed=True).cumcount()
        return frame.assign(sample=frame["sample"].fillna(counted).astype("int64"))

    @cached_property
    def levels(self) -> dict[str, str]:
        """By the key of each problem its `level`, where the rows have it."""
        return {_problem(row, self.path): str(row["level"]) for row in self._rows if row.get("level") is not None}

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return list(FileRows(self.path))

    def compare(
        self, a: str, b: str, scorer: str | Callable[..., Any] | None, benchmark: str | None, other: Any
    ) -> Comparison:
        """Compare one of its models with one of `other` graded answers, as `Results.compare` does."""
        scorer = str(scorer or usual_scorer(self.frame))
        sides = ((a, self), (b, other))
        rows_a, rows_b = (rows_where(of.frame, arm=arm, scorer=scorer, benchmark=benchmark) for arm, of in sides)
        names = [f"{of.recipe_name}/{arm}" if arm != of.recipe_name else arm for arm, of in sides]
        return compared(names[0], rows_a, names[1], rows_b, scorer, self.levels)


def _tidy(row: Mapping[str, Any], path: Path) -> Iterator[dict[str, Any]]:
    """A row for each scorer."""
    arm = str(row.get("arm") or path)
    same: dict[str, Any] = {
        "arm": arm,
        "model": str(row.get("model") or arm),
        "benchmark": str(row.get("benchmark") or "rows"),
    }
    same |= {"problem": _problem(row, path), "sample": row.get("sample"), "fake": bool(row.get("fake"))}
    tokens = row.get("tokens", row.get("completion_tokens"))
    same |= {"tokens": float(tokens) if tokens is not None else float("nan")}
    grades = {str(row.get("scorer") or "verdict"): row["verdict"]} if row.get("verdict") is not None else {}
    grades |= {name: row[name] for name in SCORES if row.get(name) is not None}
    if not grades:
        fix = "a row has `verdict`, `semantic` or `exact_match`: micota grade ROWS --out FILE writes them"
        raise MicotaError("a row has no grade", where=str(path), fix=fix)
    for scorer, grade in grades.items():
        right = grade in ("correct", True) or (isinstance(grade, int | float) and grade == 1) or grade in ("1", "1.0")
        yield {**same, "scorer": scorer, "verdict": "correct" if right else str(grade)}


def _problem(row: Mapping[str, Any], path: Path) -> str:
    for name in ("problem", "key", "index", "doc_id"):
        if row.get(name) is not None:
            return str(row[name])
    for name in ("problem_text", "prompt", "question"):
        if row.get(name) is not None:
            return text_key(str(row[name]))
    fix = "a row has `problem`, `key`, `index`, `doc_id` or `prompt`"
    raise MicotaError("a row does not say which problem it answers", where=str(path), fix=fix)
