"""The commands of `micota`. Heavy imports wait until a command needs them."""

from __future__ import annotations

import gc
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

import micota
from micota.cli import console as terminal
from micota.cli import job_commands, package_commands, result_commands, single_stage, store_commands, view
from micota.cli.options import (
    STORE,
    Answer,
    DataDir,
    Fields,
    MachineName,
    Only,
    Problem,
    RecipeName,
    Response,
    Sets,
    StoreDir,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
lab = typer.Typer(help="The lab: real models, small enough for a laptop.", no_args_is_help=True)
app.add_typer(lab, name="lab")
app.add_typer(single_stage.app)
app.add_typer(result_commands.app)
app.add_typer(store_commands.app)
app.add_typer(job_commands.app)
app.add_typer(package_commands.app)
app.add_typer(view.app)


def main() -> None:
    """Run a command; a user's mistake ends with its message and exit code 2."""
    from micota.errors import MicotaError, StageFailed, Stopped, of_system

    sys.stdout, sys.stderr = terminal.Output(sys.stdout), terminal.Output(sys.stderr)
    warnings.showwarning = terminal.warnings_once()
    try:
        app()
    except MicotaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if not error.errno:
            raise
        print(f"error: {of_system(error, Path.cwd())}", file=sys.stderr)
        sys.exit(2)
    except StageFailed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Stopped as error:
        print(error, file=sys.stderr)
        sys.exit(143)
    finally:
        gc.freeze()  # else the interpreter looks through torch's million objects once more before it ends: 0.5 s


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"micota {micota.__version__}")
        raise typer.Exit


@app.callback()
def micota_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Distill long chain-of-thought reasoning into small language models, at the length they can learn."""


@app.command()
def run(
    recipe: RecipeName,
    machine: MachineName = "laptop",
    only: Only = None,
    redo: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Make this name, and what is made of it, anew."),
    ] = None,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Make what a recipe needs and is not there yet, then show its table."""
    from micota.cli.tables import results
    from micota.workspace.workspace import targets

    ws = terminal.workspace(store, machine)
    if redo:
        terminal.forget_for(recipe, set_ or (), ws, redo)
    terminal.run_recipe(recipe, set_ or (), ws, targets(only), results, bool(only))


@app.command()
def plan(
    recipe: RecipeName,
    why: Annotated[str | None, typer.Option(help="Say why this name of the recipe is not done.")] = None,
    cost: Annotated[bool, typer.Option("--cost", help="Show what each stage will cost, and whether it fits.")] = False,
    machine: MachineName = "laptop",
    only: Only = None,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Show what a run would find done, partial or new, or what it will cost; makes nothing."""
    from micota.checks.machines import check_machine
    from micota.cli.tables import plan_table
    from micota.errors import visible
    from micota.recipe import recipe as reader
    from micota.recipe.labels import labels

    ws, made = terminal.workspace(store, machine), reader.load(recipe, set_ or ())
    found = ws.plan(made, only)
    if why:
        print(visible("\n".join([why, *found.why(why)])))
    elif cost:
        from micota.cli import cost_table

        cost_table.show(ws.console, made, ws.store, ws.machine, found.targets)
    else:
        check_machine(ws.machine, [one.spec for one in found.states if one.word != "done"])
        plan_table(ws.console, list(found.states), labels(made))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="An artifact's id or name (lab-mini/ta-long); with --yaml, a recipe.")],
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the YAML of a recipe, to begin one's own with.")] = False,
    store: StoreDir = STORE,
) -> None:
    """Show what is known of an artifact: its inputs, settings and results; or a recipe's YAML."""
    from micota.atomic import read_text
    from micota.cli.tables import artifact
    from micota.errors import visible
    from micota.recipe.recipe import find
    from micota.store.artifacts import Store

    if yaml:
        print(visible(read_text(find(name))), end="")
        return
    artifact(terminal.console(), Store(store), name)


@app.command()
def report(recipe: RecipeName, set_: Sets = None, store: StoreDir = STORE) -> None:
    """Write the tables of a recipe from the artifacts that are there."""
    from micota.cli.tables import results
    from micota.recipe import recipe as recipes
    from micota.store.artifacts import Store

    terminal.write_report(terminal.console(), recipes.load(recipe, set_ or ()), Store(store), results)


@app.command()
def check(
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="A shipped recipe, or a YAML file.")] = None,
    benchmarks: Annotated[
        bool, typer.Option("--benchmarks", help="List the benchmarks' reference answers that the grader rejects.")
    ] = False,
    model: Annotated[list[Path] | None, typer.Option(help="A model folder to look at alone.")] = None,
    machine: MachineName = "laptop",
    data_dir: DataDir = None,
    set_: Sets = None,
) -> None:
    """Look for mistakes in a recipe or a model, or for reference answers that the grader rejects."""
    from micota import machine as machines
    from micota.checks import recipes as checks
    from micota.checks.machines import check_machine
    from micota.cli.tables import findings
    from micota.errors import MicotaError
    from micota.recipe import recipe as recipes
    from micota.specs import walk

    if benchmarks:
        from micota.cli.tables import failing_golds

        failing_golds(terminal.console(), data_dir)
    for folder in model or ():
        findings(terminal.console(), *checks.inspect_folder(str(folder)))
    if recipe is None:
        if not (benchmarks or model):
            raise MicotaError("there is nothing to check", fix="micota check RECIPE, --model FOLDER or --benchmarks")
        return
    made = recipes.load(recipe, set_ or ())
    check_machine(machines.load(machine), list(walk(*made.targets)))
    looked, found = checks.inspect(made.targets)
    findings(terminal.console(), looked, found)
    unread = dict.fromkeys(line.partition(checks.UNREAD)[0] for line in looked if checks.UNREAD in line)
    rest = f" in what is here; {len(unread)} not checked: {', '.join(unread)}" if unread else ""
    print(f"{made.name}: {len(made.names)} names, {len(made.evaluations)} evaluations, no mistake found{rest}")


@app.command()
def rehearse(
    recipe: RecipeName,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="Keep what was made there, with the logs.")] = None,
    set_: Sets = None,
) -> None:
    """Run a recipe from end to end on eight problems with tiny models: what would fail later, fails now."""
    from micota.cli.rehearse import show_rehearsal

    show_rehearsal(terminal.console(), recipe, set_ or (), keep)


@app.command()
def grade(
    rows: Annotated[Path, typer.Argument(metavar="ROWS.jsonl", help="Responses to grade, or samples of lm-eval.")],
    out: Annotated[Path, typer.Option(help="Where the graded rows go.")],
    data_dir: DataDir = None,
    workers: Annotated[int, typer.Option(help="Processes that compare answers.")] = 1,
    response: Response = None,
    answer: Answer = None,
    problem: Problem = None,
    by: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="One line of the table for each value of it.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option(metavar="MODEL", help="A model that judges too, or a recipe that has one in `by`.")
    ] = None,
    machine: MachineName = "laptop",
    set_: Fields = None,
    store: StoreDir = STORE,
) -> None:
    """Grade responses by the paper's exact match, by the semantic grader, and by a model that judges."""
    from rich.progress import Progress

    from micota.cli import grade as grading
    from micota.cli.judged_rows import judging
    from micota.cli.rows_to_grade import Columns
    from micota.cli.single_recipes import check_file
    from micota.cli.tables import grades

    check_file(out, [rows])
    console = terminal.console()
    verdicts = judging(terminal.workspace(store, machine), judge, set_ or ()) if judge else None
    with Progress(console=console, disable=not console.is_terminal) as bars:
        row = bars.add_task("grading", total=None)
        done = grading.grade_file(
            rows,
            out,
            data_dir,
            workers,
            lambda at, total: bars.update(row, completed=at, total=total),
            by,
            Columns(response or "response", answer or "gold", problem or "problem"),
            verdicts,
        )
    grades(console, grading.totals(done), grading.differences(done), by or "benchmark")
    console.print(f"graded rows: {out}", soft_wrap=True, highlight=False)


@app.command()
def stage(work: Annotated[Path, typer.Argument(help="A work folder with its task.json.")]) -> None:
    """Run one stage of a plan; this is what a machine profile's prefix starts."""
    from micota.errors import MicotaError
    from micota.run.child import run_alone

    if not (work / "task.json").is_file():
        raise MicotaError(f"{work} holds no task.json", fix="a plan makes it: micota run RECIPE")
    sys.exit(run_alone(work))


@lab.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="Where the model folders go.")] = Path("lab-models"),
    only: Annotated[str | None, typer.Option(help="One model: teacher, ta-base, ta or student.")] = None,
    machine: MachineName = "laptop",
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Pre-train the lab's models from nothing; other seeds by --set defaults.pretrain.seed=1."""
    from micota.cli import lab as models

    models.pretrain(terminal.workspace(store, machine), out, only, set_ or ())
