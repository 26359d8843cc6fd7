"""What it cost: seconds and tokens of every stage and of all stages of a kind, and what was reused instead."""

from __future__ import annotations

import math
from dataclasses import dataclass

from micota.recipe.labels import everything, labels, name
from micota.report.cells import Row, count, number
from micota.report.graded_answers import GradedAnswers
from micota.report.page import Cell, Table
from micota.specs import Generate, Pretrain, Source, Spec, Train


@dataclass(frozen=True)
class Stage:
    """One stage of the recipe: seconds are nan where it was not run, tokens where it has none."""

    spec: Spec
    label: str
    word: str
    seconds: float
    tokens: float
    note: str


def tables(results: GradedAnswers) -> tuple[Table, ...]:
    """The totals by kind of stage, and each stage by itself."""
    names = labels(results.recipe)
    found = [_stage(results, names, spec) for spec in everything(results.recipe) if not isinstance(spec, Source)]
    if not any(one.word != "missing" for one in found):
        return ()
    totals = tuple(_total(kind, found) for kind in dict.fromkeys(one.spec.kind for one in found))
    head = ("Kind", "Stages", "Made", "Linked", "Missing", "Seconds", "Tokens")
    caption = (
        "Seconds of the stages' own runs, on whatever machine each had; of a run that was interrupted, since it was "
        "taken up again. Tokens: of generate those written for this recipe's stages (in proportion where a part of "
        "the answers was reused), of train the target tokens learnt from, of pretrain the tokens seen."
    )
    first = Table("cost", "Totals by kind of stage", head, (*totals, _total(None, found)), caption)
    rows = tuple(_row(one) for one in found)
    return first, Table("stages", "Stages", ("Name", "Kind", "Seconds", "Tokens", "Note"), rows, words=2)


def _stage(results: GradedAnswers, names: dict[str, str], spec: Spec) -> Stage:
    manifest = results.store.manifest(spec)
    label = name(names, spec)
    if manifest is None:
        return Stage(spec, label, "missing", math.nan, math.nan, "missing")
    notes = [] if results.store.whole(manifest) else ["files removed"]
    if manifest.same_as:
        notes.insert(0, f"linked to {manifest.same_as}: {manifest.made.get('linked', '')}".rstrip(": "))
        return Stage(spec, label, "linked", math.nan, math.nan, "; ".join(notes))
    facts = manifest.facts
    if facts.get("reused"):
        notes.insert(0, f"{facts['reused']} of {facts['rows']} answers reused")
    seconds = manifest.made.get("seconds", math.nan)
    return Stage(spec, label, "made", seconds, _tokens(spec, facts), "; ".join(notes))


def _tokens(spec: Spec, facts: dict[str, float]) -> float:
    """Tokens that a stage wrote or learnt from."""
    if isinstance(spec, Generate):
        return facts["tokens"] * facts["generated"] / facts["rows"] if facts["rows"] else 0.0
    names = {Train: "learnt_tokens", Pretrain: "tokens"}
    return facts.get(names.get(type(spec), ""), math.nan)


def _total(kind: str | None, found: list[Stage]) -> Row:
    """The row of one kind; of all kinds without their tokens, which are not of one sort."""
    inside = [one for one in found if kind in (None, one.spec.kind)]
    tokens = [one.tokens for one in inside if not math.isnan(one.tokens)]
    words = [one.word for one in inside]
    return (
        Cell(kind or "all", bold=kind is None),
        count(len(inside)),
        *(count(words.count(word)) for word in ("made", "linked", "missing")),
        number(sum(one.seconds for one in inside if not math.isnan(one.seconds)), ",.1f"),
        count(sum(tokens) if tokens and kind else None),
    )


def _row(one: Stage) -> Row:
    return Cell(one.label), Cell(one.spec.kind), number(one.seconds, ",.1f"), count(one.tokens), Cell(one.note)
