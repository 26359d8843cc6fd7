"""Several samples of each problem: their mean accuracy (avg@n), and the chance that one of k is right (pass@k)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from micota.report.cells import Row, count, grouped, in_order, percent, with_error
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import RUNAWAYS, Model, models, of, scorers, share
from micota.report.page import Cell, Table
from micota.stats import Estimate, interval, mean, pass_at

CAPTION = (
    "From n samples of each problem, c of them correct: avg@n is their mean accuracy; pass@k is the unbiased estimate "
    f"1 - C(n-c, k) / C(n, k). In percent, ± standard error over the problems. {RUNAWAYS}"
)


def table(results: GradedAnswers) -> tuple[Table, ...]:
    """A row for each model and problem set that was answered more than once; none without such."""
    found = [(model, data) for model in models(results) for data in model.sets if _samples(model, data) > 1]
    if not found:
        return ()
    by = scorers(results)
    most = max(_samples(model, data) for model, data in found)
    sizes = [k for k in (2**i for i in range(1, 20)) if k < most]
    head = ["Model", "Problems", "Samples", *(of("avg@n", one, by) for one in by)]
    head += [of(f"pass@{k}", one, by) for k in (*sizes, most) for one in by]
    head += ["Truncated", "Looped"]
    headed: list[tuple[str, Sequence[Row]]] = []
    for group in in_order(model.group for model, _ in found):
        inside = [_row(model, data, by, [*sizes, most]) for model, data in found if model.group == group]
        headed.append((group, inside))
    title = "Several samples: avg@n and pass@k"
    return (Table("samples", title, tuple(head), grouped(headed), CAPTION, words=2),)


def _row(model: Model, data: str, by: Sequence[str], sizes: Sequence[int]) -> Row:
    cells = [with_error(model.accuracy([data], one)) for one in by]
    cells += [with_error(pass_of(model, data, one, k)) for k in sizes for one in by]
    cells += [percent(share(one, [data])) for one in (model.truncated, model.looped)]
    return (Cell(model.title), Cell(data), count(_samples(model, data)), *cells)


def pass_of(model: Model, data: str, by: str, k: int) -> Estimate:
    """pass@k over the problems, each the mean over its seeds; nan where a problem has fewer than k samples."""
    counts: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for one in model.of(data):
        tries: defaultdict[str, list[bool]] = defaultdict(list)
        for row in one.graded.get(by, ()):
            tries[row.key].append(row.correct)
        for key, correct in tries.items():
            counts[key].append((len(correct), sum(correct)))
    if not counts or any(n < k for each in counts.values() for n, _ in each):
        return Estimate()
    return interval([mean([pass_at(k, n, correct) for n, correct in each]) for each in counts.values()])


def _samples(model: Model, data: str) -> int:
    return max((one.completions.n for one in model.of(data)), default=0)
