"""The commands of `micota`. Heavy imports wait until a command needs them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from micota.execution import Outcome
    from micota.machine import Machine
    from micota.recipe import Recipe
    from micota.specs import Spec
    from micota.store import Store

app = typer.Typer(
    help="Distil long chain-of-thought reasoning into small language models, at the length they can learn.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
lab = typer.Typer(help="The lab: real models, small enough for a laptop.", no_args_is_help=True)
app.add_typer(lab, name="lab")

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A shipped recipe by its name, or a YAML file.")]
StoreDir = Annotated[Path, typer.Option("--store", envvar="MICOTA_STORE", help="Where artifacts are kept.")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="Override a value: --set let.ta-long.train.lr=2e-5")]
Only = Annotated[str | None, typer.Option(help="One name of the recipe, with what it needs.")]
MachineName = Annotated[str, typer.Option(help="A shipped machine profile by its name, or a YAML file.")]
DataDir = Annotated[Path | None, typer.Option(help="A folder with the benchmarks as NAME.jsonl; else the Hub.")]
STORE = Path("micota-store")


def main() -> None:
    """Run a command; a user's mistake ends with its message and exit code 2."""
    from micota.errors import MicotaError, StageFailed, Stopped

    try:
        app()
    except MicotaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except StageFailed as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Stopped as error:
        print(error, file=sys.stderr)
        sys.exit(143)


@app.command()
def run(
    recipe: RecipeName,
    machine: MachineName = "laptop",
    only: Only = None,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Make what a recipe needs and is not there yet, then show its table."""
    from micota import machine as machines
    from micota import recipe as recipes
    from micota.check import check
    from micota.store import Store

    profile = machines.load(machine)
    made = recipes.load(recipe, set_ or ())
    made = recipes.resolved(made, recipe, set_ or (), _targets(made, only))
    targets = _targets(made, only)
    place = Store(store)
    check(targets, place)
    made.lock.save()
    console = _console()
    outcome = _execute(console, place, profile, made, targets)
    console.print(f"{len(outcome.executed)} stages executed, {len(outcome.linked)} linked, the rest was there.")
    _show_report(console, made, place)


def _targets(made: Recipe, only: str | None) -> list[Spec]:
    return [made.named(only)] if only else made.targets


def _execute(console: Console, place: Store, profile: Machine, made: Recipe, targets: list[Spec]) -> Outcome:
    from micota.execution import Run
    from micota.progress import Bars
    from micota.show import labels

    with Bars(console, labels(made)) as bars:
        running = Run(place, profile, bars)
        with _signals(running.stop):
            try:
                return running.go(targets)
            finally:
                for name, spec in made.names.items():
                    place.name(made.name, name, spec)


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
    from micota import generation
    from micota import machine as machines
    from micota import recipe as recipes
    from micota.specs import Generate
    from micota.store import Store

    drawn = {"temperature": temperature, "max_tokens": max_tokens}
    sampling = {key: value for key, value in drawn.items() if value is not None}
    part = {"split": split, "n": limit}
    path = str(generation.write_recipe(out, model, problems, {"n": n, "sampling": sampling}, part, set_ or ()))
    made = recipes.load(path)
    made = recipes.resolved(made, path, (), made.targets)
    made.lock.save()
    spec, place, console = made.named(generation.NAME), Store(store), _console()
    assert isinstance(spec, Generate)
    _execute(console, place, machines.load(machine), made, [spec])
    console.print(f"{generation.export(spec, place, out)} answers: {out}", soft_wrap=True, highlight=False)
    if push:
        done = place.manifest(spec)
        assert done is not None
        text = generation.card(spec, done.facts, model, problems)
        console.print(f"pushed: {generation.push(push, out, text)}", soft_wrap=True, highlight=False)


@app.command()
def plan(
    recipe: RecipeName,
    why: Annotated[str | None, typer.Option(help="Say why this name of the recipe is not done.")] = None,
    only: Only = None,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Show what a run would find done, partial or new; makes nothing."""
    from micota import plan as plans
    from micota import recipe as recipes
    from micota.show import labels, plan_table
    from micota.store import Store

    made = recipes.load(recipe, set_ or ())
    place = Store(store)
    if why:
        print("\n".join([why, *plans.why(place, made.named(why))]))
        return
    targets = _targets(made, only)
    plan_table(_console(), plans.survey(place, targets), labels(made))


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="An artifact's id, or a name of a recipe: lab-mini/ta-long.")],
    store: StoreDir = STORE,
) -> None:
    """Show what is known of an artifact: what it was made of, by what, and what came out."""
    from micota.show import artifact
    from micota.store import Store

    artifact(_console(), Store(store), name)


@app.command()
def report(recipe: RecipeName, set_: Sets = None, store: StoreDir = STORE) -> None:
    """Write the tables of a recipe from the artifacts that are there."""
    from micota import recipe as recipes
    from micota.store import Store

    _show_report(_console(), recipes.load(recipe, set_ or ()), Store(store))


@app.command()
def check(
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="A shipped recipe, or a YAML file.")] = None,
    benchmarks: Annotated[
        bool, typer.Option("--benchmarks", help="Let each benchmark's golds grade themselves.")
    ] = False,
    data_dir: DataDir = None,
    set_: Sets = None,
) -> None:
    """Look for mistakes in a recipe before anything is made, or for golds that do not grade themselves."""
    from micota import check as checks
    from micota import recipe as recipes
    from micota.errors import MicotaError

    if benchmarks:
        from micota.show import failing_golds

        failing_golds(_console(), data_dir)
    if recipe is None:
        if not benchmarks:
            raise MicotaError("there is nothing to check", fix="micota check RECIPE, or micota check --benchmarks")
        return
    made = recipes.load(recipe, set_ or ())
    for line in checks.check(made.targets):
        print(f"  {line}")
    print(f"{made.name}: {len(made.names)} names, {len(made.evaluations)} evaluations, no mistake found")


@app.command()
def grade(
    rows: Annotated[Path, typer.Argument(metavar="ROWS.jsonl", help="Responses to grade, or samples of lm-eval.")],
    out: Annotated[Path, typer.Option(help="Where the graded rows go.")],
    data_dir: DataDir = None,
    workers: Annotated[int, typer.Option(help="Processes that compare answers.")] = 1,
) -> None:
    """Grade responses under the paper's scorer and under the one that reads meaning."""
    from rich.progress import Progress

    from micota import grade as grading
    from micota.show import grades

    console = _console()
    with Progress(console=console, disable=not console.is_terminal) as bars:
        row = bars.add_task("grading", total=None)
        done = grading.grade_file(
            rows, out, data_dir, workers, lambda at, total: bars.update(row, completed=at, total=total)
        )
    grades(console, grading.totals(done), grading.differences(done))
    console.print(f"graded rows: {out}", soft_wrap=True, highlight=False)


@app.command()
def stage(work: Annotated[Path, typer.Argument(help="A work folder with its task.json.")]) -> None:
    """Run one stage of a plan; this is what a machine profile's prefix starts."""
    from micota.child import run_alone
    from micota.errors import MicotaError

    if not (work / "task.json").is_file():
        raise MicotaError(f"{work} holds no task.json", fix="a plan makes it: micota run RECIPE")
    sys.exit(run_alone(work))


@lab.command()
def pretrain(
    out: Annotated[Path, typer.Option(help="Where the model folders go.")] = Path("lab-models"),
    only: Annotated[str | None, typer.Option(help="One design: teacher, ta, student, ...")] = None,
    seed: int = 0,
) -> None:
    """Make the lab's models from nothing: seeded, and the same command goes on after an interruption."""
    from micota.lab.command import pretrain_all

    pretrain_all(_console(), out, only, seed)


def _console() -> Console:
    """The terminal; into a file or a pipe, lines wide enough for a table."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


@contextmanager
def _signals(stop: Callable[[bool], None]) -> Iterator[None]:
    """The first SIGTERM or Ctrl-C asks the stages to stop, the second kills them."""
    asked: list[int] = []

    def handle(number: int, frame: object) -> None:
        stop(bool(asked))
        asked.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_report(console: Console, made: Recipe, place: Store) -> None:
    from micota.report.files import folder, page, publish
    from micota.show import results

    report = page(made, place)
    results(console, report)
    path = publish(report, folder(made, place))
    console.print(f"report: {path}", soft_wrap=True, highlight=False)
