"""What `micota rank` prints: the data sets of each student, what each measure cost, and what the order is worth."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from micota.report.data_ranking import NAMED_BY, PREFERRED, WORTH
from micota.workspace.ranking import STAGES, Ranking

HEADS = {"rsr": "rank-surprisal", "bpc": "bits/char", "local": "local log p", "beyond": "beyond window",
         "tokens": "tokens", "gradient": "gradient", "trial_loss": "trial loss",
         "trial_accuracy": "trial accuracy"}  # fmt: skip
SHARES = ("beyond", "trial_accuracy")


def show(console: Console, found: Ranking) -> None:
    """Print the table, the preferred end of each measure, and what the order is worth."""
    frame, costs = found.frame, found.costs
    there = [name for name in HEADS if frame[name].notna().any()]
    table = Table("student", "data", box=None, pad_edge=False)
    for name in there:
        arrow = "high" if PREFERRED[name] > 0 else "low"
        table.add_column(f"{HEADS[name]}\n{arrow} first", justify="right", style="bold" if name == NAMED_BY else "")
    for row in frame.to_dict("records"):
        cells = ("" if row[name] != row[name] else _cell(name, row[name]) for name in there)
        table.add_row(escape(row["student"]), escape(row["data"]), *cells)
    given = {"tokens": "measured"} | {name: stage for stage, names in STAGES.items() for name in names}
    shares = [f"{100 * costs[given[name]]:.1f} %" if given[name] in costs else "" for name in there]
    table.add_row("cost, share of a training", "", *shares, style="dim")
    console.print(table)
    console.print(f"sorted by {HEADS[NAMED_BY]}: {WORTH}", soft_wrap=True, highlight=False, markup=False)


def _cell(name: str, value: float) -> str:
    if name in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if name == "tokens" else f"{value:.3f}"
