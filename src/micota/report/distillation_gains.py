"""Table 1: what fine-tuning on a model's chains of thought changes, for the assistant and for the student."""

from __future__ import annotations

from micota.report import paper
from micota.report.accuracy import RUNAWAYS
from micota.report.cells import Row, between, count, percent, points, table
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, find, matches, models, pair, scored, scorer_title, scorers
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
    """Delta = accuracy after minus accuracy before, in points; a row for each scorer. The paper's is by exact match."""
    every, by = models(results), scorers(results)
    rows = []
    for name, roles in CHANGES.items():
        for model, base, over in matches(every, *roles):
            shares = ((head, pair(model, base, measure).means) for head, measure in RUNAWAYS.items())
            common = {head: f"{percent(before).text} → {percent(after).text}" for head, (after, before) in shares}
            teacher = find(every, "teacher", {**model.variables, **base.variables})
            beside = paper.change(*roles, model.spec, teacher.spec if teacher else None, _shared(model, base))
            for scorer in by:
                named = {"Change": name} | ({"Scorer": scorer_title(scorer)} if len(by) > 1 else {})
                counts = _common(model, base, scorer) | {"Paper": beside if scorer == by[0] else ""}
                rows.append(Row({**named, **_change(model, base, scorer), **common, **counts}, over))
    about = {"where": text("paired"), "runaways": text("runaways")}
    about["beside"] = text("table1", "beside") if any(row.cells["Paper"] for row in rows) else ""
    return table("table1", rows, words=1 + (len(by) > 1), **about)


def gains(results: GradedAnswers) -> tuple[Table, ...]:
    """Relative gains as the paper's abstract counts them, in percent."""
    by = scorers(results)
    rows = []
    for name, roles in GAINS.items():
        for model, base, over in matches(models(results), *roles):
            cells: dict[str, object] = {"Compared": name}
            for scorer in by:
                gain = relative_gain(*pair(model, base, "correct", scorer).observed)
                cells[scored("Gain", scorer, by)] = points(gain.value)
                cells[scored("95 % interval", scorer, by)] = between(gain.low, gain.high)
            beside = paper.gain(*roles, model.spec, _shared(model, base))
            rows.append(Row({**cells, **_common(model, base, by[0]), "Paper": beside}, over))
    return table("table1b", rows, where=text("paired"))


def _change(model: Model, base: Model, by: str) -> dict[str, Cell]:
    """Before, after, their difference with its error and interval."""
    both = pair(model, base, "correct", by)
    delta, (after, before) = paired(*both.observed), both.means
    return {
        "Before": percent(before),
        "After": percent(after),
        "Delta": points(delta.value),
        "± s.e.": percent(delta.error),
        "95 % interval": between(delta.low, delta.high),
    }


def _shared(model: Model, base: Model) -> list[str | None]:
    """The benchmarks that both are evaluated on."""
    return model.benchmarks(data for data in model.sets if data in base.sets)


def _common(model: Model, base: Model, by: str) -> dict[str, object]:
    both = pair(model, base, "correct", by)
    return {"n": count(paired(*both.observed).n or None), "Sets": both.coverage}
