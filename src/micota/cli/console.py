"""The terminal: its width, bars of bytes, and what every command prints that runs a recipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from micota.recipe.recipe import Recipe
    from micota.report.page import Page
    from micota.specs import Spec
    from micota.store.artifacts import Store
    from micota.workspace import Workspace


def console() -> Console:
    """The terminal; into a file or a pipe, lines wide enough for a table."""
    from micota.terminal import Terminal

    return Terminal() if sys.stdout.isatty() else Terminal(width=160)


def workspace(store: Path, machine: str) -> Workspace:
    """The workspace of a command: what it prints goes to the terminal."""
    from micota.workspace import Workspace

    return Workspace(store, machine, console())


def run_recipe(
    name: str,
    sets: Sequence[str],
    ws: Workspace,
    wanted: Callable[[Recipe], list[Spec]],
    show: Callable[[Console, Page], None],
    files: bool = False,
) -> None:
    """Make what is `wanted` of a recipe and is not there yet, `show` the results, and write the report.

    With `files`, what is wanted is made again where its files were removed.
    """
    from micota.recipe import recipe as reader

    recipe, outcome = ws.run(reader.load(name, sets), wanted, files)
    ws.console.print(f"{len(outcome.executed)} stages executed, {len(outcome.linked)} linked, the rest was there.")
    write_report(ws.console, recipe, ws.store, show)


def write_report(here: Console, recipe: Recipe, store: Store, show: Callable[[Console, Page], None]) -> None:
    """Write the report of what is there, show a part of it and say where it lies."""
    from micota.report.files import folder, page, publish

    whole = page(recipe, store)
    show(here, whole)
    here.print(f"report: {publish(whole, folder(recipe, store))}", soft_wrap=True, highlight=False)


@contextmanager
def bar(word: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on a terminal, nothing elsewhere; what it gives is called with (done, total)."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    here = console()
    columns = (TextColumn(word), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=here, transient=True, disable=not here.is_terminal) as bars:
        row = bars.add_task(word, total=None)
        yield lambda done, total: bars.update(row, completed=done, total=total)
