"""The commands that run one stage alone, on a user's own files, without a recipe or apart from the rest of one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def merge(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yml", help="A merge as mergekit's YAML describes it.")],
    out: Annotated[Path, typer.Argument(help="The model folder to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the masks.")] = 0,
    threads: Annotated[int | None, typer.Option(help="All cores unless said; it changes no bit.")] = None,
    shard_gb: Annotated[float, typer.Option(help="Largest file, in GB.")] = 2.0,
) -> None:
    """Merge models, exactly and at the speed of the disk; the same command goes on after an interruption."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from micota.merge import merge_config
    from micota.show import merged

    console = Console()
    columns = (TextColumn("merging"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        row = bars.add_task("merging", total=None)
        facts = merge_config(
            config,
            out,
            seed=seed,
            threads=threads or _cores(),
            shard_bytes=max(1, int(shard_gb * 1e9)),
            progress=lambda done, total: bars.update(row, completed=done, total=total),
        )
    merged(console, facts)
    console.print(f"merged model: {out}", soft_wrap=True, highlight=False)


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
