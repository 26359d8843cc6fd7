"""Several samples of each problem: their mean accuracy (avg@n), and the chance that one of k is right (pass@k)."""

from __future__ import annotations

from collections import defaultdict

from micota.report.accuracy import runaways
from micota.report.cells import Row, count, table, with_error
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, models, scored, scorers
from micota.report.page import Table
from micota.report.texts import text
from micota.stats import Estimate, interval, mean, pass_at


def samples(results: GradedAnswers) -> tuple[Table, ...]:
    """A row for each model and problem set that was answered more than once; none without such."""
    answered = [(model, data, _samples(model, data)) for model in models(results) for data in model.sets]
    by, most = scorers(results), max((n for *_, n in answered), default=0)
    sizes = [*(2**i for i in range(1, 20) if 2**i < most), most]
    rows = [
        Row(
            {"Model": model.title, "Problems": data, "Samples": count(n)}
            | {scored("avg@n", scorer, by): with_error(model.estimate([data], "correct", scorer)) for scorer in by}
            | {
                scored(f"pass@{k}", scorer, by): with_error(pass_of(model, data, scorer, k))
                for k in sizes
                for scorer in by
            }
            | runaways(model, [data]),
            model.group,
        )
        for model, data, n in answered
        if n > 1
    ]
    return table("samples", rows, words=2, runaways=text("runaways"))


def pass_of(model: Model, data: str, by: str, k: int) -> Estimate:
    """pass@k over the problems, each the mean over its seeds; nan where a problem has fewer than k samples."""
    counts: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for evaluation, rows in model.of(data):
        if evaluation.spec.by == by:
            right = (rows["verdict"] == "correct").groupby(rows["problem"]).agg(["size", "sum"])
            for key, n, correct in right.itertuples():
                counts[key].append((int(n), int(correct)))
    if not counts or any(n < k for each in counts.values() for n, _ in each):
        return Estimate()
    return interval([mean([pass_at(k, n, correct) for n, correct in each]) for each in counts.values()])


def _samples(model: Model, data: str) -> int:
    return max((evaluation.spec.completions.n for evaluation, _ in model.of(data)), default=0)
