"""Tables 2 and 3: the accuracy of every model on every problem set, under each scorer, never without its error."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from micota.report import paper
from micota.report.cells import Row, count, grouped, in_order, number, percent, ranked, with_error
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import RUNAWAYS, Model, by_problem, models, of, scorers, sets_of, share, title
from micota.report.page import Cell, Table
from micota.stats import interval, mean, sd

ABLATION = ("strong", "half", "micota")
PAPER = "Paper, average"
BESIDE = "The paper's average stands beside; where the model is none of the paper's, those of its 7B / 3B / 1.5B."
ERROR = (
    "Accuracy in percent ± standard error over the n problems, seeds and samples of one problem taken together; an "
    "error of 0 says only that all problems agree. Bold and underlined: the highest and second highest of the arms, "
    "which is no test of their difference."
)


def main(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 2: arms, teacher and assistants; with several problem sets one table over all and one for each."""
    found = [one for one in models(results) if one.matched == "steps"]
    return _tables(results, found, "table2", "Table 2", beside=True)


def matched(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 2 again for arms that learn equally many target tokens; Instruct learns none and stands in both."""
    found = models(results)
    if not any(one.matched == "tokens" for one in found):
        return ()
    shown = [one for one in found if one.matched == "tokens" or one.role == "instruct"]
    return _tables(results, shown, "table2b", "Table 2b", beside=False)


def ablation(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 3: only the three arms that differ in who teaches, and at what length."""
    found = [one for one in models(results) if one.matched == "steps" and one.role in ABLATION]
    if len({one.role for one in found}) < 2:
        return ()
    return (_overview(results, found, "table3", "Table 3: strong teacher, half-size teacher, MiCoTA", beside=True),)


def _tables(results: GradedAnswers, found: list[Model], key: str, name: str, beside: bool) -> tuple[Table, ...]:
    sets = sets_of(found)
    if not sets:
        return ()
    if len(sets) == 1:
        return (_detail(results, found, sets[0], key, f"{name}: {sets[0]}", beside),)
    overview = _overview(results, found, key, f"{name}: all problem sets", beside)
    details = (_detail(results, found, one, f"{key}_{one}", f"{name}: {one}", beside) for one in sets)
    return (overview, *details)


def _overview(results: GradedAnswers, found: list[Model], key: str, name: str, beside: bool) -> Table:
    """A row for each model: accuracy on each set and on average, under each scorer."""
    sets, by = sets_of(found), scorers(results)
    pairs = [(data, one) for data in sets for one in by]
    names = [of(f"{data} (n = {_n(found, data)})", one, by) for data, one in pairs]
    several = len(sets) > 1
    head = ["Model", *names, *(of("Average", one, by) for one in by if several)]
    head += [*(of("sd over seeds", one, by) for one in by), "Seeds"] if _seeded(found) else []
    head += ["Truncated", "Looped"]

    def row(model: Model) -> Row:
        cells = [with_error(model.accuracy([data], one)) for data, one in pairs]
        cells += [with_error(model.accuracy(sets, one)) for one in by if several]
        if _seeded(found):
            cells += [percent(sd(list(model.over_seeds(sets, one).values()))) for one in by] + [_seeds(model, sets)]
        cells += [percent(share(one, sets)) for one in (model.truncated, model.looped)]
        return (Cell(model.title), *cells, *([Cell(paper.accuracy(model.role, model.spec))] if beside else []))

    width = len(pairs) + (len(by) if several else 0)
    rows = _rows(found, row, range(1, 1 + width))
    average = " The average is the unweighted mean of the sets." if several else ""
    average += f" {RUNAWAYS}"
    return Table(key, name, (*head, *([PAPER] if beside else [])), rows, _caption(ERROR + average, beside))


def _detail(results: GradedAnswers, found: list[Model], data: str, key: str, name: str, beside: bool) -> Table:
    """A row for each model on one problem set: also lengths, and what did not end or gave no answer."""
    by = scorers(results)
    head = ["Model"]
    for one in by:
        head += [of("Accuracy", one, by), of("± s.e.", one, by)]
        head += [of("sd over seeds", one, by)] if _seeded(found) else []
    head += ["n", *(["Seeds"] if _seeded(found) else []), "Mean tokens", "± s.e. of tokens"]
    head += ["Truncated", "Looped", "No answer"]
    benchmark = next((one.completions.problems.benchmark for model in found for one in model.of(data)), None)

    def row(model: Model) -> Row:
        cells: list[Cell] = [Cell(model.title)]
        for one in by:
            reached = model.accuracy([data], one)
            spread = percent(sd(list(model.over_seeds([data], one).values())))
            cells += [percent(reached.value), percent(reached.error), *([spread] if _seeded(found) else [])]
        cells += _about(model, data, by, _seeded(found))
        return (*cells, *([Cell(paper.accuracy(model.role, model.spec, benchmark))] if beside else []))

    width = 3 if _seeded(found) else 2
    rows = _rows(found, row, range(1, 1 + width * len(by), width))
    said = f"{ERROR} {RUNAWAYS} No answer in percent of them too, by {title(by[0])}."
    return Table(key, name, (*head, *(["Paper"] if beside else [])), rows, _caption(said, beside))


def _about(model: Model, data: str, by: Sequence[str], seeded: bool) -> list[Cell]:
    """n, seeds, mean tokens with its error, shares that are truncated, that loop and that are without an answer."""
    lengths = interval(by_problem(model.tokens(data)))
    silent = mean(list(model.observed(data, by[0], lambda row: row.verdict == "no_answer").values()))
    counted = [count(lengths.n or None), *([Cell(model.seeds(data))] if seeded else [])]
    return [
        *counted,
        number(lengths.value),
        number(lengths.error),
        *map(percent, (share(model.truncated, [data]), share(model.looped, [data]), silent)),
    ]


def _rows(found: list[Model], row: Callable[[Model], Row], columns: Iterable[int]) -> tuple[Row, ...]:
    """The rows below the headings of their groups, the best arms of each group marked; what belongs to all is last."""
    headed = []
    for group in in_order(one.group for one in found):
        inside = [one for one in found if one.group == group]
        rows = [row(one) for one in inside]
        for column in columns:
            rows = ranked(rows, column, [one.arm for one in inside])
        headed.append((group, rows))
    return grouped(headed)


def _n(found: Iterable[Model], data: str) -> str:
    """How many problems a set has: `500`, or `498-500` where models differ."""
    sizes = {len(by_problem(one.tokens(data))) for one in found} - {0}
    return "–" if not sizes else str(max(sizes)) if len(sizes) == 1 else f"{min(sizes)}-{max(sizes)}"


def _seeds(model: Model, sets: Sequence[str]) -> Cell:
    return Cell(", ".join(dict.fromkeys(model.seeds(data) for data in sets)))


def _seeded(found: Iterable[Model]) -> bool:
    return any(len({answers.seed for answers in one.answers}) > 1 for one in found)


def _caption(text: str, beside: bool) -> str:
    return f"{text} {BESIDE}" if beside else f"{text} The paper has no such comparison."
