"""What `micota rank` prints: the data sets of each student, what each measure cost, and what the order is worth, of
which trainings that have been made are the evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from micota.errors import MicotaError, suggestion
from micota.report.data_ranking import NAMED_BY, PREFERRED, UNSHOWN, WORTH, tested, worth
from micota.workspace.ranking import STAGES, Ranking

if TYPE_CHECKING:
    from pandas import DataFrame

HEADS = {"rsr": "rank-surprisal", "bpc": "bits/char", "local": "local log p", "beyond": "beyond window",
         "tokens": "tokens", "gradient": "gradient", "trial_loss": "trial loss",
         "trial_accuracy": "trial accuracy", "untrained": "untrained"}  # fmt: skip
SHARES = ("beyond", "trial_accuracy", "untrained")
FEWEST = 3  # data sets that a measure can put in order
HALVES = 4  # seeds of which half can choose


def show(console: Console, found: Ranking, by: str = NAMED_BY) -> None:
    """Print the table, the preferred end of each measure, and what the order is worth. Raises MicotaError for a
    measure that there is not."""
    if by not in PREFERRED:
        raise MicotaError(f"there is no measure '{by}'", fix=suggestion(by, PREFERRED))
    frame, costs = found.sorted(by), found.costs
    there = [name for name in HEADS if frame[name].notna().any()]
    table = Table("student", "data", box=None, pad_edge=False)
    for name in there:
        end = {1: "high first", -1: "low first", None: "on the probe"}[PREFERRED.get(name)]
        table.add_column(f"{HEADS[name]}\n{end}", justify="right", style="bold" if name == by else "")
    for row in frame.to_dict("records"):
        cells = ("" if row[name] != row[name] else _cell(name, row[name]) for name in there)
        table.add_row(escape(row["student"]), escape(row["data"]), *cells)
    given = {"tokens": "measured"} | {name: stage for stage, names in STAGES.items() for name in names}
    shares = [f"{100 * costs[given[name]]:.1f} %" if given[name] in costs else "" for name in there]
    table.add_row("cost, share of a training", "", *shares, style="dim")
    console.print(table)
    console.print(
        f"sorted by {HEADS[by]}: {WORTH if by == NAMED_BY else UNSHOWN}", soft_wrap=True, highlight=False, markup=False
    )


def judge(console: Console, frame: DataFrame) -> None:
    """Print what each measure was worth where the trainings have been made and evaluated: rows are a map's."""
    if frame.empty or frame["data"].nunique() < FEWEST:
        return
    table = Table("measure", "correlation", "of students", "regret", "95 %", "gain", "95 %", box=None, pad_edge=False)
    for row in worth(frame).to_dict("records"):
        points = [f"{100 * row[name]:.1f}" for name in ("regret", "gain")]
        ends = [_between(row[f"{name}_low"], row[f"{name}_high"]) for name in ("regret", "gain")]
        students = f"{row['lowest']:.2f} to {row['highest']:.2f}"
        cells = (f"{row['correlation']:.2f}", students, points[0], ends[0], points[1], ends[1])
        table.add_row(HEADS[row["measure"]], *cells)
    students, seeds, data = (frame[name].nunique() for name in ("student", "seed", "data"))
    console.print(
        f"\nafter training {students} students of {seeds} seeds on {data} data sets: what following a measure"
        " costs against each student's best data, and gains over their mean, in points",
        soft_wrap=True,
    )
    console.print(table)
    if seeds >= HALVES:
        found = tested(frame)
        names, regret = " + ".join(HEADS[one] for one in found.names), found.regret
        console.print(
            f"chosen on half of the seeds: {names}; on the other half its regret is {100 * regret.value:.1f} "
            f"({_between(regret.low, regret.high)}), that of always taking what was best on the first half "
            f"{100 * found.constant.value:.1f}",
            soft_wrap=True,
        )


def _between(low: float, high: float) -> str:
    return "" if low != low else f"{100 * low:.1f} to {100 * high:.1f}"


def _cell(name: str, value: float) -> str:
    if name in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if name == "tokens" else f"{value:.3f}"
