"""`micota lab pretrain`: make the shipped models again, with a bar for each."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from micota.errors import MicotaError, suggestion
from micota.lab.pretrain import DESIGNS, pretrain


def _show(bars: Progress, row: TaskID, name: str, done: int, total: int, note: str) -> None:
    bars.update(row, completed=done, total=total, description=f"{name} {note}")


def pretrain_all(console: Console, out: Path, only: str | None, seed: int) -> None:
    """Pre-train one or all of the lab's models into folders below `out`."""
    if only is not None and only not in DESIGNS:
        raise MicotaError(f"the lab has no model '{only}'", fix=suggestion(only, DESIGNS))
    for name in [only] if only else list(DESIGNS):
        with Progress(console=console) as bars:
            row = bars.add_task(name, total=None)
            pretrain(out / name, name, seed, partial(_show, bars, row, name))
        console.print(f"{name}: {out / name}")
