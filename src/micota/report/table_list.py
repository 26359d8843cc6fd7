"""The sections of the report that are tables, in their order; the titles are here for what stands between them."""

from __future__ import annotations

from micota.report import accuracy, cost, funnel, reflection, samples
from micota.report import bits_per_character as density
from micota.report import distillation_gains as pivotal
from micota.report import merge_tables as dial
from micota.report import paper_claims as claims
from micota.report.graded_answers import GradedAnswers
from micota.report.page import Section

HOLDS = "What holds"
MAIN = "Table 2: accuracy of arms, teacher and assistants"
TOKENS = "Table 2b: arms matched in target tokens"
PIVOTAL = "Table 1: what distillation changes"
ABLATION = "Table 3: ablation"
DENSITY = "Table 4: bits per character"
DIAL = "Merging and the dial"
FUNNEL = "Data and trainings"
COST = "Cost"


def sections(results: GradedAnswers) -> tuple[Section, ...]:
    """Every section that has something to show."""
    parts = (funnel.problems, funnel.data, funnel.mixtures, funnel.trainings)
    made = (
        Section(HOLDS, claims.summary(results), (*claims.table(results), *claims.table(results, "tokens"))),
        Section(MAIN, missing(results), (*accuracy.main(results), *samples.table(results), *reflection.table(results))),
        Section(TOKENS, "", accuracy.matched(results)),
        Section(PIVOTAL, "", (*pivotal.changes(results), *pivotal.gains(results))),
        Section(ABLATION, "", accuracy.ablation(results)),
        Section(DENSITY, "", density.tables(results)),
        Section(DIAL, "", (*dial.dials(results), *dial.merges(results))),
        Section(FUNNEL, "", tuple(table for part in parts for table in part(results))),
        Section(COST, "", cost.tables(results)),
    )
    return tuple(section for section in made if section.items)


def missing(results: GradedAnswers) -> str:
    """How many evaluations are not there; "" if all are."""
    absent = sum(not graded for one in results.answers for graded in one.graded.values())
    asked = sum(len(one.graded) for one in results.answers)
    return (
        f"{absent} of {asked} evaluations are not there (–): not made yet, or their files were removed."
        if absent
        else ""
    )
