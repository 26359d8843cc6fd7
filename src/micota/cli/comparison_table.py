"""`micota compare`: what is compared, found by its name, and the tables that are printed of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from micota.atomic import write_text
from micota.cli.tables import printed
from micota.errors import MicotaError, suggestion
from micota.recipe import recipe as recipes
from micota.recipe.shipped import known
from micota.report.comparison import Comparison, corrected
from micota.report.comparison_tables import comparison_tables
from micota.report.graded_files import GradedFile
from micota.report.results import Results
from micota.report.texts import text
from micota.store.artifacts import Store

SHOWN = 5  # problems that changed sides, each way, are printed


@dataclass(frozen=True)
class Side:
    """One side of a comparison: graded answers, one model of them or all with None, and the name of the answers."""

    results: Results | GradedFile
    model: str | None
    name: str

    @property
    def models(self) -> list[str]:
        """The model, or the words of all that have answers."""
        return [self.model] if self.model else [str(one) for one in self.results.frame["arm"].unique()]

    def contents(self, model: str) -> object:
        """What is equal for the same answers of a model: its file, or its evaluations in a recipe."""
        if isinstance(self.results, GradedFile):
            return self.results.path.resolve(), model
        ones = [one for one in self.results.recipe.evaluations if model in (one.role, one.model)]
        return {(one.data_word, one.spec.digest) for one in ones}


def compare(
    names: Sequence[str], sets: Sequence[str], store: Store, scorer: str | None, benchmark: str | None
) -> list[Comparison]:
    """Each name against the first: models of recipes (RECIPE/MODEL), recipes, or files of graded rows.

    Of two recipes every model that both have is compared; `sets` change the recipes of all names but the first.
    """
    first = _side(names[0], (), store, None)
    found = []
    for name in names[1:] or names:
        other = _side(name, sets, store, first)
        found += [
            _told_apart(other.results.compare(b, a, scorer, benchmark, first.results), other, b, first, a)
            for a, b in _pairs(first, other, names[0])
        ]
    return corrected(found)


def _told_apart(found: Comparison, a: Side, model_a: str, b: Side, model_b: str) -> Comparison:
    """The comparison; where two contents have one name, by the names that were typed."""
    if a.results.recipe_name != b.results.recipe_name or a.results is b.results or a.name == b.name:
        return found
    return replace(found, a=f"{a.name}/{model_a}", b=f"{b.name}/{model_b}")


def _pairs(first: Side, other: Side, name: str) -> list[tuple[str, str]]:
    """Models of the first side and of the other: the same word, or the only one of a side."""
    ours, theirs = first.models, other.models
    if len(ours) == 1 or len(theirs) == 1:
        pairs = [(a, b) for a in ours for b in theirs]
    else:
        pairs = [(word, word) for word in ours if word in theirs]
    pairs = [(a, b) for a, b in pairs if first.contents(a) != other.contents(b)]
    if not pairs:
        why = "no model of the one is another model of the other"
        fix = "name two models: RECIPE/MODEL RECIPE/MODEL"
        raise MicotaError(f"there is nothing to compare with '{name}'", why=why, fix=fix)
    return pairs


def _side(name: str, sets: Sequence[str], store: Store, first: Side | None) -> Side:
    """What a name stands for: a file of graded rows, a recipe, a model of either, or a model of the first one."""
    parts = name.split("/")
    for i in range(len(parts), 0, -1):
        base, model = "/".join(parts[:i]), "/".join(parts[i:]) or None
        if Path(base).suffix in (".jsonl", ".parquet", ".csv", ".json") and Path(base).is_file():
            return Side(GradedFile(Path(base)), model, base)
        if (found := _recipe(base, sets)) is not None:
            return Side(Results(found, store), model, base)
    if first is not None and not sets:
        known = {*map(str, first.results.frame["arm"]), *map(str, first.results.frame["model"])}
        if name in known:
            return Side(first.results, name, first.name)
        fix = suggestion(name, sorted(known)) + ", or name a recipe, RECIPE/MODEL, or a file of graded rows"
    else:
        fix = "name a recipe, RECIPE/MODEL (lab-mini/micota), or a file of graded rows"
    raise MicotaError(f"'{name}' is no recipe, model or file", fix=fix)


def _recipe(name: str, sets: Sequence[str]) -> recipes.Recipe | None:
    base, _, changes = name.partition("+")
    there = known(name) or (changes and "/" not in changes and known(base))
    return recipes.load(name, sets) if there else None


def show(console: Console, comparisons: Sequence[Comparison], texts: int = SHOWN) -> None:
    """The differences by benchmark; of one comparison also by level and length, and the problems that changed sides."""
    for table in comparison_tables(comparisons):
        console.print(printed(table, wide=len(table.head)))
    for one in comparisons:
        if one.left_out:
            console.print(text("comparison", "left_out", n=one.left_out))
    for one in comparisons if len(comparisons) == 1 else ():
        _changed(console, one, texts)
    console.print(text("comparison"), soft_wrap=True)


def _changed(console: Console, of: Comparison, texts: int) -> None:
    for name, rows in of.sides:
        console.print(f"{name} better: {len(rows)} problems", markup=False, highlight=False)
        for row in rows.head(texts).to_dict("records"):
            console.print(f"  {row['benchmark']} {row['problem']}", markup=False, highlight=False)
    if len(of.changed) > 2 * texts:
        console.print("  all of them: --json FILE; their texts: micota responses", highlight=False)


def write(comparisons: Sequence[Comparison], json_file: Path | None, csv_file: Path | None) -> None:
    """All figures as JSON, or the tables by benchmark as CSV."""
    import pandas as pd

    if json_file:
        write_text(json_file, json.dumps([one.json() for one in comparisons], indent=1) + "\n")
    if csv_file:
        parts = [one.frame.assign(a=one.a, b=one.b, scorer=one.scorer, p_holm=one.holm) for one in comparisons]
        whole = pd.concat(parts, ignore_index=True)
        first = ["a", "b", "scorer"]
        whole[[*first, *(name for name in whole if name not in first)]].to_csv(csv_file, index=False)
