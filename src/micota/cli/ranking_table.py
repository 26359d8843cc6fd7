"""What `micota rank` prints: the data sets of each student, what each measure cost, and what the order is worth."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from micota.errors import MicotaError, suggestion
from micota.report.data_ranking import NAMED_BY, PREFERRED, UNSHOWN, WORTH
from micota.workspace.ranking import STAGES, Ranking

HEADS = {"rsr": "rank-surprisal", "bpc": "bits/char", "local": "local log p", "beyond": "beyond window",
         "tokens": "tokens", "gradient": "gradient", "trial_loss": "trial loss",
         "trial_accuracy": "trial accuracy", "untrained": "untrained"}  # fmt: skip
SHARES = ("beyond", "trial_accuracy", "untrained")


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


def _cell(name: str, value: float) -> str:
    if name in SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if name == "tokens" else f"{value:.3f}"
