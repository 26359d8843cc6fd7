"""What holds: each claim of the paper with its figure, its intervals and a word that is computed from them alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from micota.report import verdicts
from micota.report.bits_per_character import Measure, bits_per_character, measures, sums_by_problem
from micota.report.cells import Row, between, count, grouped, in_order, number
from micota.report.distillation_gains import heading, matches
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, groups, models, pair, scorers, spread, title
from micota.report.page import MISSING, Cell, Table
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
DENSITIES = (
    ("Strong Teacher CoT has more bits per character than Half-size CoT", "strong", "half"),
    ("Half-size CoT has more bits per character than MiCoTA", "half", "micota"),
)
MATCHED = "Arms learn from equally many target tokens; Instruct learns from none."
HEAD = ("Claim", "Figure", "95 %, over problems", "95 %, over seeds", "Seeds right", "n", "Sets", "Verdict")


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

    @property
    def cells(self) -> Row:
        over, seeds, k = self.evidence.over_problems, self.evidence.over_seeds, len(self.evidence.by_seed)
        figure = number(over.value, self.form, self.scale)
        return (
            Cell(self.words),
            figure if figure is MISSING else Cell(f"{figure.text} {self.unit}", figure.value),
            between(over.low, over.high, self.scale, self.form),
            between(seeds.low, seeds.high, self.scale, self.form),
            Cell(f"{self.evidence.seeds_right} of {k}", self.evidence.seeds_right) if k else MISSING,
            count(over.n or None),
            Cell(self.sets),
            Cell(self.verdict, bold=self.verdict != verdicts.MISSING),
        )


def claims(results: GradedAnswers, matched: str = "steps") -> list[Claim]:
    """Every claim whose models the recipe evaluates; of arms matched in tokens only what concerns arms."""
    by = next(iter(scorers(results)), "")
    found = models(results)
    made = [
        _better(words, one, two, over, by) for words, a, b in ORDER for one, two, over in _both(found, a, b, matched)
    ]
    if matched == "steps":
        for one, two, over in matches(found, "ta_mid", "ta_long"):
            made += [_half(one, two, over), _loss(one, two, over, by)]
        made += _densities(results)
    return made


def table(results: GradedAnswers, matched: str = "steps") -> tuple[Table, ...]:
    """The claims as a table, one heading for each student."""
    made = claims(results, matched)
    if not made:
        return ()
    headed: dict[str, list[Row]] = {}
    for one in made:
        headed.setdefault(one.group, []).append(one.cells)
    rows = grouped((group, headed[group]) for group in in_order(headed))
    by = title(next(iter(scorers(results)), ""))
    if matched == "steps":
        return (Table("claims", "The paper's claims", HEAD, rows, _caption(by)),)
    name = "The paper's claims, arms matched in target tokens"
    return (Table("claims_tokens", name, HEAD, rows, f"Read as the table above; accuracy by {by}. {MATCHED}"),)


def summary(results: GradedAnswers) -> str:
    """How many claims came to which verdict, in one sentence; "" without claims."""
    said = []
    for matched, about in (("steps", "Of {} claims"), ("tokens", "With arms matched in target tokens, of {} claims")):
        made = claims(results, matched)
        counts = Counter(one.verdict for one in made)
        words = ", ".join(f"{n} “{word}”" for word, n in counts.items())
        said += [f"{about.format(len(made))}: {words}."] if made else []
    return " ".join(said)


def _both(found: list[Model], a: str, b: str, matched: str) -> Iterable[tuple[Model, Model, str]]:
    """The pairs of two roles; among arms matched in tokens only those in which one is so trained."""
    pairs = matches(found, a, b, matched)
    return [one for one in pairs if matched == "steps" or "tokens" in (one[0].matched, one[1].matched)]


def _better(words: str, one: Model, two: Model, over: str, by: str) -> Claim:
    """That one model is more accurate than another: the paired difference, in points."""
    both = pair(one, two, lambda model, data: model.correct(data, by))
    evidence = Evidence(paired(*both.observed), [a - b for a, b in both.each_seed()])
    return Claim(words, over, evidence, verdicts.word(evidence), "points", 100, "+.1f", both.coverage)


def _half(one: Model, two: Model, over: str) -> Claim:
    """That the merged assistant's responses are about half as long as before the merge."""
    both = pair(one, two, lambda model, data: model.tokens(data))
    low, high = HALF
    evidence = Evidence(ratio(*both.observed), [a / b for a, b in both.each_seed() if b], low, high)
    words = f"The merged assistant's responses have {low:g} to {high:g} of the length before merging"
    return Claim(words, over, evidence, verdicts.word(evidence), "of the length", 1, ".2f", both.coverage)


def _loss(one: Model, two: Model, over: str, by: str) -> Claim:
    """What the merged assistant loses in accuracy against the assistant before the merge, in points."""
    both = pair(two, one, lambda model, data: model.correct(data, by))
    evidence = Evidence(paired(*both.observed), [a - b for a, b in both.each_seed()], -math.inf, 0)
    words = "Merging costs the assistant no accuracy (the figure is the loss)"
    return Claim(words, over, evidence, verdicts.loss_word(evidence), "points", 100, "+.1f", both.coverage)


def _densities(results: GradedAnswers) -> list[Claim]:
    """That the data of one arm is more foreign to the student than that of another: bits per character, pooled."""
    students = {spec.digest for label, spec in results.recipe.names.items() if label.partition("[")[0] == "instruct"}
    found = [one for one in measures(results) if one.spec.model.digest in students]
    made = []
    for student in dict.fromkeys(one.model for one in found):
        under = [one for one in found if one.model == student]
        for group in groups(under):
            inside = [one for one in under if one.variables.items() <= group.items()]
            made += [one for words, a, b in DENSITIES for one in _denser(results, words, inside, a, b, heading(group))]
    return made


def _denser(results: GradedAnswers, words: str, found: list[Measure], a: str, b: str, group: str) -> list[Claim]:
    one, two = ([each for each in found if each.role == role] for role in (a, b))
    if not (one and two):
        return []
    over = pooled_difference(*(sums_by_problem(results, side) for side in (one, two)))
    first, second = spread(_of_seeds(one), _of_seeds(two)), spread(_of_seeds(two), _of_seeds(one))
    seeds = [first[key] - second[key] for key in first if key in second and key[0] is not None]
    evidence = Evidence(over, seeds)
    return [Claim(words, group, evidence, verdicts.word(evidence), "bits", 1, "+.3f")]


def _of_seeds(found: list[Measure]) -> Observed:
    """The bits per character of each seed, in the form of one problem's figures."""
    return {(one.seed, ""): bits_per_character([one]) for one in found if one.facts}


def _caption(by: str) -> str:
    return (
        f"Accuracy by {by}, paired by problem; unweighted mean over the problem sets that both models answered. Over "
        "problems: the interval for these trained models on other problems of their kind. Over seeds: t interval over "
        "whole repetitions, from two seeds on. “holds”: both intervals lie on the claim's side. “holds in this run”: "
        "that over problems does, and there is one seed. “holds for these models”: only that over problems does. "
        "“reversed” or, of a range, “outside”: that over problems lies wholly elsewhere. “not shown”: none of these. "
        "“no loss shown” says only that the interval of the loss does not lie above zero: that is not equality, "
        "and any loss inside the interval fits the data. Where all differences are equal there is no interval (–). "
        "Bits per character are those of the data under the student before training; their interval is the delta "
        "method's, over the problems of either data set, paired where both have one. No interval is corrected for the "
        "number of claims."
    )
