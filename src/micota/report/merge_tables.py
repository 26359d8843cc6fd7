"""How the assistant was merged: the candidates of the length dial, the settings of merges, and merge statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from micota.recipe.labels import everything, labels, name
from micota.report.cells import Row, between, number, percent, points, table
from micota.report.graded_answers import GradedAnswers
from micota.report.page import MISSING, Cell, Table
from micota.report.texts import text
from micota.specs import LengthDial, Merge, Target
from micota.specs.dial_policy import SETTINGS

Facts = Mapping[str, Any]
DIVIDED = {None: "", True: ", normalised", False: ", not normalised"}


def dials(results: GradedAnswers) -> tuple[Table, ...]:
    """One table for each dial of the recipe: all its candidates, the chosen one bold."""
    names = labels(results.recipe)
    tables: tuple[Table, ...] = ()
    for i, spec in enumerate(spec for spec in everything(results.recipe) if isinstance(spec, LengthDial)):
        if search := results.facts(spec.search):
            facts = results.facts(spec)
            ordered = sorted(search["dial"], key=lambda row: [row[setting] for setting in SETTINGS])
            rows = [_candidate(row, spec, facts) for row in ordered]
            about = _caption(spec, search, facts)
            tables += table("dial", rows, file=f"dial{i or ''}", label=name(names, spec), **about)
    return tables


def is_chosen(row: Facts, facts: Facts) -> bool:
    """Whether a candidate is the one that the dial chose."""
    return all(row[name] == facts.get("chosen", {}).get(name) for name in SETTINGS)


def _candidate(row: Facts, spec: LengthDial, facts: Facts) -> Row:
    chosen = is_chosen(row, facts)
    share, loss = ([row.get(f"{name}_{end}", math.nan) for end in ("low", "high")] for name in ("share", "loss"))
    cells: dict[str, Cell] = {
        **{name.capitalize(): number(row[name], "g") for name in SETTINGS if isinstance(spec.ranges[name], tuple)},
        "Mean tokens": number(row["tokens"]),
        "Share of length": percent(row["share"]),
        "95 % of share": between(share[0], share[1], form=".1f"),
        "Accuracy": percent(row["accuracy"]),
        "Loss": points(row["loss"]),
        "95 % of loss": between(*loss),
        "Truncated": percent(row.get("truncated", math.nan)),
        "Repetitive": percent(row.get("looped", math.nan)),
        "Choice": Cell(("chosen (fallback)" if facts.get("fallback") else "chosen") if chosen else ""),
    }
    return Row({head: replace(cell, bold=chosen) for head, cell in cells.items()})


def _caption(spec: LengthDial, search: Facts, facts: Facts) -> dict[str, Any]:
    """What the caption of a dial says."""
    reference = search["reference"]
    fixed = {name: spec.ranges[name] for name in ("density", "lambda") if spec.ranges[name] != 1.0}
    settings = [f"{name} {value:g}" for name, value in fixed.items() if not isinstance(value, tuple)]
    state = "chosen_fallback" if facts.get("fallback") else "" if facts else "chosen_nothing"
    return {
        "settings": ", ".join([spec.method, *settings]),
        "wanted": _wanted(spec.target),
        "max_loss": 100 * spec.max_loss,
        "probe": f"{spec.probe.n} probe problems ({spec.probe.by})",
        "accuracy": 100 * reference["accuracy"],
        "tokens": reference["tokens"],
        "runaways": text("runaways"),
        "state": text(state),
    }


def _wanted(target: Target) -> str:
    if target.rank:
        return f"the length at which `{target.rank.by}` under the student is best"
    return f"{target.tokens:g} tokens" if target.tokens else f"{target.length:g} of the reference's length"


def merges(results: GradedAnswers) -> tuple[Table, ...]:
    """The settings of the merges that the recipe gives by itself, and the statistics of all its merges."""
    names = labels(results.recipe)
    specs = [spec for spec in everything(results.recipe) if isinstance(spec, Merge)]
    statistics = [
        Row({"Merge": vector.merge, "Model": vector.model, "Norm of its task vector": number(vector.own["norm"], ".4g")}
            | {"Share kept": percent(vector.own["kept"]), "Signs disagree": vector.conflicts}
            | {"Cosine with the first": vector.cosine})
        for vector in vectors(results)
    ]  # fmt: skip
    settings = table("merges", [_settings(names, spec) for spec in specs], words=4)
    return settings + table("task_vectors", statistics, words=2)


def _settings(names: dict[str, str], spec: Merge) -> Row:
    weights = ", ".join(f"{weight:g}" for weight in spec.weights)
    cells: dict[str, object] = {
        "Merge": name(names, spec),
        "Method": spec.method,
        "Base": name(names, spec.base),
        "Models": ", ".join(name(names, model) for model in spec.models),
        "Weights": Cell(weights, spec.weights[0] if len(spec.weights) == 1 else None),
        "Density": number(spec.density, "g"),
        "Lambda": number(spec.lambda_, "g"),
        "Rescale": f"{spec.rescale or 'none'}{DIVIDED[spec.normalize]}",
        "Seed": number(spec.seed, "g"),
    }
    return Row(cells)


class Vector(NamedTuple):
    """The statistics of one task vector: of which merge, of which model, its number there, and the merge's facts."""

    merge: str
    model: str
    i: int
    facts: Facts

    @property
    def own(self) -> Facts:
        """What is known of this vector alone."""
        return dict(self.facts["models"][str(self.i)])

    @property
    def conflicts(self) -> Cell:
        """The share of entries where the merge's task vectors have opposite signs."""
        share = self.facts["sign_conflicts"]
        return MISSING if share is None else percent(share)

    @property
    def cosine(self) -> Cell:
        """The cosine with the first task vector of the merge."""
        cosines = [pair["cosine"] for pair in self.facts["cosines"] if pair["models"] == ["0", str(self.i)]]
        return number(cosines[0], ".3f") if cosines and cosines[0] is not None else MISSING


def vectors(results: GradedAnswers) -> list[Vector]:
    """The task vectors of all merges and dials that have statistics."""
    names = labels(results.recipe)
    return [
        Vector(name(names, spec), name(names, model), i, results.facts(spec))
        for spec in everything(results.recipe)
        for i, model in enumerate(spec.models if isinstance(spec, Merge | LengthDial) else ())
        if str(i) in results.facts(spec).get("models", {})
    ]
