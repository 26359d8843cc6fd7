"""The commands that run one stage alone, on a user's own files, without a recipe or apart from the rest of one."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from micota.specs import Spec
    from micota.store.artifacts import Store

app = typer.Typer()
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe by its name, or a YAML file.")]
MachineName = Annotated[str, typer.Option(help="A shipped machine profile by its name, or a YAML file.")]
StoreDir = Annotated[Path, typer.Option("--store", envvar="MICOTA_STORE", help="Where artifacts are kept.")]
STORE = Path("micota-store")
Model = Annotated[str, typer.Argument(help="A Hub id, a folder, or lab:NAME.")]
Data = Annotated[str, typer.Argument(help="Rows of chats, prompts and responses, or instructions: a file or a Hub id.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="--set lr=2e-5, --set data.rows.prompt=question")]
System = Annotated[str | None, typer.Option(help="The system message of all rows.")]


@app.command()
def merge(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yml", help="A merge as mergekit's YAML describes it.")],
    out: Annotated[Path, typer.Argument(help="The model folder to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the masks.")] = 0,
    threads: Annotated[int | None, typer.Option(help="All cores unless said; it changes no bit.")] = None,
    shard_gb: Annotated[float, typer.Option(help="Largest file, in GB.")] = 1.0,
) -> None:
    """Merge models, repeatably to the bit; the same command goes on after an interruption."""
    from rich.console import Console

    from micota.cli import session as terminal
    from micota.cli.merge_config import merge_config, merged

    console, size = Console(), max(1, int(shard_gb * 1e9))
    with _uncollected(), terminal.bar("merging") as report:
        facts = merge_config(config, out, seed=seed, threads=threads or _cores(), shard_bytes=size, progress=report)
    merged(console, facts)
    console.print(f"merged model: {out}", soft_wrap=True, highlight=False)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Nothing is looked through for garbage inside: importing torch makes a million objects, and they all stay."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@app.command()
def dial(
    recipe: RecipeName,
    name: Annotated[str | None, typer.Argument(help="One dial of it; else all of them.")] = None,
    machine: MachineName = "laptop",
    set_: Annotated[list[str] | None, typer.Option("--set", help="--set let.ta-mid.dial.max_loss=0.05")] = None,
    store: StoreDir = STORE,
) -> None:
    """Turn the dials of a recipe, with what they need and no more; show what was tried and what was chosen."""
    from micota.cli import session as terminal
    from micota.cli.tables import dials
    from micota.errors import MicotaError, suggestion
    from micota.recipe.reader import Recipe
    from micota.specs import LengthDial

    def wanted(made: Recipe) -> list[Spec]:
        found = {label: spec for label, spec in made.names.items() if isinstance(spec, LengthDial)}
        if not found or (name and name not in found):
            what = f"the recipe '{made.name}' has no dial" + (f" '{name}'" if name else "")
            raise MicotaError(what, fix=suggestion(name or "", found))
        return [found[name]] if name else list(found.values())

    terminal.carry_out(recipe, machine, set_ or (), store, wanted, dials)


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="A Hub id, a folder, lab:NAME, or endpoint:NAME.")],
    problems: Annotated[str, typer.Argument(help="A Hub id, a file (JSONL, CSV, Parquet), or a benchmark's name.")],
    out: Annotated[Path, typer.Option(help="Where the rows go: ROWS.jsonl.")],
    machine: MachineName = "laptop",
    split: str | None = None,
    limit: Annotated[int | None, typer.Option(help="The first so many problems only.")] = None,
    n: Annotated[int | None, typer.Option(help="Samples of each problem.")] = None,
    temperature: Annotated[float | None, typer.Option(help="0, the default, is greedy.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="New tokens at most.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="--set prompt.system='Be brief.'")] = None,
    push: Annotated[str | None, typer.Option(metavar="REPO", help="A data set of the Hub to put them into.")] = None,
    store: StoreDir = STORE,
) -> None:
    """Let a model answer problems, and write the answers as rows."""
    from micota.cli import generate_rows as generation
    from micota.specs import Generate

    asked, part = {"n": n, "sampling": _said(temperature, max_tokens)}, {"split": split, "n": limit}
    path = generation.write_recipe(out, model, problems, asked, part, set_ or ())
    spec, place, console = _make(path, generation.NAME, machine, store)
    assert isinstance(spec, Generate)
    console.print(f"{generation.export(spec, place, out)} answers: {out}", soft_wrap=True, highlight=False)
    if push:
        done = place.manifest(spec)
        assert done is not None
        text = generation.card(spec, done.facts, model, problems)
        console.print(f"pushed: {generation.push(push, out, text)}", soft_wrap=True, highlight=False)


@app.command()
def train(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model folder to write.")],
    machine: MachineName = "laptop",
    split: str | None = None,
    system: System = None,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Fine-tune a model on rows that were made anywhere, and write it as a folder that serves."""
    from micota.cli import single_recipes as training

    said = {"source": data, "split": split, "system": system}
    sets = [*(set_ or ()), *([f"system={json.dumps(system)}"] if system is not None else [])]
    path = training.training(_beside(out), out.absolute().name, model, said, sets)
    _export(path, training.TRAINED, machine, store, out)


@app.command()
def distil(
    model: Model,
    problems: Annotated[str, typer.Argument(help="A Hub id, a file (JSONL, CSV, Parquet), or a benchmark's name.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of training data to write.")],
    machine: MachineName = "laptop",
    split: str | None = None,
    limit: Annotated[int | None, typer.Option(help="The first so many problems only.")] = None,
    n: Annotated[int, typer.Option(help="Samples of each problem.")] = 1,
    temperature: Annotated[float | None, typer.Option(help="0, the default, is greedy.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="New tokens at most.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="--set keep=all, --set by=exact_match")] = None,
    store: StoreDir = STORE,
) -> None:
    """Let a model answer problems, keep the answers that are right, and write them as training data."""
    from micota.cli import single_recipes as training

    asked, part = {"n": n, "sampling": _said(temperature, max_tokens)}, {"split": split, "n": limit}
    path = training.distillation(_beside(out), out.absolute().name, model, problems, asked, part, set_ or ())
    _export(path, training.DISTILLED, machine, store, out)


def _said(temperature: float | None, max_tokens: int | None) -> dict[str, float]:
    """What was said of the sampling."""
    drawn = {"temperature": temperature, "max_tokens": max_tokens}
    return {key: value for key, value in drawn.items() if value is not None}


def _beside(out: Path) -> Path:
    return out.absolute().with_name(f"{out.absolute().name}.yaml")


def _export(path: Path, name: str, machine: str, store: Path, out: Path) -> None:
    """Make one name of a recipe and export it, unless that is there already."""
    from micota.cli import session as terminal
    from micota.export import folder as exports

    spec, place, console = _make(path, name, machine, store, out)
    done = place.manifest(spec)
    assert done is not None
    if not exports.is_there(out, done):
        with terminal.bar("copying") as report:
            exports.export(place, done, f"{out.absolute().name}/{name}", out, str(out), report)
    console.print(f"{name}: {out}", soft_wrap=True, highlight=False)


@app.command()
def measure(
    model: Model,
    data: Data,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where a row for each response goes.")] = None,
    machine: MachineName = "laptop",
    split: str | None = None,
    system: System = None,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Measure how well a model foresees rows that were made anywhere: bits per character of the responses."""
    from micota.cli import single_recipes as training
    from micota.cli.tables import measured
    from micota.specs import sha

    name = out.stem if out else f"measure-{sha([model, data, split, system, set_])}"
    path = out.with_suffix(".yaml") if out else store / "alone" / f"{name}.yaml"
    said = {"source": data, "split": split, "system": system}
    training.measurement(path, name, model, said, set_ or ())
    spec, place, console = _make(path, training.MEASURED, machine, store)
    done = place.manifest(spec)
    assert done is not None
    measured(console, done.facts)
    if out:
        training.write_measures(place, done, out)
        console.print(f"rows: {out}", soft_wrap=True, highlight=False)


def _make(path: Path, name: str, machine: str, store: Path, out: Path | None = None) -> tuple[Spec, Store, Console]:
    """Make one name of a recipe with its files; `out` is a folder that must be free for it."""
    from micota import machine as machines
    from micota.checks.recipe_check import check
    from micota.cli import session as terminal
    from micota.cli import single_recipes as training
    from micota.recipe import reader as recipes
    from micota.store.artifacts import Store

    made = recipes.load(str(path))
    made = recipes.resolved(made, str(path), (), [made.named(name)])
    made.lock.save()
    spec, place, console = made.named(name), Store(store), terminal.console()
    if out:
        training.check_place(out, spec)
    check([spec], place)
    terminal.execute(console, place, machines.load(machine), made, [spec], files=True)
    return spec, place, console


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
