"""What commands that run a recipe have in common: the console, the stages with their bars, signals, the report."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from micota.machine import MachineProfile
    from micota.recipe.reader import Recipe
    from micota.report.page import Page
    from micota.run.execution import Outcome
    from micota.specs import Spec
    from micota.store.artifacts import Store
    from micota.workspace.progress import Bars


def console() -> Console:
    """The terminal; into a file or a pipe, lines wide enough for a table."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def targets(made: Recipe, only: str | None) -> list[Spec]:
    """What the recipe wants, or the one name that was asked for."""
    return [made.named(only)] if only else made.targets


def carry_out(
    name: str,
    machine: str,
    sets: Sequence[str],
    store: Path,
    wanted: Callable[[Recipe], list[Spec]],
    show: Callable[[Console, Page], None],
    files: bool = False,
) -> None:
    """Make what is `wanted` of a recipe and is not there yet, `show` what came of it, and write the report.

    With `files`, what is wanted is made again where its files were removed.
    """
    from micota import machine as machines
    from micota.checks import raise_first
    from micota.checks.recipe_check import inspect
    from micota.cli.tables import findings
    from micota.recipe import reader as recipes
    from micota.store.artifacts import Store

    profile = machines.load(machine)
    made = recipes.load(name, sets)
    made = recipes.resolved(made, name, sets, wanted(made))
    specs, place, here = wanted(made), Store(store), console()
    found = inspect(specs, place)[1]
    raise_first(found)
    findings(here, [], found)
    made.lock.save()
    outcome = execute(here, place, profile, made, specs, files)
    here.print(f"{len(outcome.executed)} stages executed, {len(outcome.linked)} linked, the rest was there.")
    report(here, made, place, show)


def execute(
    here: Console,
    place: Store,
    profile: MachineProfile,
    made: Recipe,
    specs: list[Spec],
    files: bool = False,
    shown: Bars | None = None,
) -> Outcome:
    """Run the stages with a bar for each; the recipe's names lead to what is done, also after a failure."""
    from micota.recipe.labels import labels
    from micota.run.execution import Run
    from micota.specs import walk
    from micota.workspace.progress import Bars

    profile.check(spec for spec in walk(*specs) if not place.manifest(spec))
    names = labels(made)
    with shown or Bars(here, names) as bars:
        running = Run(place, profile, bars, {digest: f"{made.name}/{name}" for digest, name in names.items()})
        with _signals(running.stop):
            try:
                return running.go(specs, files)
            finally:
                for name, spec in made.names.items():
                    place.name(made.name, name, spec)


def report(here: Console, made: Recipe, place: Store, show: Callable[[Console, Page], None]) -> None:
    """Write the report of what is there, show a part of it and say where it lies."""
    from micota.report.files import folder, page, publish

    made_page = page(made, place)
    show(here, made_page)
    path = publish(made_page, folder(made, place))
    here.print(f"report: {path}", soft_wrap=True, highlight=False)


@contextmanager
def bar(word: str) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes on a terminal, nothing elsewhere; what it gives is called with (done, total)."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    here = console()
    columns = (TextColumn(word), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=here, transient=True, disable=not here.is_terminal) as bars:
        row = bars.add_task(word, total=None)
        yield lambda done, total: bars.update(row, completed=done, total=total)


@contextmanager
def _signals(stop: Callable[[bool], None]) -> Iterator[None]:
    """The first SIGTERM or Ctrl-C asks the stages to stop, the second kills them; SIGUSR1, a warning, only asks."""
    asked: list[int] = []

    def handle(number: int, frame: object) -> None:
        stop(bool(asked) and number != signal.SIGUSR1)
        asked.append(number)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
