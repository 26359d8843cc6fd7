"""The commands on what comes with micota: the reference, shipped recipes and machine profiles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from micota.cli.console import console
from micota.errors import visible

app = typer.Typer()
docs = typer.Typer(help="Print the reference of recipes and machine profiles.", no_args_is_help=True)
app.add_typer(docs, name="docs")


@docs.command()
def recipe(
    kind: Annotated[str | None, typer.Argument(help="One section, form or group of keys: evaluate, train, ...")] = None,
) -> None:
    """Print every section and form of a recipe, with each key's type, default and meaning, and the benchmarks."""
    from micota.recipe.reference import recipe_reference

    _print(recipe_reference(kind))


@docs.command()
def machine() -> None:
    """Print the keys of a machine profile, for each kind of stage."""
    from micota.recipe.reference import machine_reference

    _print(machine_reference())


@docs.command()
def schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    from micota.recipe.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=1, ensure_ascii=False))


@app.command()
def recipes() -> None:
    """List the shipped recipes."""
    from micota.cli.tables import listing
    from micota.recipe.recipe import load, shipped
    from micota.specs import Model, walk

    rows = []
    for name, path in shipped().items():
        loaded = load(name)
        uses = ((spec, child) for spec in walk(*loaded.targets) for child in spec.children)
        models = {child.digest for spec, child in uses if isinstance(child, Model) and spec.source_type == "model"}
        models |= {spec.digest for spec in loaded.targets if isinstance(spec, Model)}
        rows.append((name, len(loaded.arms), len(loaded.evaluations), len(models), _about(path)))
    listing(console(), ("name", "arms", "evaluations", "models", "about"), rows)


@app.command()
def machines(
    name: Annotated[str | None, typer.Argument(help="Print the YAML of this profile, to begin one's own with.")] = None,
) -> None:
    """List the shipped machine profiles, or print one."""
    from micota.atomic import read_text
    from micota.cli.tables import listing
    from micota.machine import PROFILES, find

    if name is not None:
        print(visible(read_text(find(name))), end="")
        return
    profiles = sorted(PROFILES.glob("*.yaml"))
    listing(console(), ("name", "about"), [(path.stem, _about(path)) for path in profiles])


def _about(path: Path) -> str:
    """The first sentence of the comment that a file begins with."""
    lines = path.read_text(encoding="utf-8").splitlines()
    first = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.removeprefix("#").strip() for line in lines[:first]).partition(". ")[0].rstrip(".")


def _print(markdown: str) -> None:
    """Rendered on a terminal, as it is elsewhere."""
    from rich.markdown import Markdown

    here = console()
    if here.is_terminal:
        here.print(Markdown(markdown))
    else:
        print(markdown, end="")
