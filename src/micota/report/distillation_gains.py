"""Table 1: what fine-tuning on somebody's chains changes, for the assistant and for the student."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from micota.report import paper
from micota.report.cells import Row, between, count, grouped, in_order, percent, points
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import RUNAWAYS, Model, Pair, find, groups, models, of, pair, scorers
from micota.report.page import Cell, Table
from micota.stats import paired, relative_gain

CHANGES = (
    ("Assistant: teacher CoT", "ta_long", "ta"),
    ("Student: teacher CoT", "strong", "instruct"),
    ("Student: assistant CoT", "half", "instruct"),
    ("Student: MiCoTA", "micota", "instruct"),
)
GAINS = (("MiCoTA over Instruct", "micota", "instruct"), ("MiCoTA over Strong Teacher CoT", "micota", "strong"))
DELTA = ("Before", "After", "Delta", "± s.e.", "95 % interval")
WHERE = (
    "Paired by problem, on the problem sets that both models have answered (their unweighted mean); 95 % interval "
    "over problems, for the models as they were trained."
)


def changes(results: GradedAnswers) -> tuple[Table, ...]:
    """Delta = accuracy after minus accuracy before, in points, under each scorer."""
    by = scorers(results)
    head = ["Change", *(of(word, one, by) for one in by for word in DELTA)]
    rows = _rows(results, CHANGES, by)
    if not rows:
        return ()
    caption = (
        f"Delta in percentage points. {WHERE} The paper's Deltas stand beside: for a student that it does not have, "
        "those of its 7B / 3B / 1.5B (of the teacher QwQ-32B it has none for 7B)."
    )
    caption += f" {RUNAWAYS} Both before → after."
    last = ("Truncated", "Looped", "n", "Sets", "Paper")
    return (Table("table1", "Table 1: change of accuracy", (*head, *last), rows, caption),)


def gains(results: GradedAnswers) -> tuple[Table, ...]:
    """Relative gains as the paper's abstract counts them, in percent."""
    found = models(results)
    by = scorers(results)
    headed: dict[str, list[Row]] = {}
    for name, role, base in GAINS:
        for one, two, heading in matches(found, role, base):
            pairs = [pair(one, two, partial(_correct, by=scorer)) for scorer in by]
            gained = [relative_gain(*each.observed) for each in pairs]
            cells = [cell for each in gained for cell in (points(each.value), between(each.low, each.high))]
            last = (count(gained[0].n or None), Cell(pairs[0].coverage), Cell(paper.gain(role, base, one.spec)))
            headed.setdefault(heading, []).append((Cell(name), *cells, *last))
    if not headed:
        return ()
    columns = [of(word, one, by) for one in by for word in ("Gain", "95 % interval")]
    rows = grouped((heading, headed[heading]) for heading in in_order(headed))
    caption = f"Accuracy of the one over that of the other, minus 1, in percent. {WHERE} Interval by the delta method."
    return (Table("table1b", "Relative gains", ("Compared", *columns, "n", "Sets", "Paper"), rows, caption),)


def matches(found: list[Model], role: str, base: str, matched: str = "steps") -> list[tuple[Model, Model, str]]:
    """The pairs of two roles, one for each combination of variables that tells them apart, with its heading."""
    made: dict[tuple[int, int], tuple[Model, Model, str]] = {}
    for variables in groups(found):
        one, two = find(found, role, variables, matched), find(found, base, variables, matched)
        if one and two:
            made.setdefault((id(one), id(two)), (one, two, heading({**one.variables, **two.variables})))
    return list(made.values())


def heading(variables: Mapping[str, str]) -> str:
    return ", ".join(variables.values())


def _rows(results: GradedAnswers, wanted: tuple[tuple[str, str, str], ...], by: list[str]) -> tuple[Row, ...]:
    found = models(results)
    headed: dict[str, list[Row]] = {}
    for name, role, base in wanted:
        for one, two, over in matches(found, role, base):
            teacher = find(found, "teacher", {**one.variables, **two.variables})
            beside = paper.change(role, base, one.spec, teacher.spec if teacher else None)
            pairs = [pair(one, two, partial(_correct, by=scorer)) for scorer in by]
            cells = [cell for each in pairs for cell in _change(each)]
            cells += [_runaways(pair(one, two, measure)) for measure in (Model.truncated, Model.looped)]
            last = (count(paired(*pairs[0].observed).n or None), Cell(pairs[0].coverage), Cell(beside))
            headed.setdefault(over, []).append((Cell(name), *cells, *last))
    return grouped((over, headed[over]) for over in in_order(headed))


def _change(both: Pair) -> Row:
    """Before, after, their difference with its error and interval."""
    found = paired(*both.observed)
    after, before = both.means
    return percent(before), percent(after), points(found.value), percent(found.error), between(found.low, found.high)


def _runaways(both: Pair) -> Cell:
    """A share before and after."""
    after, before = (percent(value).text for value in both.means)
    return Cell(f"{before} → {after}")


def _correct(model: Model, data: str, by: str) -> Mapping[tuple[object, str], float]:
    return model.correct(data, by)
