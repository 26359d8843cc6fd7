"""What a recipe's evaluations came to, for Python: the tidy table, comparisons, and the report."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.recipe.words import as_grader
from micota.report import files
from micota.report.answer_frame import rows_where, usual_scorer
from micota.report.comparison import Comparison, compared
from micota.report.graded_answers import GradedAnswers
from micota.report.graded_files import GradedFile

if TYPE_CHECKING:
    from pandas import DataFrame


class Results(GradedAnswers):
    """What a recipe's evaluations came to: one tidy table, and what is computed from it.

    >>> results.frame.groupby("arm").tokens.mean()  # doctest: +SKIP
    >>> results.compare("micota", "strong").accuracy["gsm8k"]  # doctest: +SKIP
    """

    def compare(
        self,
        a: str,
        b: str,
        scorer: str | Callable[..., Any] | None = None,
        benchmark: str | None = None,
        other: Results | GradedFile | None = None,
    ) -> Comparison:
        """Compare two models on the problems that both answered, under a scorer: `semantic` where the recipe has it.

        `a` and `b` are words for arms, or labels of single models such as `micota[seed=0]`. Samples of a problem and
        values of variables, as seeds, are averaged: a problem is one unit. Where both models have the same values of
        a variable they are paired within them. `b` is a model of `other` results where these are given.
        Raises MicotaError for an unknown name and where no problem is common to both.
        """
        if callable(scorer):
            scorer = str(as_grader(scorer)["by"])
        sides = ((a, self), (b, other or self))
        scorer = scorer or usual_scorer(self.frame)
        rows_a, rows_b = (rows_where(of.frame, arm=arm, scorer=scorer, benchmark=benchmark) for arm, of in sides)
        names = [arm if other in (None, self) else f"{of.recipe_name}/{arm}" for arm, of in sides]
        return compared(names[0], rows_a, names[1], rows_b, scorer, self.levels)

    def samples(self) -> DataFrame:
        """avg@k, pass@k, pass^k and maj@k of what was answered more than once.

        A row for each arm, group of variables, benchmark, scorer, k and measure: `value` in [0, 1] with its standard
        `error`, the ends `low` and `high` of its 95 % interval over `n` problems.
        """
        from micota.report.samples import frame

        return frame(self)

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
