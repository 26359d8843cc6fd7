"""The commands on jobs of SLURM: submit a recipe, cancel it; and the lines of `micota status` about them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micota.cli.options import STORE, MachineName, Only, RecipeName, Sets, StoreDir

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()
SHOWN = 3  # runs that have ended


@app.command()
def submit(
    recipe: RecipeName,
    machine: MachineName = "slurm",
    only: Only = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the scripts and submit nothing.")] = False,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Write the scripts of jobs that run a recipe, and submit them to SLURM; nothing needs to stay open."""
    from micota import machine as machines
    from micota.checks.machines import check_machine
    from micota.cli.console import console
    from micota.errors import MicotaError
    from micota.recipe import recipe as recipes
    from micota.run import submission
    from micota.specs import walk
    from micota.workspace.workspace import targets

    profile, loaded, terminal = machines.load(machine), recipes.load(recipe, set_ or ()), console()
    check_machine(profile, list(walk(*targets(only)(loaded))))
    words = [recipe, "--machine", machine, *(["--only", only] if only else [])]
    words += [word for one in set_ or () for word in ("--set", one)]
    same = [] if dry_run else submission.submissions(store, loaded.name)
    if queued := submission.queue([id_ for run in same for id_ in run.ids]):
        fix = f"micota status; micota cancel {queued[0].id}"
        raise MicotaError(f"'{loaded.name}' is in the queue already, as job {queued[0].id}", fix=fix)
    run = submission.write(loaded.name, words, store.absolute(), profile)
    if not dry_run:
        submission.submit(run)
    for path, id_ in zip(run.scripts, run.ids or ["not submitted"] * 2, strict=False):
        _say(terminal, f"{id_}: {path}")
    if not dry_run:
        _say(terminal, f"log: {run.folder / 'log.txt'}")
        _say(terminal, f"micota status shows it, micota cancel {run.ids[0]} stops it")


@app.command()
def cancel(
    names: Annotated[list[str], typer.Argument(metavar="JOB...", help="Ids of submitted jobs, or names of recipes.")],
    store: StoreDir = STORE,
) -> None:
    """Stop submitted runs where they can continue, or take them out of the queue."""
    from micota.cli.console import console
    from micota.errors import MicotaError, suggestion
    from micota.run import submission

    terminal = console()
    runs = submission.submissions(store)
    queued = submission.queue([id_ for run in runs for id_ in run.ids])
    alive = [run for run in runs if {job.id for job in queued} & set(run.ids)]
    for name in names:
        chosen = [run for run in alive if name in (run.title, *run.ids)]
        if not chosen:
            known = [word for run in alive for word in (run.title, *run.ids)]
            raise MicotaError(f"no job '{name}' of {store} is in the queue", fix=suggestion(name, known))
        for run in chosen:
            submission.cancel(run, queued)
            how = f"stops at its next checkpoint, if it runs (at once: scancel {' '.join(run.ids)})"
            _say(terminal, f"{run.title}: job {run.ids[0]} {how}")


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)


def show_jobs(console: Console, store: Path) -> None:
    """The submitted runs that are in the queue, and those that ended last; nothing where there are none."""
    from micota.cli.tables import listing
    from micota.errors import MicotaError
    from micota.run import submission

    runs = submission.submissions(store)
    try:
        queued = {job.id: job for job in submission.queue([id_ for run in runs for id_ in run.ids])}
    except MicotaError as error:
        _say(console, f"jobs: their state is not known here: {error.what}")
        return
    rows: list[tuple[str, ...]] = []
    for run in reversed(runs):
        jobs = [queued[id_] for id_ in run.ids if id_ in queued]
        rows += [(job.id, run.title, job.state, job.elapsed, job.where) for job in jobs]
        if not jobs and len(rows) < SHOWN:
            rows.append((run.ids[0], run.title, submission.end_of(run), "", str(run.folder / "log.txt")))
    if rows:
        listing(console, ("job", "recipe", "state", "for", "where, or why it waits"), rows)
