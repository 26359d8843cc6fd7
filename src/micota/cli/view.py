"""The command `micota view`: a local web page of a store, or the same pages as files."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from micota.cli.options import STORE, Sets, StoreDir

app = typer.Typer()


@app.command()
def view(
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="A shipped recipe, or a YAML file.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port on 127.0.0.1; 0 is any free one.")] = 0,
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the pages as files into this folder instead.")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Verdicts in an export, at most, but one problem; a draw beyond.")
    ] = 3000,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Show every response, table and artifact in a browser on this machine; reads only."""
    from micota.cli import console as terminal
    from micota.errors import MicotaError
    from micota.recipe import recipe as recipes
    from micota.store.artifacts import Store

    if absent := [name for name in ("starlette", "uvicorn", "duckdb") if find_spec(name) is None]:
        raise MicotaError(f"micota view needs {', '.join(absent)}", fix='pip install "micota[view]"')
    from micota.viewer.pages import View
    from micota.viewer.server import serve

    place, console = Store(store), terminal.console()
    if not place.root.is_dir():
        raise MicotaError(f"there is no store at {store}", fix="--store DIR, or MICOTA_STORE")
    shown = View(place, recipes.load(recipe, set_ or ()) if recipe else None)
    if export is None:
        serve(shown, port, lambda url: console.print(f"{url}\nCtrl-C ends it.", highlight=False, soft_wrap=True))
        return
    from micota.viewer.static_site import export as write

    there, whole = write(shown, export, limit)
    sample = "" if there == whole else f", a draw of the problems with {there:,} of {whole:,} verdicts"
    console.print(f"{export / 'index.html'}{sample}", highlight=False, soft_wrap=True)
