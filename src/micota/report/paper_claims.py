"""The paper's claims, each with its figure, its intervals and a word that is computed from them alone."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from micota.report import verdicts
from micota.report.bits_per_character import Measure, bits_per_character, measures, sums_by_problem
from micota.report.cells import Row, between, count, number, table
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, groups, matches, models, pair, scorer_title, scorers, spread
from micota.report.page import MISSING, Cell, Table
from micota.report.roles import role_of
from micota.report.texts import text
from micota.report.verdicts import Evidence
from micota.stats import Observed, paired, pooled_difference, ratio

ORDER = (
    ("Strong Teacher CoT is worse than Instruct", "instruct", "strong"),
    ("Half-size CoT is better than Strong Teacher CoT", "half", "strong"),
    ("MiCoTA is better than Instruct", "micota", "instruct"),
    ("MiCoTA is better than Short SFT", "micota", "short"),
    ("MiCoTA is better than Half-size CoT", "micota", "half"),
    ("MiCoTA is better than Mix-Long", "micota", "mix_long"),
    ("MiCoTA is better than Strong Teacher CoT", "micota", "strong"),
)
"""A claim in words, the role that is said to be the better one, and the other."""
HALF = (0.4, 0.6)
BITS = (
    ("Strong Teacher CoT has more bits per character than Half-size CoT", "strong", "half"),
    ("Half-size CoT has more bits per character than MiCoTA", "half", "micota"),
)


@dataclass(frozen=True)
class Claim:
    """A claim with what is known of it; `group` says for which of several students it is made."""

    words: str
    group: str
    evidence: Evidence
    verdict: str
    unit: str
    scale: float
    form: str
    sets: str = ""


@lru_cache(maxsize=2)
def claims(results: GradedAnswers, matched: str = "steps") -> list[Claim]:
    """Every claim whose models the recipe evaluates; of arms matched in tokens only what concerns arms."""
    by, every = next(iter(scorers(results)), ""), models(results)
    pairs = [(statement, *both) for statement, a, b in ORDER for both in matches(every, a, b, matched)]
    better = [
        _better(statement, a, b, over, by) for statement, a, b, over in pairs if matched in (a.matched, b.matched)
    ]
    if matched != "steps":
        return better
    merged = matches(every, "ta_mid", "ta_long")
    return better + [claim for both in merged for claim in (_half(*both), _loss(*both, by))] + _bits(results)


def claim_tables(results: GradedAnswers, matched: str = "steps") -> tuple[Table, ...]:
    """The claims as a table, one heading for each student."""
    key, by = "claims" if matched == "steps" else "claims_tokens", scorer_title(next(iter(scorers(results)), ""))
    rows = [_row(claim) for claim in claims(results, matched)]
    bits = text("claims", "bits") if matched == "steps" and _bits(results) else ""
    return table(key, rows, scorer=by, bits=bits)


def _row(claim: Claim) -> Row:
    over, seeds, k = claim.evidence.over_problems, claim.evidence.over_seeds, len(claim.evidence.by_seed)
    figure = number(over.value, claim.form, claim.scale)
    cells: dict[str, object] = {
        "Claim": claim.words,
        "Figure": figure if figure is MISSING else Cell(f"{figure.text} {claim.unit}", figure.value),
        "95 %, over problems": between(over.low, over.high, claim.scale, claim.form),
        "95 %, over seeds": between(seeds.low, seeds.high, claim.scale, claim.form),
        "Seeds right": Cell(f"{claim.evidence.seeds_right} of {k}", claim.evidence.seeds_right) if k else MISSING,
        "n": count(over.n or None),
        "Sets": claim.sets,
        "Verdict": Cell(claim.verdict, bold=claim.verdict != verdicts.MISSING),
    }
    return Row(cells, claim.group)


def summary(results: GradedAnswers) -> str:
    """How many claims came to which verdict, in one sentence; "" without claims."""
    sentences = []
    for matched in ("steps", "tokens"):
        counts = Counter(claim.verdict for claim in claims(results, matched))
        verdict_counts = ", ".join(f"{n} “{word}”" for word, n in counts.items())
        if counts:
            sentences.append(text("claims", matched, n=counts.total(), verdicts=verdict_counts))
    return " ".join(sentences)


def _better(statement: str, better: Model, worse: Model, over: str, by: str) -> Claim:
    """That one model is more accurate than another: the paired difference, in points."""
    both = pair(better, worse, "correct", by)
    evidence = Evidence(paired(*both.observed), [a - b for a, b in both.each_seed()])
    return Claim(statement, over, evidence, verdicts.word(evidence), "points", 100, "+.1f", both.coverage)


def _half(merged: Model, tuned: Model, over: str) -> Claim:
    """That the merged assistant's responses are about half as long as before the merge."""
    both = pair(merged, tuned, "tokens")
    evidence = Evidence(ratio(*both.observed), [a / b for a, b in both.each_seed() if b], *HALF)
    statement = text("claims", "half", low=HALF[0], high=HALF[1])
    return Claim(statement, over, evidence, verdicts.word(evidence), "of the length", 1, ".2f", both.coverage)


def _loss(merged: Model, tuned: Model, over: str, by: str) -> Claim:
    """What the merged assistant loses in accuracy against the assistant before the merge, in points."""
    both = pair(tuned, merged, "correct", by)
    evidence = Evidence(paired(*both.observed), [a - b for a, b in both.each_seed()], -math.inf, 0)
    verdict = verdicts.loss_word(evidence)
    return Claim(text("claims", "loss"), over, evidence, verdict, "points", 100, "+.1f", both.coverage)


def _bits(results: GradedAnswers) -> list[Claim]:
    """That the data of one arm has more bits per character under the student than that of another, pooled."""
    students = {
        spec.digest for label, spec in results.recipe.names.items() if role_of(results.recipe, label) == "instruct"
    }
    every = [measure for measure in measures(results) if measure.spec.model.digest in students]
    claims: list[Claim] = []
    for student in dict.fromkeys(measure.model for measure in every):
        under = [measure for measure in every if measure.model == student]
        for group in groups(measure.variables for measure in under):
            inside = [measure for measure in under if measure.variables.items() <= group.items()]
            for statement, *roles in BITS:
                measure, other = ([each for each in inside if each.role == role] for role in roles)
                claims += (
                    [_more_bits(results, statement, measure, other, ", ".join(group.values()))]
                    if measure and other
                    else []
                )
    return claims


def _more_bits(results: GradedAnswers, statement: str, more: list[Measure], less: list[Measure], group: str) -> Claim:
    over = pooled_difference(*(sums_by_problem(results, side) for side in (more, less)))
    first, second = spread(_of_seeds(more), _of_seeds(less)), spread(_of_seeds(less), _of_seeds(more))
    seeds = [first[key] - second[key] for key in first if key in second and key[0] is not None]
    evidence = Evidence(over, seeds)
    return Claim(statement, group, evidence, verdicts.word(evidence), "bits", 1, "+.3f")


def _of_seeds(selected: list[Measure]) -> Observed:
    """The bits per character of each seed, in the form of one problem's figures."""
    return {(measure.seed, ""): bits_per_character([measure]) for measure in selected if measure.facts}
