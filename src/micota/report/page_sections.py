"""The sections of the report in their order: tables, each followed by the figures that belong to it."""

from __future__ import annotations

from micota.report import (
    accuracy,
    bits_per_character,
    cost,
    distillation_gains,
    figures,
    funnel,
    length_map,
    length_map_figures,
    merge_figures,
    merge_tables,
    paper_claims,
    training_figures,
)
from micota.report.case import case
from micota.report.graded_answers import GradedAnswers
from micota.report.page import Case, Figure, Section, Table
from micota.report.reflection import reflections
from micota.report.samples import samples
from micota.report.texts import text

CLAIMS = "Claims"
MAP = "The map of lengths"
MAIN = "Table 2: accuracy of arms, teacher and assistants"
NEUTRAL = "Accuracy"
TOKENS = "Table 2b: arms matched in target tokens"
GAINS = "Table 1: what distillation changes"
ABLATION = "Table 3: ablation"
BITS = "Table 4: bits per character"
NEUTRAL_BITS = "Bits per character"
CASE = "One problem, two students"
MERGING = "Merging and the length dial"
FUNNEL = "Data and trainings"
COST = "Cost"


def sections(results: GradedAnswers) -> tuple[Section, ...]:
    """Every section that has something to show."""
    r, dots = results, figures.accuracy_by_length
    mapped = length_map.panels(r)  # a figure for each of its fields would be hundreds
    dots_of_arms, roles = () if mapped else dots(r, "steps"), r.recipe.roles
    lengths = *length_map_figures.maps(r), *length_map.ridges(r), *length_map.moves(r)
    claims = *(dots_of_arms if roles else ()), *paper_claims.claim_tables(r), *paper_claims.claim_tables(r, "tokens")
    tables = *accuracy.main(r), *accuracy.from_baseline(r)
    main = *tables, *(() if mapped else figures.students(r)), *samples(r), *reflections(r)
    merging = *merge_tables.dials(r), *merge_figures.dials(r), *figures.assistant(r), *merge_tables.merges(r)
    data = *funnel.problems(r), *funnel.data(r), *training_figures.lengths(r), *funnel.mixtures(r), *funnel.judges(r)
    losses = () if mapped else (*training_figures.losses(r, "steps"), *training_figures.losses(r, "tokens"))
    every = (
        _section(CLAIMS, paper_claims.summary(r), *claims),
        _section(MAP, "", *lengths),
        _section(MAIN if roles else NEUTRAL, missing(r), *main, *(() if roles else dots_of_arms)),
        _section(TOKENS, "", *accuracy.matched(r), *dots(r, "tokens")),
        _section(GAINS, "", *distillation_gains.changes(r), *distillation_gains.gains(r)),
        _section(ABLATION, "", *accuracy.ablation(r)),
        _section(BITS if roles else NEUTRAL_BITS, "", *bits_per_character.bits(r), *bits_per_character.learnability(r)),
        _section(CASE, "", *case(r)),
        _section(MERGING, "", *merging, *merge_figures.task_vectors(r)),
        _section(FUNNEL, "", *data, *funnel.trainings(r), *losses),
        _section(COST, "", *cost.costs(r)),
    )
    return tuple(section for section in every if section.items or section.text)


def _section(title: str, words: str, *items: Table | Figure | Case | str) -> Section:
    """A section; lines in place of figures whose data is missing join its text."""
    lines = [words, *(item for item in items if isinstance(item, str))]
    return Section(title, "\n\n".join(filter(None, lines)), tuple(item for item in items if not isinstance(item, str)))


def missing(results: GradedAnswers) -> str:
    """How many evaluations are missing; "" if none is."""
    gone = len(results.missing)
    return text("page", "evaluations", missing=gone, n=len(results.recipe.evaluations)) if gone else ""
