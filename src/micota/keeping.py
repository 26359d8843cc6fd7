"""The commands on what a store holds: take a model or data out of it, see its size, make room, see what runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from micota.alone import STORE, StoreDir

app = typer.Typer()


@contextmanager
def bar(word: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on a terminal, nothing elsewhere; what it gives is called with (done, total)."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from micota import terminal

    console = terminal.console()
    columns = (TextColumn(word), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        row = bars.add_task(word, total=None)
        yield lambda done, total: bars.update(row, completed=done, total=total)


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="An artifact's id, or a name of a recipe: lab-mini/ta-long.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; it must not be there yet.")],
    push: Annotated[str | None, typer.Option(metavar="REPO", help="A repository of the Hub to put it into.")] = None,
    store: StoreDir = STORE,
) -> None:
    """Write a model as a folder that serves, or training data as rows, with a card that tells where it comes from."""
    from micota import export as exports
    from micota import hub, terminal
    from micota.lineage import DATA
    from micota.store import Store

    place, console = Store(store), terminal.console()
    manifest = place.find(name)
    with bar("copying") as report:
        exports.export(place, manifest, name, out, push or str(out), report)
    console.print(f"{manifest.id}: {out}", soft_wrap=True, highlight=False)
    if push:
        address = hub.push(push, "dataset" if manifest.kind in DATA else "model", out, out)
        console.print(f"pushed: {address}", soft_wrap=True, highlight=False)
