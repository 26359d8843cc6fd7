"""What it cost: seconds and tokens of every stage and of all stages of a kind, and what was reused instead."""

from __future__ import annotations

import math
from typing import NamedTuple

from micota.recipe.labels import everything, labels, name
from micota.report.cells import Row, count, number, table
from micota.report.graded_answers import GradedAnswers
from micota.report.page import Cell, Table
from micota.report.texts import text
from micota.specs import Generate, Source, Spec
from micota.store.manifest import Manifest

LEARNT = {"train": "learnt_tokens", "opd": "learnt_tokens", "pretrain": "tokens"}


class Spent(NamedTuple):
    """What one stage cost: seconds are nan where it was not run, tokens where it has none."""

    kind: str
    state: str
    seconds: float = math.nan
    tokens: float = math.nan
    note: str = ""


def costs(results: GradedAnswers) -> tuple[Table, ...]:
    """The totals by kind of stage, and each stage by itself."""
    names = labels(results.recipe)
    specs = [stage for stage in everything(results.recipe) if not isinstance(stage, Source)]
    spent = {spec.digest: _spent(results, spec) for spec in specs}
    stages = list(spent.values())
    if all(stage.state == "missing" for stage in stages):
        return ()
    kinds = dict.fromkeys(stage.kind for stage in stages)
    totals = [*(_total(kind, [stage for stage in stages if stage.kind == kind]) for kind in kinds), _total("", stages)]
    rows = [
        Row({"Name": name(names, spec), "Kind": stage.kind, "Seconds": number(stage.seconds, ",.1f")}
            | {"Tokens": count(stage.tokens), "Note": stage.note})
        for spec, stage in zip(specs, stages, strict=True)
    ]  # fmt: skip
    pretrained = text("cost", "pretrained") if "pretrain" in kinds else ""
    return table("cost", totals, pretrained=pretrained) + table("stages", rows, words=2)


def _total(kind: str, stages: list[Spent]) -> Row:
    """The row of one kind; of all kinds, "", without their tokens, which are not of one sort."""
    states = [stage.state for stage in stages]
    tokens = [stage.tokens for stage in stages if kind and not math.isnan(stage.tokens)]
    seconds = sum(stage.seconds for stage in stages if not math.isnan(stage.seconds))
    return Row(
        {"Kind": Cell(kind or "all", bold=not kind), "Stages": count(len(stages))}
        | {state.capitalize(): count(states.count(state)) for state in ("executed", "linked", "missing")}
        | {"Seconds": number(seconds, ",.1f"), "Tokens": count(sum(tokens) if tokens else None)}
    )


def _spent(results: GradedAnswers, spec: Spec) -> Spent:
    manifest = results.store.manifest(spec)
    if manifest is None:
        return Spent(spec.kind, "missing", note="missing")
    notes = [] if results.store.whole(manifest) else ["files removed"]
    if manifest.same_as:
        why = f"linked to {manifest.same_as}: {manifest.provenance.get('linked', '')}".rstrip(": ")
        return Spent(spec.kind, "linked", note="; ".join([why, *notes]))
    if manifest.facts.get("reused"):
        notes.insert(0, f"{manifest.facts['reused']} of {manifest.facts['rows']} answers reused")
    seconds = manifest.provenance.get("seconds", math.nan)
    return Spent(spec.kind, "executed", seconds, _tokens(spec, manifest), "; ".join(notes))


def _tokens(spec: Spec, manifest: Manifest) -> float:
    """Tokens that a stage wrote or learnt from."""
    facts = manifest.facts
    if isinstance(spec, Generate):
        return float(facts["tokens"] * facts["generated"] / facts["rows"]) if facts["rows"] else 0.0
    return float(facts.get(LEARNT.get(spec.kind, ""), math.nan))
