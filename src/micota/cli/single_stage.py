"""The commands that run one stage on a user's own files, without a recipe or apart from the rest of one."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from micota.cli import console as terminal
from micota.cli.options import (
    STORE,
    Answer,
    Data,
    Fields,
    Limit,
    MachineName,
    MaxTokens,
    Messages,
    Model,
    Problem,
    Problems,
    Prompt,
    RecipeName,
    Response,
    Samples,
    Sets,
    StoreDir,
    System,
    Temperature,
)

if TYPE_CHECKING:
    from micota.specs import Spec
    from micota.workspace import Artifact, Workspace

app = typer.Typer()


@app.command()
def merge(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yml", help="A merge as mergekit's YAML describes it.")],
    out: Annotated[Path, typer.Argument(help="The model folder to write.")],
    seed: Annotated[int, typer.Option(help="Seed of the masks.")] = 0,
    threads: Annotated[int | None, typer.Option(help="All cores by default; changes no bit.")] = None,
    shard_gb: Annotated[float, typer.Option(help="Largest file, in GB.")] = 1.0,
) -> None:
    """Merge models, repeatably to the bit; the same command goes on after an interruption."""
    from micota.cli.merge_config import merge_config, merged

    console, size = terminal.console(), max(1, int(shard_gb * 1e9))
    with _uncollected(), terminal.bar("merging") as report:
        facts = merge_config(config, out, seed=seed, threads=threads or _cores(), shard_bytes=size, progress=report)
    merged(console, facts)
    console.print(f"merged model: {out}", soft_wrap=True, highlight=False)


@app.command()
def pad(
    model: Annotated[str, typer.Argument(help="A model folder, or a Hub id: OWNER/NAME[@revision].")],
    out: Annotated[Path, typer.Argument(help="The model folder to write.")],
    rows: Annotated[int, typer.Option(help="Rows of the embedding, and of the head, that it gets.")],
) -> None:
    """Give a model more rows of embedding, as a merge with a model of a larger vocabulary needs them."""
    from micota.cli.merge_config import model_folder
    from micota.merging.padding import pad_folder

    names = pad_folder(model_folder(model, Path()), out, rows)
    said = f"padded model: {out}; {', '.join(names)}: {rows} rows, the new ones the mean of the others"
    terminal.console().print(said, soft_wrap=True, highlight=False)


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
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Search for the merge weight with the wanted length; show accuracy against length and what was chosen."""
    from micota.cli.tables import dials
    from micota.errors import MicotaError, suggestion
    from micota.recipe.recipe import Recipe
    from micota.specs import LengthDial

    def wanted(recipe: Recipe) -> list[Spec]:
        found: dict[str, Spec] = {label: spec for label, spec in recipe.names.items() if isinstance(spec, LengthDial)}
        if not found or (name and name not in found):
            what = f"the recipe '{recipe.name}' has no dial" + (f" '{name}'" if name else "")
            raise MicotaError(what, fix=suggestion(name or "", found))
        return [found[name]] if name else list(found.values())

    terminal.run_recipe(recipe, set_ or (), terminal.workspace(store, machine), wanted, dials)


@app.command()
def generate(
    model: Model,
    problems: Problems,
    out: Annotated[Path, typer.Option(help="Where the rows go: ROWS.jsonl.")],
    machine: MachineName = "laptop",
    split: str | None = None,
    problem: Problem = None,
    answer: Answer = None,
    limit: Limit = None,
    n: Samples = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    set_: Fields = None,
    push: Annotated[str | None, typer.Option(metavar="REPO", help="A data set of the Hub to put them into.")] = None,
    store: StoreDir = STORE,
) -> None:
    """Let a model answer problems, and write the answers as rows."""
    from micota.cli import generate_rows as writing
    from micota.cli import single_recipes as recipes

    recipes.check_file(out, [problems, model, machine], b'{"key": ')
    ws, path = terminal.workspace(store, machine), out.with_suffix(".yaml")
    part = recipes.problem_set(problems, limit, split=split, problem=problem, answer=answer)
    asked = {"model": recipes.word(model, store), "problems": part, "n": n, "prompt": {}}
    asked["sampling"] = recipes.sampling(temperature, max_tokens)
    name = recipes.single(path, out.stem, "generate", asked, set_ or ())
    answers = _make(ws, path, name)
    ws.console.print(f"{writing.write_rows(answers, out)} answers: {out}", soft_wrap=True, highlight=False)
    if push:
        address = writing.push(push, out, answers, model, problems)
        ws.console.print(f"pushed: {address}", soft_wrap=True, highlight=False)


@app.command()
def train(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model folder to write.")],
    machine: MachineName = "laptop",
    split: str | None = None,
    prompt: Prompt = None,
    response: Response = None,
    messages: Messages = None,
    system: System = None,
    set_: Fields = None,
    store: StoreDir = STORE,
) -> None:
    """Fine-tune a model on your own rows, and write it as a folder that serves."""
    from micota.cli import single_recipes as recipes

    columns = {"prompt": prompt, "response": response, "messages": messages}
    fields = {"base": recipes.word(model, store), "data": recipes.rows(data, split=split, system=system, **columns)}
    sets = [*(set_ or ()), *([f"system={json.dumps(system)}"] if system is not None else [])]
    _export(terminal.workspace(store, machine), "train", fields, sets, out)


@app.command()
def distill(
    model: Model,
    problems: Problems,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of training data to write.")],
    machine: MachineName = "laptop",
    split: str | None = None,
    problem: Problem = None,
    answer: Answer = None,
    limit: Limit = None,
    n: Samples = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    set_: Fields = None,
    store: StoreDir = STORE,
) -> None:
    """Let a model answer problems, keep the correct answers, and write them as training data."""
    from micota.cli import single_recipes as recipes

    part = recipes.problem_set(problems, limit, split=split, problem=problem, answer=answer)
    fields = {"from": recipes.word(model, store), "data": part, "n": n}
    fields |= {"prompt": {}, "sampling": recipes.sampling(temperature, max_tokens)}
    _export(terminal.workspace(store, machine), "distill", fields, set_ or [], out)


app.command("distil", hidden=True)(distill)


@app.command()
def measure(
    model: Model,
    data: Data,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where a row for each response goes.")] = None,
    machine: MachineName = "laptop",
    split: str | None = None,
    prompt: Prompt = None,
    response: Response = None,
    messages: Messages = None,
    system: System = None,
    set_: Fields = None,
    store: StoreDir = STORE,
) -> None:
    """Measure bits per character of the responses of any data set under a model."""
    from micota.cli import single_recipes as recipes
    from micota.cli.tables import measured
    from micota.specs import sha

    if out:
        recipes.check_file(out, [data, model, machine], b'"nats":')
    columns = {"prompt": prompt, "response": response, "messages": messages}
    rows = recipes.rows(data, split=split, system=system, **columns)
    name = out.stem if out else f"measure-{sha([model, rows, set_])}"
    path = out.with_suffix(".yaml") if out else store / "alone" / f"{name}.yaml"
    fields = {"model": recipes.word(model, store), "data": rows}
    label = recipes.single(path, name, "measure", fields, set_ or ())
    ws = terminal.workspace(store, machine)
    measures = _make(ws, path, label)
    measured(ws.console, measures.facts)
    if out:
        _write_measures(measures, out)
        ws.console.print(f"rows: {out}", soft_wrap=True, highlight=False)


def _write_measures(measures: Artifact, out: Path) -> None:
    """The rows of a measurement, written aside and renamed."""
    from micota.atomic import atomic

    with atomic(out) as temporary:
        shutil.copyfile(measures.path / "rows.jsonl", temporary)


def _export(ws: Workspace, kind: str, fields: Mapping[str, Any], sets: list[str], out: Path) -> None:
    """Make one form and export it into a folder that is free for it, unless that is there already."""
    from micota.atomic import write_text
    from micota.cli import single_recipes as recipes
    from micota.errors import MicotaError
    from micota.export import folder as exports

    title = out.absolute().name
    path = out.absolute().with_name(f"{title}.yaml")
    before = path.read_text(encoding="utf-8") if path.exists() else None
    name = recipes.single(path, title, kind, fields, sets)
    try:
        artifact = _make(ws, path, name, out)
    except MicotaError:
        if before is not None:  # the recipe of what lies there already
            write_text(path, before)
        raise
    if not exports.is_there(out, artifact.manifest):
        with terminal.bar("copying") as report:
            exports.export(ws.store, artifact.manifest, f"{title}/{name}", out, str(out), report)
    ws.console.print(f"{name}: {out}", soft_wrap=True, highlight=False)


def _make(ws: Workspace, path: Path, name: str, out: Path | None = None) -> Artifact:
    """Make one name of a recipe with its files; `out` is a folder that must be free for it."""
    from micota.cli.single_recipes import check_place
    from micota.recipe import recipe as reader
    from micota.recipe.recipe import Recipe

    def wanted(recipe: Recipe) -> list[Spec]:
        if out:
            check_place(out, recipe.named(name))
        return [recipe.named(name)]

    recipe, _ = ws.run(reader.load(str(path)), wanted, files=True)
    return ws.artifact(recipe.named(name))


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
