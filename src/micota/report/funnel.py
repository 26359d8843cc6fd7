"""From problems to training: what was asked, answered, dropped and why, kept, mixed, and learnt from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from micota.recipe.labels import everything, labels, name
from micota.report.cells import Row, count, number, percent
from micota.report.graded_answers import GradedAnswers
from micota.report.page import MISSING, Cell, Table
from micota.specs import Mix, Pretrain, Problems, RejectionSampling, Select, SftData, Train

REASONS = ("truncated", "filtered", "too_long", "wrong", "no_answer", "unverifiable", "empty", "duplicate")
OVERLAPS = ("duplicates", "conflicting", "in_other_sets")


def problems(results: GradedAnswers) -> tuple[Table, ...]:
    """The problem sets: how many, and what was dropped or found elsewhere."""
    names = labels(results.recipe)
    found = [spec for spec in everything(results.recipe) if isinstance(spec, Problems)]
    rows = []
    for spec in found:
        facts = results.facts(spec)
        source = f"{spec.source.ref}{f', {spec.split}' if spec.split else ''}"
        counts = [count(facts.get(one)) for one in ("problems", *OVERLAPS)]
        rows.append((Cell(name(names, spec)), Cell(source), *counts))
    head = ("Problems", "Source", "Kept", "Duplicates", "Conflicting", "In other sets")
    caption = (
        "Duplicates have the same text as an earlier problem, conflicting ones another answer as well; both are "
        "dropped. In other sets: problems that also stand in a set that was named (– where none was); the recipe says "
        "whether they are dropped."
    )
    return (Table("problems", "Problem sets", head, tuple(rows), caption, words=2),) if rows else ()


def data(results: GradedAnswers) -> tuple[Table, ...]:
    """The funnel of each data set: problems asked, answers, every reason of a drop, what was kept."""
    names = labels(results.recipe)
    found = [spec for spec in everything(results.recipe) if isinstance(spec, Select | RejectionSampling | SftData)]
    if not found:
        return ()
    dropped = [results.facts(spec).get("dropped", {}) for spec in found]
    reasons = [one for one in REASONS if any(one in each for each in dropped)]
    reasons += sorted({one for each in dropped for one in each} - set(REASONS))
    rows = tuple(_funnel(results, names, spec, reasons) for spec in found)
    words = [reason.replace("_", " ") for reason in reasons]
    head = ("Data", "Written by", "Problems", "Answers", *words, "Kept", "Yield", "Mean tokens kept")
    caption = (
        "An answer is dropped for the first reason that holds, in the order of the columns. Yield: kept, in percent of "
        "the answers; lengths in tokens of the model that wrote them."
    )
    return (Table("funnel", "Data sets", head, rows, caption, words=2),)


def mixtures(results: GradedAnswers) -> tuple[Table, ...]:
    """The mixtures: how many examples of each part."""
    names = labels(results.recipe)
    rows: list[Row] = []
    for spec in everything(results.recipe):
        if isinstance(spec, Mix):
            facts = results.facts(spec)
            counts = facts.get("parts", [math.nan] * len(spec.parts))
            for part, n in zip(spec.parts, counts, strict=True):
                cells = Cell(name(names, spec)), Cell(name(names, part.data)), count(n), percent(part.share)
                rows.append((*cells, count(facts.get("rows"))))
    head = ("Mixture", "Part", "Examples", "Share", "Of")
    caption = "Share: the wanted share of the mixture's examples, in percent."
    return (Table("mixtures", "Mixtures", head, tuple(rows), caption, words=2),) if rows else ()


def trainings(results: GradedAnswers) -> tuple[Table, ...]:
    """The trainings: examples, steps, and how many target tokens were learnt from."""
    names = labels(results.recipe)
    rows = tuple(
        _training(results, names, spec) if isinstance(spec, Train) else _pretraining(results, names, spec)
        for spec in everything(results.recipe)
        if isinstance(spec, Train | Pretrain)
    )
    head = ("Model", "Base", "Data", "Examples", "Too long", "Steps", "Batch", "Target tokens", "Learnt", "Last loss")
    caption = (
        "Target tokens: of the responses and their ends, in one epoch, by the student's tokenizer. Learnt: target "
        "tokens over all steps. Too long: examples beyond the cutoff, which are dropped. The last loss is that of the "
        "last step's batch, in nats a token: losses on different data do not compare. What is pre-trained learns "
        "documents that a program writes, in the styles that stand under the data, as many as it has steps for."
    )
    return (Table("trainings", "Trainings", head, rows, caption, words=3),) if rows else ()


def _funnel(
    results: GradedAnswers, names: dict[str, str], spec: Select | RejectionSampling | SftData, reasons: Sequence[str]
) -> Row:
    facts = results.facts(spec)
    asked, answers, writer = None, None, "made elsewhere"
    if not isinstance(spec, SftData):
        asked = results.facts(spec.completions.problems).get("problems")
        answers = results.facts(spec.completions).get("rows")
        writer = name(names, spec.completions.model)
    about = Cell(name(names, spec)), Cell(writer)
    if not facts:
        return (*about, count(asked), count(answers), *[MISSING] * (len(reasons) + 3))
    return (
        *about,
        count(asked),
        count(facts["answers"]),
        *(count(facts["dropped"].get(reason, 0)) for reason in reasons),
        count(facts["kept"]),
        percent(facts["kept"] / facts["answers"]),
        number(facts.get("mean_tokens", math.nan)),
    )


def _training(results: GradedAnswers, names: dict[str, str], spec: Train) -> Row:
    facts = results.facts(spec)
    about = tuple(Cell(name(names, one)) for one in (spec, spec.base, spec.data))
    if not facts:
        return (*about, *[MISSING] * 7)
    return (
        *about,
        count(facts["examples"]),
        count(facts["dropped"].get("too_long", 0)),
        count(facts["steps"]),
        count(spec.batch),
        count(facts["target_tokens"]),
        count(facts.get("learnt_tokens")),
        number(facts["final_loss"], ".3f"),
    )


def _pretraining(results: GradedAnswers, names: dict[str, str], spec: Pretrain) -> Row:
    facts = results.facts(spec)
    styles = ", ".join(dict.fromkeys(phase.style for phase in spec.phases))
    base = Cell(name(names, spec.base)) if spec.base else MISSING
    known = (count(facts["steps"]), MISSING, MISSING, MISSING, number(facts["loss"], ".3f")) if facts else [MISSING] * 5
    return Cell(name(names, spec)), base, Cell(styles), MISSING, MISSING, *known
