"""How the assistant was merged: what the dial tried and chose, the settings of merges, and what merging saw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from micota.recipe.labels import everything, labels, name
from micota.report.cells import Row, between, number, percent, points
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import RUNAWAYS
from micota.report.page import MISSING, Cell, Table
from micota.specs import LengthDial, Merge
from micota.specs import dial_policy as choosing


def dials(results: GradedAnswers) -> tuple[Table, ...]:
    """One table for each dial of the recipe: all its candidates, the chosen one bold."""
    names = labels(results.recipe)
    found = [spec for spec in everything(results.recipe) if isinstance(spec, LengthDial)]
    return tuple(
        _dial(results, spec, name(names, spec), f"dial{i or ''}")
        for i, spec in enumerate(found)
        if results.facts(spec.search)
    )


def merges(results: GradedAnswers) -> tuple[Table, ...]:
    """The settings of the merges that the recipe gives by itself, and what all its merges saw."""
    names = labels(results.recipe)
    found = [spec for spec in everything(results.recipe) if isinstance(spec, Merge)]
    rows = tuple(_merge(names, spec) for spec in found)
    head = ("Merge", "Method", "Base", "Models", "Weights", "Density", "Lambda", "Rescale", "Seed")
    caption = "A weight multiplies the difference of a model to the base; the density is the share of it that is kept."
    tables = (Table("merges", "Merges", head, rows, caption, words=4),) if rows else ()
    return tables + _seen(results, names)


def _dial(results: GradedAnswers, spec: LengthDial, label: str, key: str) -> Table:
    search, facts = results.facts(spec.search), results.facts(spec)
    open_ = [one for one in choosing.SETTINGS if isinstance(spec.ranges[one], tuple)]
    head = (*(one.capitalize() for one in open_), "Mean tokens", "Share of length", "95 %", "Accuracy", "Loss", "95 %",
            "Truncated", "Looped", "Choice")  # fmt: skip
    ordered = sorted(search["dial"], key=lambda row: [row[one] for one in choosing.SETTINGS])
    rows = tuple(_candidate(row, open_, facts) for row in ordered)
    return Table(key, f"Dial of {label}", head, rows, _caption(spec, search, facts))


def _candidate(row: Mapping[str, float], open_: Sequence[str], facts: Mapping[str, Any]) -> Row:
    chosen = all(row[one] == facts.get("chosen", {}).get(one) for one in choosing.SETTINGS)
    word = ("chosen (fallback)" if facts.get("fallback") else "chosen") if chosen else ""
    low, high = ({one: row.get(f"{one}_{end}", math.nan) for one in ("share", "loss")} for end in ("low", "high"))
    cells = (
        *(number(row[one], "g") for one in open_),
        number(row["tokens"]),
        percent(row["share"]),
        between(low["share"], high["share"], form=".1f"),
        percent(row["accuracy"]),
        points(row["loss"]),
        between(low["loss"], high["loss"]),
        *(percent(row.get(one, math.nan)) for one in ("truncated", "looped")),
        Cell(word),
    )
    return tuple(replace(cell, bold=True) for cell in cells) if chosen else cells


def _caption(spec: LengthDial, search: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    reference, fixed = search["reference"], [one for one in ("density", "lambda") if spec.ranges[one] != 1.0]
    settings = [f"{one} {spec.ranges[one]:g}" for one in fixed if not isinstance(spec.ranges[one], tuple)]
    wanted = (
        f"{spec.target.tokens:g} tokens" if spec.target.tokens else f"{search['target']:g} of the reference's length"
    )
    said = (
        f"{', '.join([spec.method, *settings])}; wanted: {wanted} at a loss of at most {100 * spec.max_loss:g} points, "
        f"on {spec.probe.n} probe problems ({spec.probe.by}). The reference has {100 * reference['accuracy']:.1f} % at "
        f"{reference['tokens']:.1f} tokens. Chosen is, among those that lose no more than that, the one nearest to the "
        "wanted length. Shares and accuracy in percent; the loss is the reference's accuracy minus the candidate's, in "
        f"points; intervals are paired by problem. {RUNAWAYS} The choice was made on these figures, so they favour it."
    )
    if not facts:
        said += " Nothing is chosen yet."
    elif facts.get("fallback"):
        said += " No candidate kept within the loss: the nearest length was taken all the same."
    return said


def _merge(names: dict[str, str], spec: Merge) -> Row:
    weights = ", ".join(f"{weight:g}" for weight in spec.weights)
    models = ", ".join(name(names, model) for model in spec.models)
    divided = {None: "", True: ", normalised", False: ", not normalised"}[spec.normalize]
    return (
        *(Cell(text) for text in (name(names, spec), spec.method, name(names, spec.base), models)),
        Cell(weights, spec.weights[0] if len(spec.weights) == 1 else None),
        number(spec.density, "g"),
        number(spec.lambda_, "g"),
        Cell(f"{spec.rescale or 'none'}{divided}"),
        number(spec.seed, "g"),
    )


def _seen(results: GradedAnswers, names: dict[str, str]) -> tuple[Table, ...]:
    """What merging saw of each task vector: its size, what was kept, and how it agrees with the others."""
    rows: list[Row] = []
    for spec in everything(results.recipe):
        facts = results.facts(spec) if isinstance(spec, Merge | LengthDial) else {}
        for i, model in enumerate(spec.models if isinstance(spec, Merge | LengthDial) else ()):
            if one := facts.get("models", {}).get(str(i)):
                cosine = next((c["cosine"] for c in facts["cosines"] if c["models"] == ["0", str(i)]), None)
                conflicts = facts["sign_conflicts"]
                rows.append((
                    Cell(name(names, spec)), Cell(name(names, model)), number(one["norm"], ".4g"), percent(one["kept"]),
                    MISSING if conflicts is None else percent(conflicts),
                    MISSING if cosine is None else number(cosine, ".3f"),
                ))  # fmt: skip
    if not rows:
        return ()
    head = ("Merge", "Model", "Norm of its task vector", "Share kept", "Signs disagree", "Cosine with the first")
    caption = (
        "A task vector is what a model has that the base has not; its norm is over all parameters. Shares in percent: "
        "of its entries that were kept, and of all entries where kept parts of two task vectors have opposite signs."
    )
    return (Table("task_vectors", "What merging saw", head, tuple(rows), caption, words=2),)
