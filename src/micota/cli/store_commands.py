"""The commands on a store: export a model or data, show sizes, remove files, show what runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micota.cli.options import STORE, Sets, StoreDir

if TYPE_CHECKING:
    from micota.housekeeping.removal import Removal
    from micota.housekeeping.transfer import Moved
    from micota.store.artifacts import Store

app = typer.Typer()
FORMS = "Data: rows, trl, chat, sharegpt; a merge: mergekit; a recipe's results: inspect, lm-eval, hub."


@app.command()
def export(
    name: Annotated[str, typer.Argument(help="An id, RECIPE/NAME, a LoRA folder, or with --format a recipe.")],
    out: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write; it must be missing or empty.")],
    push: Annotated[str | None, typer.Option(metavar="REPO", help="Upload it to this repository of the Hub.")] = None,
    form: Annotated[str | None, typer.Option("--format", metavar="FORMAT", help=FORMS)] = None,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Write a model as a folder for transformers and vLLM, or training data as rows, with a card of its lineage.

    With --format: training data for other trainers, a merge for mergekit, or a recipe's results for other programs.
    """
    from micota.cli import console as terminal
    from micota.export import folder as exports
    from micota.export import hub, interchange
    from micota.export.lineage import DATA
    from micota.pretrained import ADAPTER
    from micota.training.adapters import merge_adapter

    console = terminal.console()
    if (Path(name) / ADAPTER).is_file():
        console.print(f"{name} on {merge_adapter(Path(name), out)}: {out}", soft_wrap=True, highlight=False)
        return
    place = _there(store)
    if interchange.write(place, name, out, form, set_ or ()):
        label, is_data = name, form != interchange.MERGEKIT
    else:
        manifest = place.find(name)
        label, is_data = manifest.id, manifest.kind in DATA
        with terminal.bar("copying") as report:
            exports.export(place, manifest, name, out, push or str(out), report, form or "rows")
    console.print(f"{label}: {out}", soft_wrap=True, highlight=False)
    if push:
        address = hub.push(push, "dataset" if is_data else "model", out, out)
        console.print(f"pushed: {address}", soft_wrap=True, highlight=False)


@app.command()
def du(store: StoreDir = STORE) -> None:
    """Show the artifacts, completions and unfinished work of a store, with their sizes."""
    from micota.cli import console as terminal
    from micota.cli.tables import holdings as shown
    from micota.housekeeping import holdings

    place = _there(store)
    held = holdings.artifacts(place), holdings.pools(place), holdings.works(place), holdings.targets(place)
    shown(terminal.console(), *held)


@app.command()
def gc(
    recipes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RECIPE]...", help="Recipes whose unneeded models to remove."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only show.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also the arms of the recipes.")] = False,
    pools: Annotated[bool, typer.Option("--pools", help="Also completions that no artifact refers to.")] = False,
    hours: Annotated[float, typer.Option(min=0, help="Keep unreferenced artifacts younger than N hours.")] = 24.0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a value of the recipes.")] = None,
    store: StoreDir = STORE,
) -> None:
    """Show, or with --yes remove, what nothing needs: results are kept, removed files are rebuilt on demand."""
    from micota.errors import MicotaError
    from micota.housekeeping import removal
    from micota.recipe import recipe as loading

    place = _there(store)
    if not (place.root / "claims" / ".lock").exists():
        why = "it has no claims/.lock, which each run makes, so what is in it may be anything"
        raise MicotaError(f"{store} is no store of micota", why=why, fix="--store DIR, or MICOTA_STORE")
    loaded = [loading.load(name, set_ or ()) for name in recipes or ()]
    found = removal.removable(place, loaded, hours=hours, everything=everything, unused_pools=pools)
    _remove(place, found, yes)


@app.command()
def forget(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Ids or names of artifacts: lab/ta-long.")],
    answers: Annotated[bool, typer.Option("--answers", help="Also the completions that they refer to.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only show.")] = False,
    store: StoreDir = STORE,
) -> None:
    """Show, or with --yes remove, finished artifacts, so that a run that needs them makes them again."""
    from micota.housekeeping.forgetting import forgettable

    place = _there(store)
    _remove(place, forgettable(place, [place.find(name) for name in names], answers), yes)


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Ids or names of artifacts.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that the store holds; so without names.")] = False,
    store: StoreDir = STORE,
) -> None:
    """Compare every file with the hash that was taken when it was written, and say what damage has touched."""
    from micota.cli import console as terminal
    from micota.cli.tables import listing
    from micota.errors import MicotaError
    from micota.export.lineage import ancestors
    from micota.housekeeping.integrity import damage, relative

    place, console = _there(store), terminal.console()
    chosen = None if everything or not names else [place.find(name) for name in names]
    below = None if chosen is None else {one.id: one for each in chosen for one in ancestors(place, each)}
    found = list(damage(place, None if below is None else [*below.values()]))
    if not found:
        count = len(place.all() if below is None else below)
        console.print(f"{count} artifacts are as they were written", highlight=False)
        return
    rows = [(relative(one.path, place), one.what, ", ".join(one.touched)) for one in found]
    listing(console, ("file", "what", "touches"), rows)
    fixes = dict.fromkeys(f"{one.fix}{f' --store {store}' * one.fix.startswith('micota')}" for one in found)
    fix = "\n".join([*fixes, "then micota run RECIPE, which makes again what is still needed"])
    raise MicotaError(f"{len(found)} files of {place.root} are not as they were written", fix=fix)


STORE_AT = typer.Argument(metavar="STORE", help="The folder of the store.")
ADDRESS = typer.Argument(help="s3://BUCKET/PATH, hf://datasets/OWNER/NAME, hf://buckets/OWNER/NAME, gs://, a folder.")
RECIPES = typer.Option("--recipe", metavar="RECIPE", help="Also the commits of its RECIPE.lock.")


@app.command()
def push(
    store: Annotated[Path, STORE_AT],
    address: Annotated[str, ADDRESS],
    recipes: Annotated[list[str] | None, RECIPES] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read what is there, and compare it with its hashes.")
    ] = False,
) -> None:
    """Send a store's finished artifacts and completions to a bucket, the Hub or a folder: what is not there yet."""
    from micota.errors import MicotaError
    from micota.housekeeping import pushing

    moved = _transfer("pushing", store, address, recipes, partial(pushing.push, verify=verify))
    if moved.wrong:
        fix = "micota verify, and what it says; everything else is there"
        raise MicotaError(f"what is damaged here was not sent: {', '.join(moved.wrong)}", fix=fix)


@app.command()
def pull(
    address: Annotated[str, ADDRESS],
    store: Annotated[Path, STORE_AT],
    recipes: Annotated[list[str] | None, RECIPES] = None,
    new: Annotated[bool, typer.Option("--new", help="It is no mistake if nothing was pushed yet.")] = False,
) -> None:
    """Bring what another machine has pushed into a store, each file compared with its hash: what is not here yet."""
    from micota.housekeeping import pulling
    from micota.store.checked import say

    store.mkdir(parents=True, exist_ok=True)
    for word in _transfer("pulling", store, address, recipes, partial(pulling.pull, new=new)).wrong:
        say(f"left out: {word}")


def _transfer(word: str, store: Path, address: str, recipes: list[str] | None, move: Callable[..., Moved]) -> Moved:
    from micota.cli import console as terminal
    from micota.recipe.recipe import load
    from micota.store.remote import connect

    locks = [lock for name in recipes or () if (lock := load(name).lock)]
    with terminal.bar(word) as report:
        moved = move(_there(store), connect(address), report, locks)
    size = f"{moved.size / 1e6:,.1f} MB"
    terminal.console().print(f"{word}: {moved.files} files, {size}; {moved.there} were there", highlight=False)
    return moved


@app.command()
def status(store: StoreDir = STORE) -> None:
    """Show submitted jobs, which stages of a store run now, how far they are, and what was left unfinished."""
    from micota.cli import console as terminal
    from micota.cli.job_commands import show_jobs
    from micota.cli.tables import activities as shown
    from micota.housekeeping.activity import activities

    place, console = _there(store), terminal.console()
    show_jobs(console, place.root)
    shown(console, *activities(place))


def _remove(store: Store, found: list[Removal], yes: bool) -> None:
    """Show what can be removed, and with `yes` remove it."""
    from micota.cli import console as terminal
    from micota.cli.tables import removals
    from micota.housekeeping.removal import remove

    console = terminal.console()
    removals(console, found)
    if found and not yes:
        console.print("nothing was removed: add --yes")
    elif found:
        count = sum(remove(store, one) for one in found)
        console.print(f"{count} removed, {len(found) - count} kept because they are in use", highlight=False)


def _there(path: Path) -> Store:
    """An existing store: a misspelled name would look like an empty one."""
    from micota.errors import MicotaError
    from micota.store.artifacts import Store

    if not path.is_dir():
        raise MicotaError(f"there is no store {path}", fix="--store DIR, or MICOTA_STORE")
    return Store(path)
