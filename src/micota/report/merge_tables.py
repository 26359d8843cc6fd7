"""How the assistant was merged: the candidates of the length dial, the settings of merges, and merge statistics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from micota.recipe.labels import everything, labels, name
from micota.report.cells import Column, between, number, percent, points, table, words
from micota.report.graded_answers import GradedAnswers
from micota.report.page import MISSING, Cell, Table
from micota.report.texts import text
from micota.specs import LengthDial, Merge
from micota.specs.dial_policy import SETTINGS

Facts = Mapping[str, Any]


def dials(results: GradedAnswers) -> tuple[Table, ...]:
    """One table for each dial of the recipe: all its candidates, the chosen one bold."""
    names = labels(results.recipe)
    found = [spec for spec in everything(results.recipe) if isinstance(spec, LengthDial)]
    return tuple(
        one
        for i, spec in enumerate(found)
        if results.facts(spec.search)
        for one in _dial(results, spec, name(names, spec), f"dial{i or ''}")
    )


def _dial(results: GradedAnswers, spec: LengthDial, label: str, file: str) -> tuple[Table, ...]:
    search, facts = results.facts(spec.search), results.facts(spec)
    varied = [one for one in SETTINGS if isinstance(spec.ranges[one], tuple)]
    columns: list[Column[Facts]] = [
        *(Column(one.capitalize(), _setting(one)) for one in varied),
        Column("Mean tokens", lambda row: number(row["tokens"])),
        Column("Share of length", lambda row: percent(row["share"])),
        Column("95 % of share", lambda row: between(*_ends(row, "share"), form=".1f")),
        Column("Accuracy", lambda row: percent(row["accuracy"])),
        Column("Loss", lambda row: points(row["loss"])),
        Column("95 % of loss", lambda row: between(*_ends(row, "loss"))),
        Column("Truncated", lambda row: percent(row.get("truncated", math.nan))),
        Column("Repetitive", lambda row: percent(row.get("looped", math.nan))),
        words("Choice", lambda row: _choice(row, facts)),
    ]
    ordered = sorted(search["dial"], key=lambda row: [row[one] for one in SETTINGS])
    bold = [Column(one.head, _bold(one.cell, facts)) for one in columns]
    return table("dial", bold, ordered, file=file, label=label, **_settings(spec, search, facts))


def _setting(key: str) -> Callable[[Facts], Cell]:
    return lambda row: number(row[key], "g")


def _ends(row: Facts, measure: str) -> tuple[float, float]:
    return row.get(f"{measure}_low", math.nan), row.get(f"{measure}_high", math.nan)


def is_chosen(row: Facts, facts: Facts) -> bool:
    """Whether a candidate is the one that the dial chose."""
    return all(row[one] == facts.get("chosen", {}).get(one) for one in SETTINGS)


def _choice(row: Facts, facts: Facts) -> str:
    word = "chosen (fallback)" if facts.get("fallback") else "chosen"
    return word if is_chosen(row, facts) else ""


def _bold(cell: Callable[[Facts], Cell], facts: Facts) -> Callable[[Facts], Cell]:
    return lambda row: replace(cell(row), bold=True) if is_chosen(row, facts) else cell(row)


def _settings(spec: LengthDial, search: Facts, facts: Facts) -> dict[str, Any]:
    """What the caption of a dial says."""
    reference, ranges = search["reference"], spec.ranges
    fixed = [f"{one} {ranges[one]:g}" for one in ("density", "lambda") if isinstance(ranges[one], float)]
    tokens = spec.target.tokens
    state = "chosen_fallback" if facts.get("fallback") else "" if facts else "chosen_nothing"
    return {
        "settings": ", ".join([spec.method, *(one for one in fixed if not one.endswith(" 1"))]),
        "wanted": f"{tokens:g} tokens" if tokens else f"{search['target']:g} of the reference's length",
        "max_loss": 100 * spec.max_loss,
        "probe": f"{spec.probe.n} probe problems ({spec.probe.by})",
        "accuracy": 100 * reference["accuracy"],
        "tokens": reference["tokens"],
        "runaways": text("runaways"),
        "state": text(state),
    }


def merges(results: GradedAnswers) -> tuple[Table, ...]:
    """The settings of the merges that the recipe gives by itself, and the statistics of all its merges."""
    names = labels(results.recipe)
    every = everything(results.recipe)
    columns: list[Column[Merge]] = [
        words("Merge", lambda one: name(names, one)),
        words("Method", lambda one: one.method),
        words("Base", lambda one: name(names, one.base)),
        words("Models", lambda one: ", ".join(name(names, model) for model in one.models)),
        Column("Weights", lambda one: Cell(", ".join(f"{weight:g}" for weight in one.weights), _only(one.weights))),
        Column("Density", lambda one: number(one.density, "g")),
        Column("Lambda", lambda one: number(one.lambda_, "g")),
        words("Rescale", lambda one: f"{one.rescale or 'none'}{DIVIDED[one.normalize]}"),
        Column("Seed", lambda one: number(one.seed, "g")),
    ]
    found = table("merges", columns, [one for one in every if isinstance(one, Merge)], word_columns=4)
    return found + _statistics(results, names)


DIVIDED = {None: "", True: ", normalised", False: ", not normalised"}


def _only(weights: tuple[float, ...]) -> float | None:
    return weights[0] if len(weights) == 1 else None


class Vector(NamedTuple):
    """The statistics of one task vector: of which merge, of which model, and the merge's facts."""

    merge: str
    model: str
    i: int
    facts: Facts

    @property
    def own(self) -> Facts:
        """What is known of this vector alone."""
        return dict(self.facts["models"][str(self.i)])


def vectors(results: GradedAnswers) -> list[Vector]:
    """The task vectors of all merges and dials that have statistics."""
    names = labels(results.recipe)
    found = [one for one in everything(results.recipe) if isinstance(one, Merge | LengthDial)]
    return [
        Vector(name(names, one), name(names, model), i, results.facts(one))
        for one in found
        for i, model in enumerate(one.models)
        if str(i) in results.facts(one).get("models", {})
    ]


def _statistics(results: GradedAnswers, names: dict[str, str]) -> tuple[Table, ...]:
    """Of each task vector its size, what was kept, and how it agrees with the others."""
    columns: list[Column[Vector]] = [
        words("Merge", lambda one: one.merge),
        words("Model", lambda one: one.model),
        Column("Norm of its task vector", lambda one: number(one.own["norm"], ".4g")),
        Column("Share kept", lambda one: percent(one.own["kept"])),
        Column("Signs disagree", _conflicts),
        Column("Cosine with the first", _cosine),
    ]
    return table("task_vectors", columns, vectors(results), word_columns=2)


def _conflicts(one: Vector) -> Cell:
    share = one.facts["sign_conflicts"]
    return MISSING if share is None else percent(share)


def _cosine(one: Vector) -> Cell:
    found = [each["cosine"] for each in one.facts["cosines"] if each["models"] == ["0", str(one.i)]]
    return number(found[0], ".3f") if found and found[0] is not None else MISSING
