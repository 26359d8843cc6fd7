"""`micota rehearse`: a rehearsal in a folder that goes away, and what the user reads of it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from micota.errors import MicotaError
from micota.recipe import recipe as recipes
from micota.rehearsal import Rehearsal, rehearse


def show_rehearsal(here: Console, name: str, sets: Sequence[str], keep: Path | None) -> None:
    """Rehearse a recipe and say what was found. Raises MicotaError if anything was that would spoil the run."""
    made = recipes.load(name, sets)
    if keep and keep.exists() and any(keep.iterdir()):
        raise MicotaError(f"{keep} is not empty", fix="give a folder that is not there yet")
    started = time.monotonic()
    with nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory() as folder:
        done = rehearse(made, Path(folder).absolute(), here)
    _show(here, done)
    here.print(f"{made.name}: rehearsed in {time.monotonic() - started:.0f} s", highlight=False)
    if done.faults:
        where = f"the logs are in {keep}/store/making" if keep else "`--keep DIR` keeps the logs"
        raise MicotaError(
            "\n\n".join([f"found {len(done.faults)} in a rehearsal of {made.name}", *done.faults]), fix=where
        )


def _show(here: Console, done: Rehearsal) -> None:
    had = Table("model", "shape", "tokenizer and template", box=None, pad_edge=False)
    for stand_in in done.stand_ins.values():
        had.add_row(escape(stand_in.source.ref), stand_in.shape, stand_in.tokenizer)
    read = Table("data", "rows", box=None, pad_edge=False)
    for name, origin, rows in dict.fromkeys((name, few.origin, len(few.rows)) for name, few in done.data.values()):
        read.add_row(escape(name), f"{rows} {origin}")
    spent = Table("stage", "done", "failed", "seconds", box=None, pad_edge=False)
    for kind in dict.fromkeys([*done.seconds, *done.failed]):
        times, failed = done.seconds.get(kind, []), done.failed.get(kind, 0)
        whole = len(times) - (failed if kind == "report" else 0)
        spent.add_row(kind, str(whole), str(failed or ""), f"{sum(times):.1f}")
    for table in (had, read, spent):
        here.print(table)
        here.print()
    for one in done.findings:
        if not one.fault:
            here.print(f"[yellow]note[/] {escape(one.text)}", highlight=False, soft_wrap=True)
