"""The terminal: its width, bars of bytes, and what every command prints that runs a recipe."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from micota.errors import visible

if TYPE_CHECKING:
    from rich.console import Console

    from micota.recipe.recipe import Recipe
    from micota.report.page import Page
    from micota.specs import Spec
    from micota.store.artifacts import Store
    from micota.workspace import Workspace


class Output:
    """A standard stream that can go away under a run: a terminal that is closed, a pipe whose reader has ended.

    What is written from then on goes nowhere, and the run is asked to stop as by the system's own signal for it; a run
    that ignores that (nohup) goes on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        if isinstance(stream, TextIOWrapper):  # a terminal of another encoding loses a sign, not the command
            stream.reconfigure(errors="replace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, as far as there is somebody to read it."""
        with self._open():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Send what was written."""
        with self._open():
            self._stream.flush()

    @contextmanager
    def _open(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            if error.errno in (errno.EPIPE, errno.EIO):
                os.kill(os.getpid(), signal.SIGHUP)


def console() -> Console:
    """The terminal; into a file or a pipe, lines wide enough for a table."""
    from micota.terminal import Terminal

    return Terminal() if sys.stdout.isatty() else Terminal(width=160)


def warnings_once() -> Callable[..., None]:
    """For `warnings.showwarning`: prints a line, each once, without the place in our code."""
    said: set[str] = set()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        text = visible(str(message))
        if text not in said:
            said.add(text)
            print(f"warning: {text}", file=sys.stderr)

    return show


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

    recipe = reader.load(name, sets)
    if sets:
        ws.console.print(f"this run is {recipe.name}", markup=False, highlight=False, soft_wrap=True)
    recipe, outcome = ws.run(recipe, wanted, files)
    ws.console.print(f"{len(outcome.executed)} stages executed, {len(outcome.linked)} linked, the rest was there.")
    write_report(ws.console, recipe, ws.store, show)


def forget_for(name: str, sets: Sequence[str], ws: Workspace, redo: Sequence[str]) -> None:
    """Show and remove what names of a recipe came to and what was made of that, answers included."""
    from micota.cli.tables import removals
    from micota.housekeeping.forgetting import forgettable, made_of
    from micota.housekeeping.removal import remove
    from micota.recipe import recipe as reader

    recipe = reader.load(name, sets)
    found = forgettable(ws.store, made_of(ws.store, recipe, redo), answers=True)
    removals(ws.console, found)
    for one in found:
        remove(ws.store, one)


def write_report(here: Console, recipe: Recipe, store: Store, show: Callable[[Console, Page], None]) -> None:
    """Write the report of what is there, show a part of it and say where it lies."""
    from micota.report.files import folder, page, publish

    whole, place = page(recipe, store), folder(recipe, store)
    show(here, whole)

    def written(place: Path) -> Path:
        return publish(replace(whole, pages=_pages(recipe, store, place)), place)

    try:
        out = written(place)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
        out = written(Path("micota-reports") / place.name)  # a store that can only be read
    here.print(f"report: {out}", soft_wrap=True, highlight=False)


def _pages(recipe: Recipe, store: Store, report: Path) -> str:
    """Write the pages of the view beside a report; returns the first, from there, or "" without the extra [view]."""
    if find_spec("duckdb") is None:
        return ""
    from micota.viewer.static_site import beside

    return beside(recipe, store, report)


@contextmanager
def bar(word: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on a terminal, nothing elsewhere; what it gives is called with (done, total)."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    here = console()
    columns = (TextColumn(word), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=here, transient=True, disable=not here.is_terminal) as bars:
        row = bars.add_task(word, total=None)
        yield lambda done, total: bars.update(row, completed=done, total=total)
