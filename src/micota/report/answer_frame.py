"""The tidy table of graded answers: a row for each model, problem, sample and scorer."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError, suggestion
from micota.recipe.recipe import Evaluation
from micota.stats import proportion
from micota.store.manifest import Manifest

if TYPE_CHECKING:
    from pandas import DataFrame

BEFORE = ("arm", "model", "benchmark")
AFTER = (
    "problem",
    "sample",
    "scorer",
    "verdict",
    "answer",
    "tokens",
    "truncated",
    "repetitive",
    "generated_by",
    "fake",
)
TEXTS = ("problem_text", "gold", "response", "engine", "reply")
MEANS = ("tokens", "truncated", "repetitive")
WORDS = (*BEFORE, "scorer", "verdict", "generated_by")
METHODS = ("str", "contains", "startswith", "endswith", "len", "lower", "isin", "isna", "notna", "between", "abs")
"""What a condition may call on a column."""


@dataclass(frozen=True)
class GradedRows:
    """The verdicts of one evaluation, as its artifact has them, and what generated the answers."""

    evaluation: Evaluation
    rows: Sequence[Mapping[str, Any]]
    generated_by: str
    fake: bool


def variable_columns(evaluations: Iterable[Evaluation]) -> dict[str, str]:
    """The column of each variable of the recipe: its name, or `for_NAME` where a fixed column has that name."""
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.variables)
    return {name: f"for_{name}" if name in (*BEFORE, *AFTER) else name for name in names}


def answer_frame(evaluations: Sequence[Evaluation], graded: Iterable[GradedRows]) -> DataFrame:
    """The table of all verdicts, in the recipe's order; without verdicts a table of no rows with the same columns."""
    import pandas as pd

    variables = variable_columns(evaluations)
    columns: dict[str, list[Any]] = {name: [] for name in (*BEFORE, *variables.values(), *AFTER)}
    for part in graded:
        for name, value in _constants(part, variables).items():
            columns[name] += [value] * len(part.rows)
        for row in part.rows:
            for name, value in _varying(row).items():
                columns[name].append(value)
    return pd.DataFrame({name: _typed(name, values, variables) for name, values in columns.items()})


def _constants(part: GradedRows, variables: Mapping[str, str]) -> dict[str, Any]:
    cell = part.evaluation
    words = {"arm": cell.role, "model": cell.model, "benchmark": cell.data_word, "scorer": cell.spec.by}
    values = {column: cell.variables.get(name) for name, column in variables.items()}
    return words | values | {"generated_by": part.generated_by, "fake": part.fake}


def _varying(row: Mapping[str, Any]) -> dict[str, Any]:
    same = {name: row[name] for name in ("sample", "verdict", "tokens", "truncated")}
    return {**same, "problem": row["key"], "answer": plain(row.get("answer")), "repetitive": row.get("looped", False)}


def _typed(name: str, values: list[Any], variables: Mapping[str, str]) -> Any:
    """A column with its type: words are categories in the order of their first row."""
    import pandas as pd

    known = [value for value in values if value is not None]
    if name in WORDS:
        return pd.Categorical(values, categories=list(dict.fromkeys(values)))
    if name in variables.values():
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in known)
        return pd.array(values if whole else [v if v is None else str(v) for v in values],
                        dtype="Int64" if whole and known else "string")  # fmt: skip
    dtypes = {"problem": "string", "answer": "string", "truncated": "bool", "repetitive": "bool", "fake": "bool"}
    return pd.Series(values, dtype=dtypes.get(name, "int64"))


def plain(value: Any) -> str | None:
    """A text that every table format can hold: lone surrogates are written as escapes; None stays None."""
    return None if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def gold_text(answer: Any) -> str | None:
    """A reference answer as text; one that is a list or a number as JSON."""
    return answer if answer is None or isinstance(answer, str) else json.dumps(answer)


def text_column(texts: Iterable[str | None]) -> Any:
    """A pandas array of texts, None as <NA>."""
    import pandas as pd

    return pd.array([plain(text) for text in texts], dtype="string")


def generator(manifest: Manifest | None) -> str:
    """What generated the answers of a `generate` artifact: `transformers 5.23.0 on laptop`, or ""."""
    place = manifest.provenance.get("place", {}) if manifest else {}
    if manifest is None or "engine" not in place:
        return ""
    version = manifest.provenance.get("packages", {}).get(place["engine"])
    server = f"at {place['url']}" if place.get("url") else None
    machine = f"on {manifest.provenance['machine']}" if manifest.provenance.get("machine") else None
    return " ".join(part for part in (place["engine"], version, server, machine) if part)


def rows_where(frame: DataFrame, **wanted: str | None) -> DataFrame:
    """The rows with the wanted words; None takes all. An `arm` is also found by the label of one of its models.

    Raises MicotaError for a word that the column does not have.
    """
    for column, word in wanted.items():
        if word is not None:
            fits = frame[column] == word
            if column == "arm" and not fits.any():
                fits = frame["model"] == word
            if not fits.any():
                raise _unknown(frame, column, word)
            frame = frame[fits]
    return frame


def usual_scorer(frame: DataFrame) -> str:
    """`semantic` where the rows have it, else the first scorer."""
    known = list(map(str, frame["scorer"].unique()))
    return "semantic" if "semantic" in known or not known else known[0]


def queried(frame: DataFrame, where: str) -> DataFrame:
    """The rows for which a condition on their columns holds; a mistake in it is a MicotaError.

    It compares columns: a call of anything but METHODS, a variable of Python, or a result that is no truth value for
    each row are refused.
    """
    try:
        for node in ast.walk(ast.parse(re.sub(r"`[^`]*`", "column", where).strip(), mode="eval")):
            if isinstance(node, ast.Attribute) and node.attr not in METHODS:
                raise ValueError(f".{node.attr} is none of {', '.join(METHODS)}")
        holds = frame.eval(where, engine="python", local_dict={}, global_dict={})
        if str(getattr(holds, "dtype", "")) not in ("bool", "boolean") or len(holds) != len(frame):
            raise ValueError("it says nothing true or false of a row")
        return frame[holds.fillna(False).astype(bool)]
    except Exception as error:  # whatever the user's expression comes to
        fix = f"compare columns, as in `tokens > 300 and not truncated`; there are {', '.join(frame.columns)}"
        raise MicotaError(f"the condition '{where:.200}' cannot be read: {error!s:.200}", fix=fix) from None


def right_and_wrong(frame: DataFrame, right: str | None, wrong: str | None) -> DataFrame:
    """The rows of two models, of one scorer, on the problems that `right` gets right and `wrong` does not.

    Of several responses to a problem, its samples and those of all seeds, `right` is right in more than half and
    `wrong` in less than half.
    """
    sides = {name: rows_where(frame, arm=arm) for name, arm in (("right", right), ("wrong", wrong)) if arm is not None}
    fitting = []
    for name, rows in sides.items():
        share = rows["verdict"].eq("correct").groupby([rows["benchmark"].astype(str), rows["problem"]]).mean()
        fitting.append(set(share.index[share > 0.5 if name == "right" else share < 0.5]))
    wanted, index = set.intersection(*fitting), frame.index[:0]
    for rows in sides.values():
        keys = zip(rows["benchmark"].astype(str), rows["problem"], strict=True)
        index = index.union(rows.index[[key in wanted for key in keys]])
    return frame.loc[index]


def _unknown(frame: DataFrame, column: str, word: str) -> MicotaError:
    known = frame[column].drop_duplicates().tolist()
    return MicotaError(
        f"no answer has the {column} '{word}'",
        where="Results.frame",
        why=None if known else "no evaluation is done yet, or nothing is left after the other conditions",
        fix=suggestion(word, map(str, known[:1000])) if known else "micota run RECIPE, or Workspace.evaluate",
    )


def by_problem(frame: DataFrame, column: str) -> Any:
    """The mean of a column for each problem: over samples first, then over seeds and other variables; a Series."""
    means = frame.groupby([*variables_of(frame), "problem"], dropna=False, observed=True, sort=False)[column].mean()
    return means.groupby("problem", sort=True).mean()


def accuracy_table(frame: DataFrame) -> DataFrame:
    """A row for each arm, combination of variables but the seed, benchmark and scorer: see `Results.table`."""
    from micota.report.wide_frame import WideFrame

    keys = ["arm", *(name for name in variables_of(frame) if name != "seed"), "benchmark", "scorer"]
    groups = frame.groupby(keys, dropna=False, observed=True, sort=False)
    rows = [dict(zip(keys, values, strict=True)) | _summary(group) for values, group in groups]
    return WideFrame(rows, columns=[*keys, "n", "accuracy", "error", "low", "high", *MEANS, "fake"])


def _summary(group: DataFrame) -> dict[str, Any]:
    estimate = proportion(by_problem(group.assign(correct=group["verdict"] == "correct"), "correct").tolist())
    means = {name: float(by_problem(group, name).mean()) for name in MEANS}
    return {
        "n": estimate.n,
        "accuracy": estimate.value,
        **{n: getattr(estimate, n) for n in ("error", "low", "high")},
        **means,
        "fake": bool(group["fake"].any()),
    }


def variables_of(frame: DataFrame) -> list[str]:
    """The columns of the recipe's variables: those between `benchmark` and `problem`."""
    columns = list(frame.columns)
    return columns[len(BEFORE) : columns.index(AFTER[0])]
