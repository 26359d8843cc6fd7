"""What the tables hold: one row for each model on each problem set, and the funnel of each data set."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from micota.recipe import Evaluation, Recipe
from micota.records import read_rows
from micota.specs import Dial, Merge, Mix, Select, Source, Spec, Train, walk
from micota.stats import clustered_accuracy, mean
from micota.store import Manifest, Store

ROLES = {
    "instruct": "Instruct",
    "short": "Short SFT",
    "strong": "Strong Teacher CoT",
    "half": "Half-size CoT",
    "mix_long": "Mix-Long",
    "micota": "MiCoTA",
}


@dataclass(frozen=True)
class Score:
    """Accuracy under one scorer with its standard error; nan where the evaluation is missing."""

    by: str
    accuracy: float = math.nan
    error: float = math.nan


@dataclass(frozen=True)
class Row:
    """A model on a problem set: its score under each scorer, n, lengths in tokens; of a missing one the names.

    `truncated` and `no_answer` are shares of the responses.
    """

    model: str
    role: str
    data: str
    scores: tuple[Score, ...]
    n: int = 0
    mean_tokens: float = math.nan
    truncated: float = math.nan
    no_answer: float = math.nan

    @property
    def done(self) -> bool:
        return not any(math.isnan(score.accuracy) for score in self.scores)


def rows(recipe: Recipe, store: Store) -> list[Row]:
    """The rows of a recipe's evaluations, in its order; missing ones are there and say so."""
    groups: dict[tuple[str, str], list[Evaluation]] = {}
    for one in recipe.evaluations:
        groups.setdefault((one.model, one.data), []).append(one)
    return [_row(recipe, ones, store) for ones in groups.values()]


def title(recipe: Recipe, one: Evaluation) -> str:
    """What is printed for a model: the arm's own name, else the role's, else the recipe's word; with its variables."""
    name = recipe.titles.get(one.role) or ROLES.get(one.role, one.role)
    return name + one.model.removeprefix(one.role)


def _row(recipe: Recipe, ones: list[Evaluation], store: Store) -> Row:
    """One row of what the same answers get under each scorer."""
    first = ones[0]
    scores: list[Score] = []
    graded: list[dict[str, Any]] = []
    for one in ones:
        manifest = store.manifest(one.spec)
        there = manifest is not None and store.whole(manifest)
        verdicts = read_rows(store.files(manifest) / "rows.jsonl") if manifest and there else []
        scores.append(_score(one.spec.by, verdicts))
        graded = graded or verdicts
    row = Row(title(recipe, first), first.role, first.data, tuple(scores))
    if not graded:
        return row
    return replace(
        row,
        n=len({verdict["key"] for verdict in graded}),
        mean_tokens=mean([float(v["tokens"]) for v in graded]),
        truncated=mean([float(v["truncated"]) for v in graded]),
        no_answer=mean([float(v["verdict"] == "no_answer") for v in graded]),
    )


def _score(by: str, verdicts: list[dict[str, Any]]) -> Score:
    of_problem: defaultdict[str, list[bool]] = defaultdict(list)
    for verdict in verdicts:
        of_problem[verdict["key"]].append(verdict["verdict"] == "correct")
    return Score(by, *clustered_accuracy(list(of_problem.values())))


def measures(recipe: Recipe, store: Store) -> list[tuple[str, str, dict[str, Any]]]:
    """(data set, model, facts) of every measure that is there: bits per character, Table 4 of the paper."""
    found = []
    for name, spec in recipe.measures.items():
        manifest = store.manifest(spec)
        if manifest:
            data, _, model = name.removeprefix("bpc:").partition("@")
            found.append((data, model, manifest.facts))
    return found


@dataclass(frozen=True)
class Step:
    """One finished data set, training or merge: its name in the recipe and what is worth a line."""

    name: str
    kind: str
    line: str


def steps(recipe: Recipe, store: Store) -> list[Step]:
    """Where the data and the models came from: yields, lengths, losses, merges."""
    labels = {spec.digest: name for name, spec in recipe.names.items()}
    found = []
    for spec in walk(*recipe.targets):
        manifest = None if isinstance(spec, Source) else store.manifest(spec)
        if manifest and (line := _line(spec, manifest)):
            found.append(Step(labels.get(spec.digest, spec.digest), spec.kind, line))
    return found


def _line(spec: Spec, manifest: Manifest) -> str:
    facts = manifest.facts
    if isinstance(spec, Select):
        drops = ", ".join(f"{count} {reason}" for reason, count in sorted(facts["dropped"].items())) or "none"
        return (
            f"{facts['kept']} of {facts['answers']} answers kept, {facts['mean_tokens']:.0f} tokens; dropped: {drops}"
        )
    if isinstance(spec, Train):
        drops = f", {facts['dropped']['too_long']} too long" if facts["dropped"] else ""
        return f"{facts['steps']} steps on {facts['examples']} examples{drops}; last loss {facts['final_loss']:.3f}"
    if isinstance(spec, Mix):
        return f"{facts['rows']} examples, of its parts {', '.join(map(str, facts['parts']))}"
    if isinstance(spec, Dial):
        tried = ", ".join(f"{row['weight']:g}: {row['accuracy']:.3f} at {row['tokens']:.0f}" for row in facts["dial"])
        return f"{manifest.made['linked']}; tried {tried}"
    if isinstance(spec, Merge):
        weights = ", ".join(f"{w:g}" for w in spec.weights)
        return f"{spec.method}, weight {weights}, density {spec.density:g}, lambda {spec.lambda_:g}"
    return ""


def seconds(recipe: Recipe, store: Store) -> dict[str, float]:
    """The seconds that each kind of stage took, over the whole recipe."""
    spent: defaultdict[str, float] = defaultdict(float)
    for spec in walk(*recipe.targets):
        manifest = None if isinstance(spec, Source) else store.manifest(spec)
        if manifest:
            spent[spec.kind] += manifest.made.get("seconds", 0.0)
    return dict(spent)


def folder(recipe: Recipe, store: Store) -> Path:
    return store.root / "reports" / recipe.name
