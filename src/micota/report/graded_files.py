"""Graded rows of a file as the tidy table that comparisons read: of `micota grade`, of `Results`, or of lm-eval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.data.rows_of_files import FileRows
from micota.errors import MicotaError
from micota.grading.verdict import Verdict
from micota.report.answer_frame import rows_where, usual_scorer
from micota.report.comparison import Comparison, compared
from micota.store.records import text_key

if TYPE_CHECKING:
    from pandas import DataFrame

SCORES = ("semantic", "exact_match")
RULES = ("choice", "judge")
TEXTS = ("problem_text", "question", "doc", "prompt")
COLUMNS = ("arm", "model", "benchmark", "problem", "sample", "scorer", "verdict", "tokens", "fake", *TEXTS)
TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


class GradedFile:
    """A file of graded rows: JSONL, CSV or Parquet.

    A row has a grade, `verdict` with `scorer`, or those that `micota grade` writes, each by its name, and says which
    problem it answers: by `problem`, `key`, `index`, `doc_id`, or by the text of the prompt. `arm`, `benchmark`,
    `sample`, `tokens` and `level` are read where they are; without `sample`, rows of one problem are its samples. In
    lm-eval's samples the scorer is the `filter`, and `exact_match` may be the share of right samples.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.recipe_name = path, str(path)

    @cached_property
    def frame(self) -> DataFrame:
        """The rows: arm, model, benchmark, problem, sample, scorer, verdict (or the share right), tokens, fake."""
        import pandas as pd

        rows = [tidy for row, where in self._rows for tidy in _tidy(row, self.path, where)]
        frame = pd.DataFrame(rows, columns=list(COLUMNS))
        counted = frame.groupby(["arm", "benchmark", "problem", "scorer"], observed=True).cumcount()
        return frame.assign(sample=frame["sample"].fillna(counted).astype("int64"))

    @cached_property
    def levels(self) -> dict[tuple[str, str], str]:
        """By benchmark and problem its `level`, where the rows have it."""
        leveled = ((row, where) for row, where in self._rows if _there(row, "level"))
        return {(_benchmark(row), _problem(row, where)): str(row["level"]) for row, where in leveled}

    @cached_property
    def _rows(self) -> list[tuple[dict[str, Any], str]]:
        return [(row, f"{self.path}, row {number}") for number, row in enumerate(FileRows(self.path), 1)]

    def compare(
        self, a: str, b: str, scorer: str | Callable[..., Any] | None, benchmark: str | None, other: Any
    ) -> Comparison:
        """Compare one of its models with one of `other` graded answers, as `Results.compare` does."""
        scorer = str(scorer or usual_scorer(self.frame))
        sides = ((a, self), (b, other))
        rows_a, rows_b = (rows_where(of.frame, arm=arm, scorer=scorer, benchmark=benchmark) for arm, of in sides)
        for rows in ((rows_a, rows_b), (rows_a,), (rows_b,)):
            _check_texts(rows, str(self.path))
        names = [f"{of.recipe_name}/{arm}" if arm != of.recipe_name else arm for arm, of in sides]
        return compared(names[0], rows_a, names[1], rows_b, scorer, self.levels)


def _tidy(row: Mapping[str, Any], path: Path, where: str) -> Iterator[dict[str, Any]]:
    """A row for each scorer."""
    arm = str(row.get("arm") or path)
    same: dict[str, Any] = {
        "arm": arm,
        "model": str(row.get("model") or arm),
        "benchmark": _benchmark(row),
    }
    fake = _there(row, "fake") and _truth(row["fake"])
    if fake is None:
        raise _unreadable("fake", row["fake"], where, "write true or false")
    same |= {"problem": _problem(row, where), "sample": _number(row, "sample", where), "fake": fake}
    tokens = "tokens" if _there(row, "tokens") else "completion_tokens"
    same |= {"tokens": _number(row, tokens, where), **{name: _text(row.get(name)) for name in TEXTS}}
    grades = {str(row.get("scorer") or "verdict"): row["verdict"]} if row.get("verdict") is not None else {}
    for name in (name for name in SCORES if row.get(name) is not None):
        one, two = (_verdict(grade, True, where) for grade in (grades.setdefault(name, row[name]), row[name]))
        if one != two and "correct" in (one, two):
            fix = f"keep one of `verdict` and `{name}`"
            raise MicotaError(f"a row has two grades by {name}: {one} and {two}", where=where, fix=fix)
    grades |= {name: row[name] for name in RULES if str(row.get(name)) in set(Verdict)}
    if harness := _there(row, "filter") and list(grades) == ["exact_match"]:
        grades = {str(row["filter"]): row["exact_match"]}
    if not grades:
        fix = "a row has `verdict`, `semantic` or `exact_match`: micota grade ROWS --out FILE writes them"
        raise MicotaError("a row has no grade", where=where, fix=fix)
    for scorer, grade in grades.items():
        yield {**same, "scorer": scorer, "verdict": _verdict(grade, harness, where)}


def _verdict(grade: Any, share: bool, where: str) -> str | float:
    """One of the four words; of lm-eval's samples also the share that is right, in (0, 1)."""
    right, word = _truth(grade), str(grade).strip().casefold()
    if right is not None:
        return "correct" if right else "wrong"
    if word in set(Verdict):
        return word
    if share and isinstance(grade, float) and 0 < grade < 1:
        return grade
    raise _unreadable("grade", grade, where, f"write true, false, 1, 0 or one of {', '.join(Verdict)}")


def _truth(value: Any) -> bool | None:
    """True or false, as a value or as a text; None of anything else."""
    return TRUTHS.get(str(value).strip().casefold())


def _number(row: Mapping[str, Any], name: str, where: str) -> float:
    """A count that is zero or more; nan where the row has none."""
    value = row.get(name)
    if not _there(row, name):
        return math.nan
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < 2**53 or (name == "sample" and number % 1):
        raise _unreadable(name, value, where, "write a number that is zero or more, or leave it out")
    return number


def _unreadable(name: str, value: Any, where: str, fix: str) -> MicotaError:
    return MicotaError(f"the {name} of a row cannot be read: {value!r:.80}", where=where, fix=fix)


def _there(row: Mapping[str, Any], name: str) -> bool:
    """Whether a row has a value; an empty cell, and the nan that Parquet has in its place, are none."""
    value = row.get(name)
    return not (value is None or value == "" or (isinstance(value, float) and math.isnan(value)))


def _text(value: Any) -> str | None:
    """The words of a problem's text, or of the problem in a document of lm-eval; None where it has none."""
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("problem", "question") if value.get(name)), None)
    return " ".join(value.split()) or None if isinstance(value, str) else None


def _check_texts(sides: Sequence[DataFrame], where: str) -> None:
    """Refuse rows that name one problem and show two texts, in the first column of texts that all sides have."""
    import pandas as pd

    name = next((name for name in TEXTS if all(name in of and of[name].notna().any() for of in sides)), None)
    if name is None:
        return
    keys = ["benchmark", "problem"]
    both = pd.concat([of[[*keys, name]].astype(object) for of in sides])
    counts = both.groupby(keys, sort=False)[name].nunique()
    if (counts > 1).any():
        benchmark, problem = counts.index[counts > 1][0]
        raise MicotaError(
            f"problem {problem!r:.80} of {benchmark!r:.80} has two texts in `{name}`, and so have {(counts > 1).sum()}"
            f" of {len(counts)} problems",
            where=where,
            why="the rows are paired by what they call the problem, and these are not one problem",
            fix=f"call other problems by other names (`problem`); or, if only the prompts differ, leave `{name}` out",
        )


def _benchmark(row: Mapping[str, Any]) -> str:
    return str(row.get("benchmark") or "rows")


def _problem(row: Mapping[str, Any], where: str) -> str:
    for name in ("problem", "key", "index", "doc_id"):
        if _there(row, name):
            return str(row[name])
    for name in ("problem_text", "prompt", "question"):
        if _there(row, name):
            return text_key(str(row[name]))
    fix = "a row has `problem`, `key`, `index`, `doc_id` or `prompt`"
    raise MicotaError("a row does not say which problem it answers", where=where, fix=fix)
