"""How the assistant was merged: what the dial tried and chose, and the settings of merges that were given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from micota.report.cells import Row, number, percent, points
from micota.report.made import everything, labels, name, weight_of
from micota.report.page import Cell, Table
from micota.report.results import Results
from micota.specs import Dial, Merge, Spec, Verify
from micota.specs.choosing import against, seen
from micota.stats import differences, interval

HEAD = ("Weight", "Mean tokens", "Share of length", "Accuracy", "Loss", "± s.e.", "Choice")


def dials(results: Results) -> tuple[Table, ...]:
    """One table for each dial of the recipe: all its candidates, the chosen one bold."""
    names = labels(results.recipe)
    found = [spec for spec in everything(results.recipe) if isinstance(spec, Dial)]
    made = (_dial(results, spec, name(names, spec), f"dial{i or ''}") for i, spec in enumerate(found))
    return tuple(table for table in made if table.rows)


def merges(results: Results) -> tuple[Table, ...]:
    """The settings of the merges that the recipe gives by itself."""
    names = labels(results.recipe)
    tried = {weigh.digest for spec in everything(results.recipe) if isinstance(spec, Dial) for weigh in _merges(spec)}
    found = [s for s in everything(results.recipe) if isinstance(s, Merge) and s.digest not in tried]
    if not found:
        return ()
    rows = tuple(_merge(names, spec) for spec in found)
    head = ("Merge", "Method", "Base", "Models", "Weights", "Density", "Lambda", "Rescale", "Seed")
    caption = "A weight multiplies the difference of a model to the base; the density is the share of it that is kept."
    return (Table("merges", "Merges", head, rows, caption, words=4),)


def _dial(results: Results, spec: Dial, label: str, key: str) -> Table:
    facts = results.facts(spec)
    reference, *probes = _asked(spec)
    length = results.facts(reference)
    rows = []
    for probe in probes:
        graded = results.facts(probe)
        if graded and length:
            row = against(seen(length), [weight_of(probe)], [seen(graded)])[0]
            rows.append(_candidate(row, _error(results, reference, probe), facts))
    return Table(key, f"Dial of {label}", HEAD, tuple(rows), _caption(spec, facts, length))


def _candidate(row: Mapping[str, float], error: float, facts: Mapping[str, Any]) -> Row:
    chosen = facts.get("chosen") == row["weight"]
    word = ("chosen (fallback)" if facts.get("fallback") else "chosen") if chosen else ""
    cells = (
        number(row["weight"], "g"),
        number(row["tokens"]),
        percent(row["share"]),
        percent(row["accuracy"]),
        points(row["loss"]),
        percent(error),
        Cell(word),
    )
    return tuple(replace(cell, bold=True) for cell in cells) if chosen else cells


def _error(results: Results, reference: Verify, probe: Verify) -> float:
    """The standard error of the loss, paired by probe problem; nan where the verdicts were removed."""
    before, after = (
        {(row["sample"], row["key"]): float(row["verdict"] == "correct") for row in results.rows(one)}
        for one in (reference, probe)
    )
    lost = differences(before, after)
    return interval(lost).error if lost else math.nan


def _caption(spec: Dial, facts: Mapping[str, Any], length: Mapping[str, Any]) -> str:
    said = (
        f"{spec.method}, density {spec.density:g}; wanted: {spec.target.length:g} of the reference's length at a loss "
        f"of at most {100 * spec.max_loss:g} points, on {spec.probe.n} probe problems ({spec.probe.by}). "
    )
    if length:
        one = seen(length)
        said += f"The reference has {100 * one['accuracy']:.1f} % at {one['tokens']:.1f} tokens. "
    said += "Shares and accuracy in percent; the loss is the reference's accuracy minus the candidate's, in points, "
    said += "its error paired by problem. The choice was made on these figures, so they favour it."
    if not facts:
        said += " Nothing is chosen yet."
    elif facts.get("fallback"):
        said += " No weight kept within the loss: the nearest length was taken all the same."
    return said


def _asked(spec: Dial) -> list[Verify]:
    asked = spec.next({})
    assert isinstance(asked, tuple)
    return [one for one in asked if isinstance(one, Verify)]


def _merges(spec: Dial) -> list[Spec]:
    return [probe.completions.model for probe in _asked(spec)[1:]]


def _merge(names: dict[str, str], spec: Merge) -> Row:
    weights = ", ".join(f"{weight:g}" for weight in spec.weights)
    models = ", ".join(name(names, model) for model in spec.models)
    return (
        *(Cell(text) for text in (name(names, spec), spec.method, name(names, spec.base), models)),
        Cell(weights, spec.weights[0] if len(spec.weights) == 1 else None),
        number(spec.density, "g"),
        number(spec.lambda_, "g"),
        Cell(f"{spec.rescale or 'none'}{', normalised' if spec.normalize else ''}"),
        number(spec.seed, "g"),
    )
