"""The sections of the report that are tables, in their order; the titles are here for what is shown between them."""

from __future__ import annotations

from micota.report import accuracy, bits_per_character, cost, distillation_gains, funnel, merge_tables, paper_claims
from micota.report.graded_answers import GradedAnswers
from micota.report.page import Section
from micota.report.reflection import reflections
from micota.report.samples import samples
from micota.report.texts import text

CLAIMS = "Claims"
MAIN = "Table 2: accuracy of arms, teacher and assistants"
TOKENS = "Table 2b: arms matched in target tokens"
GAINS = "Table 1: what distillation changes"
ABLATION = "Table 3: ablation"
BITS = "Table 4: bits per character"
MERGING = "Merging and the length dial"
FUNNEL = "Data and trainings"
COST = "Cost"


def sections(results: GradedAnswers) -> tuple[Section, ...]:
    """Every section that has a table to show."""
    parts = (funnel.problems, funnel.data, funnel.mixtures, funnel.trainings)
    claims = (*paper_claims.claim_tables(results), *paper_claims.claim_tables(results, "tokens"))
    every = (
        Section(CLAIMS, paper_claims.summary(results), claims),
        Section(MAIN, missing(results), (*accuracy.main(results), *samples(results), *reflections(results))),
        Section(TOKENS, "", accuracy.matched(results)),
        Section(GAINS, "", (*distillation_gains.changes(results), *distillation_gains.gains(results))),
        Section(ABLATION, "", accuracy.ablation(results)),
        Section(BITS, "", bits_per_character.bits(results)),
        Section(MERGING, "", (*merge_tables.dials(results), *merge_tables.merges(results))),
        Section(FUNNEL, "", tuple(table for part in parts for table in part(results))),
        Section(COST, "", cost.costs(results)),
    )
    return tuple(section for section in every if section.items)


def missing(results: GradedAnswers) -> str:
    """How many evaluations are missing; "" if none is."""
    gone = len(results.missing)
    return text("page", "evaluations", missing=gone, n=len(results.recipe.evaluations)) if gone else ""
