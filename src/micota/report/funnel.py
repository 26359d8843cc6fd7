"""From problems to training: what was asked, answered, dropped and why, selected, mixed, and learnt from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from micota.recipe.labels import everything, labels, name
from micota.report.cells import Row, count, number, percent, table
from micota.report.graded_answers import GradedAnswers
from micota.report.page import MISSING, Cell, Table
from micota.report.texts import text
from micota.specs import (
    FineTuned,
    Mix,
    OnPolicyDistillation,
    Pretrain,
    Problems,
    RejectionSampling,
    Rewrite,
    Select,
    SelectBy,
    SftData,
    Spec,
    Verify,
)

REASONS = ("truncated", "filtered", "too_long", "wrong", "no_answer", "unverifiable", "empty", "duplicate")
Facts = Mapping[str, Any]


def stages(results: GradedAnswers, *kinds: type[Spec]) -> list[tuple[Any, Facts]]:
    """The stages of some kinds with their facts, {} of missing ones, in the order of execution."""
    return [(spec, results.facts(spec)) for spec in everything(results.recipe) if isinstance(spec, kinds)]


def counts(facts: Facts, **heads: str) -> dict[str, Cell]:
    """Facts that are numbers, by the heads of their columns."""
    return {head.replace("_", " "): count(facts.get(fact)) for head, fact in heads.items()}


def problems(results: GradedAnswers) -> tuple[Table, ...]:
    """The problem sets: how many, and what was dropped or found elsewhere."""
    names = labels(results.recipe)
    heads = {"Kept": "problems", "Duplicates": "duplicates", "Conflicting": "conflicting"}
    rows = []
    for spec, facts in stages(results, Problems):
        source = ", ".join(filter(None, (spec.source.ref, spec.split)))
        numbers = counts(facts, **heads, In_other_sets="in_other_sets")
        rows.append(Row({"Problems": name(names, spec), "Source": source, **numbers}))
    return table("problems", rows, words=2)


def data(results: GradedAnswers) -> tuple[Table, ...]:
    """The funnel of each data set: problems, answers, every reason of a drop, what was selected."""
    names, selected = labels(results.recipe), stages(results, Select, RejectionSampling, SelectBy, Rewrite, SftData)
    dropped = {reason for _, facts in selected for reason in facts.get("dropped", {})}
    reasons = [reason for reason in REASONS if reason in dropped] + sorted(dropped - set(REASONS))
    rows = []
    for spec, facts in selected:
        writer, problems, answers = "made elsewhere", None, None
        if isinstance(spec, SelectBy):
            writer = f"{name(names, spec.measure.data)}, by {spec.by}"
        elif isinstance(spec, Rewrite):
            writer = f"{name(names, spec.data)}, by {name(names, spec.writer)}"
        elif not isinstance(spec, SftData):
            writer = name(names, spec.completions.model)
            problems = results.facts(spec.completions.problems).get("problems")
            answers = results.facts(spec.completions).get("rows")
        drops = {reason: facts["dropped"].get(reason, 0) if facts else None for reason in reasons}
        rows.append(Row(
            {"Data": name(names, spec), "Written by": writer}
            | {"Problems": count(problems), "Answers": count(facts.get("answers", answers))}
            | {reason.replace("_", " "): count(n) for reason, n in drops.items()}
            | {"Kept": count(facts.get("kept"))}
            | {"Yield": percent(facts["kept"] / facts["answers"]) if facts else MISSING}
            | {"Mean tokens kept": number(facts.get("mean_tokens", math.nan))}
        ))  # fmt: skip
    return table("funnel", rows, words=2)


def judges(results: GradedAnswers) -> tuple[Table, ...]:
    """The verdicts of models that judge, beside those of the rule on the same responses."""
    names, rows = labels(results.recipe), []
    for spec, facts in stages(results, Verify):
        if spec.judged and (about := facts.get("agreement")):
            cells: dict[str, object] = {"Verdicts": name(names, spec), "Judge": name(names, spec.judged.model)}
            numbers = counts(about, Only_the_judge="only_judge", Only_the_rule="only_rule")
            open_ = count(facts["verdicts"].get("unverifiable", 0))
            rows.append(Row({**cells, "Rule": about["with"], "Agree": percent(about["share"])} | numbers
                            | {"No verdict": open_}))  # fmt: skip
    return table("judges", rows, words=3)


def mixtures(results: GradedAnswers) -> tuple[Table, ...]:
    """The mixtures: how many examples of each part."""
    names = labels(results.recipe)
    rows = []
    for spec, facts in stages(results, Mix):
        for i, part in enumerate(spec.parts):
            examples = count(facts["parts"][i] if "parts" in facts else None)
            cells: dict[str, object] = {"Mixture": name(names, spec), "Part": name(names, part.data)}
            rows.append(Row({**cells, "Examples": examples, "Share": percent(part.share), **counts(facts, Of="rows")}))
    return table("mixtures", rows, words=2)


def trainings(results: GradedAnswers) -> tuple[Table, ...]:
    """The trainings: examples, steps, and how many target tokens were learnt from."""
    names = labels(results.recipe)
    rows = []
    for spec, facts in stages(results, FineTuned, Pretrain):
        train = isinstance(spec, FineTuned)
        styles = () if train else dict.fromkeys(phase.style for phase in spec.phases)
        loss = facts.get("final_loss" if train else "loss", math.nan)
        rows.append(Row(
            {"Model": name(names, spec), "Base": name(names, spec.base) if spec.base else MISSING}
            | {"Data": _learnt(names, spec) if train else ", ".join(styles)}
            | counts(facts, Examples="examples")
            | {"Too long": count(facts["dropped"].get("too_long", 0) if "dropped" in facts else None)}
            | counts(facts, Steps="steps")
            | {"Batch": count(spec.batch if train and facts else None)}
            | counts(facts, Target_tokens="target_tokens", Learnt="learnt_tokens")
            | {"Last loss": number(loss, ".3f")}
        ))  # fmt: skip
    pretrained = text("trainings", "pretrained") if any(stages(results, Pretrain)) else ""
    return table("trainings", rows, words=3, pretrained=pretrained)


def _learnt(names: dict[str, str], spec: FineTuned) -> str:
    """What a model was trained on: data, or problems that it answered itself; and whose distribution it learnt."""
    rows = name(names, getattr(spec, "data", None) or spec.problems)  # type: ignore[attr-defined]
    return f"{rows}, by {name(names, spec.teacher)}" if isinstance(spec, OnPolicyDistillation) else rows
