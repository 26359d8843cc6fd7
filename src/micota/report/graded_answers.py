"""The graded answers of a recipe as one tidy table: what every figure, page and comparison reads."""

from __future__ import annotations

from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.data.problem_sets import column_of
from micota.recipe.recipe import Evaluation, Recipe
from micota.report.answer_frame import (
    TEXTS,
    GradedRows,
    accuracy_table,
    answer_frame,
    generator,
    gold_text,
    queried,
    right_and_wrong,
    rows_where,
    text_column,
    usual_scorer,
)
from micota.run.damage import lost
from micota.specs import Generate, Inquiry, Source, Spec
from micota.store.artifacts import Store
from micota.store.checked import say
from micota.store.manifest import Manifest
from micota.store.pool import Pool
from micota.store.records import text_key

if TYPE_CHECKING:
    from pandas import DataFrame


class GradedAnswers:
    """The graded answers of a recipe that its store has, read once.

    `frame` is the tidy table; all that the report shows is computed from it, or from the facts of artifacts.
    """

    def __init__(self, recipe: Recipe, store: Store) -> None:
        self.recipe, self.store = recipe, store
        self._pools: dict[str, Pool] = {}

    @cached_property
    def frame(self) -> DataFrame:
        """A row for each model, problem, sample and scorer; missing evaluations have none.

        `arm`: the recipe's word for the model; `model`: the same with the variables that it depends on, as in
        `micota[seed=0]`; `benchmark`: the recipe's word for the problem set; then a column for each variable of the
        recipe's `for` that an evaluation depends on (`for_NAME` where NAME is one of these columns; <NA> where a model
        does not depend on it). `problem`: the hash of the problem's text; `sample`: its number, from 0; `scorer`;
        `verdict`: correct, wrong, no_answer or unverifiable; `answer`: what the scorer extracted, <NA> without;
        `tokens` of the response, by the tokenizer of the model that wrote it; `truncated`: cut at the limit;
        `repetitive`: it ends in the same piece again and again; `generated_by`: engine, version, server and machine
        profile of the run that collected the responses; `fake`: the responses, or what the model learned from, are
        invented, as by the engine `scripted`.
        """
        return answer_frame(self.recipe.evaluations, self._graded)

    @property
    def recipe_name(self) -> str:
        """The name of the recipe, which says what `--set` changed."""
        return self.recipe.name

    @cached_property
    def parts(self) -> list[DataFrame]:
        """The rows of `frame` of each evaluation, in the recipe's order; of a missing one no rows."""
        ends = list(accumulate((len(part.rows) for part in self._graded), initial=0))
        return [self.frame.iloc[start:end] for start, end in pairwise(ends)]

    @property
    def missing(self) -> list[str]:
        """The evaluations without verdicts, as `MODEL on BENCHMARK, SCORER`: not run yet, or their files gone."""
        cells = [evaluation for evaluation, rows in zip(self.recipe.evaluations, self.parts, strict=True) if rows.empty]
        return [f"{evaluation.model} on {evaluation.data}, {evaluation.spec.by}" for evaluation in cells]

    def responses(self, arm: str | None = None, benchmark: str | None = None, **where: str | None) -> DataFrame:
        """The rows of `frame` that fit, with their texts: `problem_text`, `gold` (the reference answer), `response`.

        `where` may name `scorer`, `verdict` and `problem`. `engine` is what wrote the response, with its version,
        `reply` what a judge said of it. A text that was removed from the store is <NA>. Raises MicotaError for a word
        that no row has.

        >>> results.responses("micota", "gsm8k", scorer="semantic", verdict="wrong")  # doctest: +SKIP
        """
        return self.with_texts(rows_where(self.frame, arm=arm, benchmark=benchmark, **where))

    def selected(
        self, *, right: str | None = None, wrong: str | None = None, where: str | None = None, **words: str | None
    ) -> DataFrame:
        """The rows of `frame` that fit: `words` as in `responses`, `where` a condition as of `DataFrame.query`.

        With `right` and `wrong`, two models: their rows on the problems that the one gets right in more than half of
        its responses, samples and seeds together, and the other in less than half, under the scorer of `words`, else
        `semantic` where it is there. Raises MicotaError for a word that no row has.
        """
        frame = self.frame
        if right is not None or wrong is not None:
            words["scorer"] = words.get("scorer") or usual_scorer(frame)
            frame = right_and_wrong(rows_where(frame, scorer=words["scorer"]), right, wrong)
        return rows_where(queried(frame, where) if where else frame, **words) if len(frame) else frame

    def with_texts(self, wanted: DataFrame) -> DataFrame:
        """Rows of `frame` with the columns `problem_text`, `gold`, `response`, `engine` and `reply`, from the store."""
        texts = [self._texts(i, wanted.loc[wanted.index.intersection(part.index)]) for i, part in enumerate(self.parts)]
        columns = zip(*(row for rows in texts for row in rows), strict=True) if len(wanted) else [()] * len(TEXTS)
        return wanted.assign(**{name: text_column(column) for name, column in zip(TEXTS, columns, strict=True)})

    @cached_property
    def levels(self) -> dict[tuple[str, str], str]:
        """By benchmark and problem its level, of problem sets whose source has such a column and is here."""
        sets = {one.data_word: one.problems for one in self.recipe.evaluations}
        return {(name, key): level for name, spec in sets.items() for key, level in column_of(spec, "level").items()}

    def to_parquet(self, path: str | Path) -> Path:
        """Write `frame` as a Parquet file; returns its path."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        self.frame.to_parquet(file, index=False)
        return file

    def table(self, arm: str | None = None, benchmark: str | None = None, scorer: str | None = None) -> DataFrame:
        """Accuracy of each model on each benchmark under each scorer; seeds and samples are pooled by problem.

        `n` problems; `accuracy` in [0, 1] with its standard `error` and the ends `low`, `high` of its 95 % interval
        over problems (NaN where all problems agree); mean `tokens` of a response; `truncated`, `repetitive`: shares;
        `fake`: whether any of the responses is invented.
        """
        return accuracy_table(rows_where(self.frame, arm=arm, benchmark=benchmark, scorer=scorer))

    def _texts(self, i: int, rows: DataFrame) -> list[tuple[str | None, ...]]:
        """Problem, reference answer, response, engine and judge's reply of rows of one evaluation, from the store."""
        if rows.empty:
            return []
        judged, completions = self.recipe.evaluations[i].spec.judged, self.recipe.evaluations[i].spec.completions
        problems = {row["key"]: row for row in self.rows(completions.problems)}
        if (pool := self.pool(completions)) is None:
            name = self.recipe.evaluations[i].model
            say(f"{completions.id} was removed, so its texts are <NA> here: micota run RECIPE --redo {name}")
        texts: list[tuple[str | None, ...]] = []
        for key in zip(rows["problem"], map(int, rows["sample"]), strict=True):
            problem = problems.get(key[0], {})
            answer = next(pool.read([key])) if pool is not None and key in pool else None
            written = (answer.target, answer.engine) if answer else (None, None)
            reply = self._reply(judged, problem, answer.target) if judged and problem and answer else None
            texts.append((problem.get("problem"), gold_text(problem.get("answer")), *written, reply))
        return texts

    def _reply(self, judged: Generate, problem: dict[str, Any], response: str) -> str | None:
        """What a judge said of a response; None where it was not asked, or its reply is gone."""
        assert isinstance(judged.problems, Inquiry)
        text, pool = judged.problems.text(problem, response), self.pool(judged)
        key = (text_key(text or ""), 0)
        return next(pool.read([key])).target if text and pool is not None and key in pool else None

    @cached_property
    def _graded(self) -> list[GradedRows]:
        return [self.graded(evaluation) for evaluation in self.recipe.evaluations]

    def graded(self, evaluation: Evaluation) -> GradedRows:
        """The verdicts of one evaluation, with what generated the answers; no rows of a missing one."""
        manifest = self.store.manifest(evaluation.spec.completions)
        holder = self.store.manifest_of(manifest.holder) if manifest else None
        rows = self.rows(evaluation.spec)
        return GradedRows(evaluation, rows, generator(holder or manifest), self.fake(evaluation.spec))

    def manifest(self, spec: Spec) -> Manifest | None:
        """The manifest of a spec that is done and whose files are there."""
        manifest = None if isinstance(spec, Source) else self.store.manifest(spec)
        return manifest if manifest and self.store.whole(manifest) else None

    def facts(self, spec: Spec) -> dict[str, Any]:
        """The facts of a finished spec, also of one whose files were removed; {} of what is missing."""
        manifest = None if isinstance(spec, Source) else self.store.manifest(spec)
        return manifest.facts if manifest else {}

    def fake(self, spec: Spec) -> bool:
        """Whether a finished spec is made of invented answers."""
        return bool(self.facts(spec).get("fake"))

    def rows(self, spec: Spec) -> list[dict[str, Any]]:
        """The rows of a finished artifact; none of what is missing."""
        return self.store.rows(None if isinstance(spec, Source) else self.store.manifest(spec))

    def pool(self, spec: Generate) -> Pool | None:
        """The pool that has the texts of a finished generation; None of a missing one."""
        manifest = self.store.manifest(spec)
        if manifest is None or not manifest.pools:
            return None
        name = manifest.pools[0]
        if name not in self._pools:
            self._pools[name] = self.store.pool(name)
            if gone := lost(self.store, manifest, self._pools):
                say(f"{manifest.id} lacks {gone}, which are left out here: run the recipe again")
        return self._pools[name]
