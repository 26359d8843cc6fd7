"""What a recipe's evaluations came to, for Python: the tidy table, comparisons, and the report."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError
from micota.recipe.words import as_grader
from micota.report import files
from micota.report.answer_frame import rows_where, variables_of
from micota.report.graded_answers import GradedAnswers
from micota.stats import Estimate, interval

if TYPE_CHECKING:
    from pandas import DataFrame

POOLED = "all"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Model `a` minus model `b`, paired by problem, with 95 % intervals over problems.

    `accuracy` (in [0, 1]) and `tokens` have an estimate for each benchmark and, of several, one for `all`: their
    unweighted mean. `differences` has a row for each problem: benchmark, problem, and a - b of both. `fake`: some of
    the answers are invented.
    """

    a: str
    b: str
    scorer: str
    accuracy: Mapping[str, Estimate]
    tokens: Mapping[str, Estimate]
    differences: DataFrame
    fake: bool = False

    @property
    def frame(self) -> DataFrame:
        """The estimates as a table: a row for each benchmark and measure."""
        import pandas as pd

        rows = [
            {"benchmark": name, "measure": measure, "difference": of.value, "error": of.error, "low": of.low,
             "high": of.high, "n": of.n}
            for measure, estimates in (("accuracy", self.accuracy), ("tokens", self.tokens))
            for name, of in estimates.items()
        ]  # fmt: skip
        return pd.DataFrame(rows)

    @property
    def title(self) -> str:
        """What is compared, in words."""
        fake = ", of FAKE answers" if self.fake else ""
        return f"{self.a} minus {self.b}, {self.scorer}, paired by problem{fake}"

    def __str__(self) -> str:
        return f"{self.title}\n{self.frame.to_string(index=False)}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self.title)}</p>{self.frame.to_html(index=False)}"


class Results(GradedAnswers):
    """What a recipe's evaluations came to: one tidy table, and what is computed from it.

    >>> results.frame.groupby("arm").tokens.mean()  # doctest: +SKIP
    >>> results.compare("micota", "strong").accuracy["gsm8k"]  # doctest: +SKIP
    """

    def compare(
        self, a: str, b: str, scorer: str | Callable[..., Any] | None = None, benchmark: str | None = None
    ) -> Comparison:
        """Compare two models on the problems that both answered, under a scorer: `semantic` where the recipe has it.

        `a` and `b` are words for arms, or labels of single models such as `micota[seed=0]`. Samples of a problem and
        values of variables, as seeds, are averaged: a problem is one unit. Where both models depend on a variable they
        are paired within its values. Raises MicotaError for an unknown name and where no problem is common to both.
        """
        if callable(scorer):
            scorer = str(as_grader(scorer)["by"])
        known = self.frame["scorer"].cat.categories
        scorer = scorer or ("semantic" if "semantic" in known or not len(known) else str(known[0]))
        rows_a, rows_b = (rows_where(self.frame, arm=arm, scorer=scorer, benchmark=benchmark) for arm in (a, b))
        units = _differences(rows_a, rows_b)
        if units.empty:
            raise MicotaError(
                f"'{a}' and '{b}' have no answered problem in common",
                where="Results.compare",
                fix="evaluate both on the same benchmark; Results.missing lists what is not there yet",
            )
        fake = bool(rows_a["fake"].any() or rows_b["fake"].any())
        return Comparison(a, b, scorer, _estimates(units, "accuracy"), _estimates(units, "tokens"), units, fake)

    def report(self, dir: str | Path | None = None) -> Path:
        """Write the report (HTML, Markdown, CSV, LaTeX, PNG) into a folder (default: the store's); returns its page."""
        folder = Path(dir) if dir is not None else files.folder(self.recipe, self.store)
        return files.publish(files.page_of(self), folder)

    def __repr__(self) -> str:
        names = ", ".join(map(str, self.frame["benchmark"].cat.categories))
        models, gone = self.frame["model"].nunique(), len(self.missing)
        fake = ", FAKE answers" if self.frame["fake"].any() else ""
        return (
            f"<Results of {self.recipe.name}: {len(self.frame):,} rows, {models} models, {names or 'no benchmark'}; "
            f"{gone} of {len(self.recipe.evaluations)} evaluations missing{fake}>"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.table().to_html(index=False, float_format='%.3f')}"


def _differences(a: DataFrame, b: DataFrame) -> DataFrame:
    """a - b for each benchmark and problem: the mean over samples, then over the values of variables."""
    shared = [name for name in variables_of(a) if a[name].notna().all() and b[name].notna().all()]
    keys = ["benchmark", *shared, "problem"]
    means_a, means_b = (_means(frame, keys) for frame in (a, b))
    both = means_a.merge(means_b, on=keys, suffixes=("_a", "_b"))
    for name in ("accuracy", "tokens"):
        both[name] = both[f"{name}_a"] - both[f"{name}_b"]
    return both.groupby(["benchmark", "problem"], observed=True)[["accuracy", "tokens"]].mean().reset_index()


def _means(frame: DataFrame, keys: list[str]) -> DataFrame:
    frame = frame.assign(accuracy=(frame["verdict"] == "correct").astype(float))
    inner = list(dict.fromkeys([*keys, *variables_of(frame)]))
    means = frame.groupby(inner, observed=True, dropna=False)[["accuracy", "tokens"]].mean().reset_index()
    return means.groupby(keys, observed=True, dropna=False)[["accuracy", "tokens"]].mean().reset_index()


def _estimates(units: DataFrame, measure: str) -> dict[str, Estimate]:
    sets = {str(name): part[measure].tolist() for name, part in units.groupby("benchmark", observed=True, sort=False)}
    estimates = {name: interval(values) for name, values in sets.items()}
    return estimates | ({POOLED: interval(*sets.values())} if len(sets) > 1 else {})
