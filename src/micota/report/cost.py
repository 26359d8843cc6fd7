"""What it cost: seconds and tokens of every stage and of all stages of a kind, and what was reused instead."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from micota.recipe.labels import everything, labels, name
from micota.report.cells import Column, count, number, table, words
from micota.report.graded_answers import GradedAnswers
from micota.report.page import Cell, Table
from micota.specs import Generate, Source, Spec
from micota.store.artifacts import Manifest

LEARNT = {"train": "learnt_tokens", "pretrain": "tokens"}
STATES = {"Executed": "executed", "Linked": "linked", "Missing": "missing"}


class Spent(NamedTuple):
    """What one stage cost: seconds are nan where it was not run, tokens where it has none."""

    label: str
    kind: str
    state: str
    seconds: float = math.nan
    tokens: float = math.nan
    note: str = ""


class Total(NamedTuple):
    """All stages of a kind; of all kinds with `kind` ""."""

    kind: str
    stages: list[Spent]


def costs(results: GradedAnswers) -> tuple[Table, ...]:
    """The totals by kind of stage, and each stage by itself."""
    names = labels(results.recipe)
    found = [
        _spent(results, name(names, one), one) for one in everything(results.recipe) if not isinstance(one, Source)
    ]
    if all(one.state == "missing" for one in found):
        return ()
    kinds = [*dict.fromkeys(one.kind for one in found), ""]
    totals = [Total(kind, [one for one in found if kind in ("", one.kind)]) for kind in kinds]
    heads: list[Column[Total]] = [
        Column("Kind", lambda one: Cell(one.kind or "all", bold=not one.kind)),
        Column("Stages", lambda one: count(len(one.stages))),
        *(_state(head, state) for head, state in STATES.items()),
        Column("Seconds", lambda one: number(_sum([0.0, *(each.seconds for each in one.stages)]), ",.1f")),
        Column("Tokens", lambda one: count(_sum(each.tokens for each in one.stages) if one.kind else None)),
    ]
    columns: list[Column[Spent]] = [
        words("Name", lambda one: one.label),
        words("Kind", lambda one: one.kind),
        Column("Seconds", lambda one: number(one.seconds, ",.1f")),
        Column("Tokens", lambda one: count(one.tokens)),
        words("Note", lambda one: one.note),
    ]
    return table("cost", heads, totals) + table("stages", columns, found, word_columns=2)


def _state(head: str, state: str) -> Column[Total]:
    return Column(head, lambda one: count(sum(each.state == state for each in one.stages)))


def _sum(values: Iterable[float]) -> float:
    """The sum of what is known; nan where nothing is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) if known else math.nan


def _spent(results: GradedAnswers, label: str, spec: Spec) -> Spent:
    manifest = results.store.manifest(spec)
    if manifest is None:
        return Spent(label, spec.kind, "missing", note="missing")
    notes = [] if results.store.whole(manifest) else ["files removed"]
    if manifest.same_as:
        why = f"linked to {manifest.same_as}: {manifest.made.get('linked', '')}".rstrip(": ")
        return Spent(label, spec.kind, "linked", note="; ".join([why, *notes]))
    if manifest.facts.get("reused"):
        notes.insert(0, f"{manifest.facts['reused']} of {manifest.facts['rows']} answers reused")
    seconds = manifest.made.get("seconds", math.nan)
    return Spent(label, spec.kind, "executed", seconds, _tokens(spec, manifest), "; ".join(notes))


def _tokens(spec: Spec, manifest: Manifest) -> float:
    """Tokens that a stage wrote or learnt from."""
    facts = manifest.facts
    if isinstance(spec, Generate):
        return float(facts["tokens"] * facts["generated"] / facts["rows"]) if facts["rows"] else 0.0
    return float(facts.get(LEARNT.get(spec.kind, ""), math.nan))
