"""Table 1: what fine-tuning on a model's chains of thought changes, for the assistant and for the student."""

from __future__ import annotations

from micota.report import paper
from micota.report.accuracy import RUNAWAYS
from micota.report.cells import Row, between, count, percent, points, table
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, find, matches, models, pair, scored, scorers
from micota.report.page import Cell, Table
from micota.report.texts import text
from micota.stats import paired, relative_gain

CHANGES = {
    "Assistant: teacher CoT": ("ta_long", "ta"),
    "Student: teacher CoT": ("strong", "instruct"),
    "Student: assistant CoT": ("half", "instruct"),
    "Student: MiCoTA": ("micota", "instruct"),
}
GAINS = {"MiCoTA over Instruct": ("micota", "instruct"), "MiCoTA over Strong Teacher CoT": ("micota", "strong")}


def changes(results: GradedAnswers) -> tuple[Table, ...]:
    """Delta = accuracy after minus accuracy before, in points, under each scorer."""
    found, by = models(results), scorers(results)
    rows = []
    for name, roles in CHANGES.items():
        for one, two, over in matches(found, *roles):
            cells: dict[str, object] = {"Change": name}
            for scorer in by:
                cells |= {scored(head, scorer, by): cell for head, cell in _change(one, two, scorer).items()}
            for head, measure in RUNAWAYS.items():
                after, before = (percent(value).text for value in pair(one, two, measure).means)
                cells[head] = f"{before} → {after}"
            teacher = find(found, "teacher", {**one.variables, **two.variables})
            beside = paper.change(*roles, one.spec, teacher.spec if teacher else None)
            rows.append(Row({**cells, **_common(one, two, by[0]), "Paper": beside}, over))
    return table("table1", rows, where=text("paired"), runaways=text("runaways"))


def gains(results: GradedAnswers) -> tuple[Table, ...]:
    """Relative gains as the paper's abstract counts them, in percent."""
    by = scorers(results)
    rows = []
    for name, roles in GAINS.items():
        for one, two, over in matches(models(results), *roles):
            cells: dict[str, object] = {"Compared": name}
            for scorer in by:
                gain = relative_gain(*pair(one, two, "correct", scorer).observed)
                cells[scored("Gain", scorer, by)] = points(gain.value)
                cells[scored("95 % interval", scorer, by)] = between(gain.low, gain.high)
            beside = paper.gain(*roles, one.spec)
            rows.append(Row({**cells, **_common(one, two, by[0]), "Paper": beside}, over))
    return table("table1b", rows, where=text("paired"))


def _change(one: Model, two: Model, by: str) -> dict[str, Cell]:
    """Before, after, their difference with its error and interval."""
    both = pair(one, two, "correct", by)
    delta, (after, before) = paired(*both.observed), both.means
    return {
        "Before": percent(before),
        "After": percent(after),
        "Delta": points(delta.value),
        "± s.e.": percent(delta.error),
        "95 % interval": between(delta.low, delta.high),
    }


def _common(one: Model, two: Model, by: str) -> dict[str, object]:
    both = pair(one, two, "correct", by)
    return {"n": count(paired(*both.observed).n or None), "Sets": both.coverage}
