"""Tables 2 and 3: the accuracy of every model on every problem set, under each scorer, never without its error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from micota.report import model_rows, paper
from micota.report.cells import Row, between, count, number, percent, points, table, with_error
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, by_problem, models, pair, scored, scorer_title, scorers, sets_of
from micota.report.page import Cell, Table
from micota.report.texts import text
from micota.stats import paired, sd

ABLATION = ("strong", "half", "micota")
RUNAWAYS = {"Truncated": "truncated", "Repetitive": "repetitive"}


def main(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 2: arms, teacher and assistants; with several problem sets one table over all and one for each."""
    compared = [model for model in models(results) if model.matched == "steps"]
    return _tables(results, compared, "table2" if results.recipe.roles else "accuracies")


def matched(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 2 again for arms that learn equally many target tokens; Instruct learns none and is in both."""
    compared = models(results)
    alike = [model for model in compared if model.matched == "tokens" or model.role == "instruct"]
    return _tables(results, alike, "table2b") if any(model.matched == "tokens" for model in compared) else ()


def ablation(results: GradedAnswers) -> tuple[Table, ...]:
    """Table 3: only the three arms that differ in who teaches, and at what length."""
    compared = [model for model in models(results) if model.matched == "steps" and model.role in ABLATION]
    return _overview(results, compared, "table3") if len({model.role for model in compared}) > 1 else ()


def runaways(model: Model, sets: Sequence[str]) -> dict[str, Cell]:
    """Shares of the responses that did not end by themselves, in percent."""
    return {head: percent(model.estimate(sets, measure).value) for head, measure in RUNAWAYS.items()}


def _tables(results: GradedAnswers, compared: list[Model], key: str) -> tuple[Table, ...]:
    sets = sets_of(compared)
    if len(sets) == 1:
        return _detail(results, compared, sets[0], key, key)
    details = [model for data in sets for model in _detail(results, compared, data, key, f"{key}_{data}")]
    return (*_overview(results, compared, key), *details) if sets else ()


def _overview(results: GradedAnswers, compared: list[Model], key: str) -> tuple[Table, ...]:
    """A row for each model: accuracy on each set and on average, under each scorer."""
    sets, by, several = sets_of(compared), scorers(results), _seeded(compared)
    columns = {
        scored(f"{data} (n = {_n(compared, data)})", scorer, by): ([data], scorer) for data in sets for scorer in by
    }
    columns |= {scored("Average", scorer, by): (sets, scorer) for scorer in by if len(sets) > 1}
    rows = []
    for model in compared:
        cells: dict[str, object] = {"Model": model.title}
        cells |= {head: with_error(model.estimate(on, "correct", scorer)) for head, (on, scorer) in columns.items()}
        cells |= {scored("sd over seeds", scorer, by): _over_seeds(model, sets, scorer) for scorer in by if several}
        cells |= {"Seeds": ", ".join(dict.fromkeys(map(model.seeds, sets)))} if several else {}
        cells |= runaways(model, sets)
        cells |= {"Paper, average": _paper(model, sets)}
        rows.append(Row(cells, model.group, model.arm))
    more = [text("average") if len(sets) > 1 else "", text("runaways"), _beside(compared, sets)]
    about = " ".join(filter(None, [text("accuracy"), *more]))
    arms = ", ".join(dict.fromkeys(model.title for model in compared))
    return table(key, rows, best=columns, sets="all problem sets", about=about, arms=arms)


def _detail(results: GradedAnswers, compared: list[Model], data: str, key: str, file: str) -> tuple[Table, ...]:
    """A row for each model on one problem set: also lengths, and what did not end or gave no answer."""
    by, several = scorers(results), _seeded(compared)
    rows = []
    for model in compared:
        cells: dict[str, object] = {"Model": model.title}
        for scorer in by:
            reached = model.estimate([data], "correct", scorer)
            cells |= {scored("Accuracy", scorer, by): percent(reached.value)}
            cells |= {scored("± s.e.", scorer, by): percent(reached.error)}
            cells |= {scored("sd over seeds", scorer, by): _over_seeds(model, [data], scorer)} if several else {}
        length = model.estimate([data], "tokens")
        cells |= {"n": count(length.n or None), **({"Seeds": model.seeds(data)} if several else {})}
        cells |= {"Mean tokens": number(length.value), "± s.e. of tokens": number(length.error)}
        cells |= runaways(model, [data])
        cells |= {"No answer": percent(model.estimate([data], "no_answer", by[0]).value)}
        cells |= {"Paper": _paper(model, [data])}
        rows.append(Row(cells, model.group, model.arm))
    more = [text("runaways"), text("no_answer", scorer=scorer_title(by[0])), _beside(compared, [data])]
    best = {scored("Accuracy", scorer, by) for scorer in by}
    return table(key, rows, file=file, best=best, sets=data, about=" ".join([text("accuracy"), *more]))


def _paper(model: Model, sets: Sequence[str]) -> str:
    return paper.accuracy(model.role, model.spec, model.benchmarks(sets)) if model.matched == "steps" else ""


def _beside(compared: Iterable[Model], sets: Sequence[str]) -> str:
    return text("beside") if any(_paper(model, sets) for model in compared) else ""


def from_baseline(results: GradedAnswers) -> tuple[Table, ...]:
    """The difference of every model to the baseline, paired by problem, in points and tokens."""
    by, rows, base = scorers(results), [], None
    for model, base, over in model_rows.from_baseline(results):
        name = f"{model.title} (tokens matched)" if model.matched == "tokens" else model.title
        cells: dict[str, object] = {"Model": name}
        for scorer in by:
            both = pair(model, base, "correct", scorer)
            delta = paired(*both.observed)
            cells |= {scored("Difference", scorer, by): points(delta.value)}
            cells |= {scored("95 % interval", scorer, by): between(delta.low, delta.high)}
        lengths = pair(model, base, "tokens")
        tokens = paired(*lengths.observed)
        cells |= {"Tokens": number(tokens.value, "+.1f"), "95 % of tokens": between(tokens.low, tokens.high, 1)}
        rows.append(Row({**cells, "n": count(tokens.n or None), "Sets": lengths.coverage}, over))
    return table("from_baseline", rows, where=text("paired"), baseline=base.title if base else "")


def _over_seeds(model: Model, sets: Sequence[str], by: str) -> Cell:
    return percent(sd(list(model.over_seeds(sets, "correct", by).values())))


def _seeded(compared: Iterable[Model]) -> bool:
    """Whether a model has several seeds."""
    return any(len({cell.variables.get("seed") for cell, _ in model.cells}) > 1 for model in compared)


def _n(compared: Iterable[Model], data: str) -> str:
    """How many problems a set has: `500`, or `498-500` where models differ."""
    sizes = {len(by_problem(model.observed(data, "tokens"))) for model in compared} - {0}
    return "–" if not sizes else str(max(sizes)) if len(sizes) == 1 else f"{min(sizes)}-{max(sizes)}"
