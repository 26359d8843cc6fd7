"""Tables 2 and 3: the accuracy of every model on every problem set, under each scorer, never without its error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from micota.report import paper
from micota.report.cells import Column, count, number, percent, table, with_error, words
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, by_problem, models, scored, scorer_title, scorers, sets_of
from micota.report.page import Cell, Table
from micota.report.texts import text
from micota.stats import sd

ABLATION = ("strong", "half", "micota")


def main(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 2: arms, teacher and assistants; with several problem sets one table over all and one for each."""
    found = [one for one in models(results) if one.matched == "steps"]
    return _tables(results, found, "table2", beside=True)


def matched(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 2 again for arms that learn equally many target tokens; Instruct learns none and is in both."""
    found = models(results)
    if not any(one.matched == "tokens" for one in found):
        return ()
    alike = [one for one in found if one.matched == "tokens" or one.role == "instruct"]
    return _tables(results, alike, "table2b", beside=False)


def ablation(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 3: only the three arms that differ in who teaches, and at what length."""
    found = [one for one in models(results) if one.matched == "steps" and one.role in ABLATION]
    return _overview(results, found, "table3", beside=True) if len({one.role for one in found}) > 1 else ()


def _tables(results: GradedAnswers, found: list[Model], key: str, beside: bool) -> tuple[Table, ...]:
    sets = sets_of(found)
    if len(sets) == 1:
        return _detail(results, found, sets[0], key, key, beside)
    details = [one for data in sets for one in _detail(results, found, data, key, f"{key}_{data}", beside)]
    return (*_overview(results, found, key, beside), *details) if sets else ()


def _overview(results: GradedAnswers, found: list[Model], key: str, beside: bool) -> tuple[Table, ...]:
    """A row for each model: accuracy on each set and on average, under each scorer."""
    sets, by = sets_of(found), scorers(results)
    columns = [MODEL]
    columns += [
        Column(scored(f"{data} (n = {_n(found, data)})", one, by), accuracy([data], one), ranked=True)
        for data in sets
        for one in by
    ]
    if len(sets) > 1:
        columns += [Column(scored("Average", one, by), accuracy(sets, one), ranked=True) for one in by]
    if seeded(found):
        columns += [Column(scored("sd over seeds", one, by), _over_seeds(sets, one)) for one in by]
        columns += [words("Seeds", lambda one: ", ".join(dict.fromkeys(one.seeds(data) for data in sets)))]
    columns += [shares(head, measure, sets) for head, measure in RUNAWAYS]
    columns += [words("Paper, average", lambda one: paper.accuracy(one.role, one.spec))] if beside else []
    average = text("average") if len(sets) > 1 else ""
    return _table(found, columns, key, key, f"{average} {text('runaways')}", beside, "all problem sets")


def _detail(
    results: GradedAnswers, found: list[Model], data: str, key: str, file: str, beside: bool
) -> tuple[Table, ...]:
    """A row for each model on one problem set: also lengths, and what did not end or gave no answer."""
    by, several = scorers(results), seeded(found)
    columns = [MODEL]
    for one in by:
        columns += [
            Column(scored("Accuracy", one, by), _reached(data, one, "value"), ranked=True),
            Column(scored("± s.e.", one, by), _reached(data, one, "error")),
        ]
        columns += [Column(scored("sd over seeds", one, by), _over_seeds([data], one))] if several else []
    columns += [Column("n", lambda one: count(one.estimate([data], "tokens").n or None))]
    columns += [words("Seeds", lambda one: one.seeds(data))] if several else []
    columns += [
        Column("Mean tokens", lambda one: number(one.estimate([data], "tokens").value)),
        Column("± s.e. of tokens", lambda one: number(one.estimate([data], "tokens").error)),
        *(shares(head, measure, [data]) for head, measure in RUNAWAYS),
        shares("No answer", "no_answer", [data], by[0]),
    ]
    benchmark = next((one.spec.problems.benchmark for model in found for one, _ in model.of(data)), None)
    columns += [words("Paper", lambda one: paper.accuracy(one.role, one.spec, benchmark))] if beside else []
    more = f"{text('runaways')} {text('no_answer', scorer=scorer_title(by[0]))}"
    return _table(found, columns, key, file, more, beside, data)


def _table(
    found: list[Model], columns: list[Column[Model]], key: str, file: str, more: str, beside: bool, sets: str
) -> tuple[Table, ...]:
    paper_said = text("beside" if beside else "not_beside")
    about: dict[str, Any] = {"accuracy": text("accuracy"), "more": more.strip(), "paper": paper_said, "sets": sets}
    return table(key, columns, found, file=file, group=lambda one: one.group, competes=lambda one: one.arm, **about)


MODEL: Column[Model] = words("Model", lambda one: one.title)
RUNAWAYS = (("Truncated", "truncated"), ("Repetitive", "repetitive"))


def accuracy(sets: Sequence[str], by: str) -> Callable[[Model], Cell]:
    """Accuracy with its error, in percent, the unweighted mean over the sets."""
    return lambda one: with_error(one.estimate(sets, "correct", by))


def shares(head: str, measure: str, sets: Sequence[str], by: str | None = None) -> Column[Model]:
    """A column of shares of the responses, in percent."""
    return Column(head, lambda one: percent(one.estimate(sets, measure, by).value))


def seeded(found: Iterable[Model]) -> bool:
    """Whether a model has several seeds."""
    return any(len({cell.variables.get("seed") for cell, _ in one.cells}) > 1 for one in found)


def _reached(data: str, by: str, name: str) -> Callable[[Model], Cell]:
    return lambda one: percent(getattr(one.estimate([data], "correct", by), name))


def _over_seeds(sets: Sequence[str], by: str) -> Callable[[Model], Cell]:
    return lambda one: percent(sd(list(one.over_seeds(sets, "correct", by).values())))


def _n(found: Iterable[Model], data: str) -> str:
    """How many problems a set has: `500`, or `498-500` where models differ."""
    sizes = {len(by_problem(one.observed(data, "tokens"))) for one in found} - {0}
    return "–" if not sizes else str(max(sizes)) if len(sizes) == 1 else f"{min(sizes)}-{max(sizes)}"
