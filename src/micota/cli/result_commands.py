"""The commands on results: compare models, rank data before trainings, and read responses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from micota.cli.options import STORE, MachineName, RecipeName, Sets, StoreDir

app = typer.Typer()
Scorer = Annotated[str | None, typer.Option(help="The scorer; by default `semantic` where it is there.")]
Benchmark = Annotated[str | None, typer.Option(help="One problem set only, by the recipe's word.")]


@app.command()
def compare(
    names: Annotated[
        list[str],
        typer.Argument(metavar="A B...", help="Models (RECIPE/MODEL), recipes, or files of graded rows."),
    ],
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a value of all recipes but A's.")] = None,
    scorer: Scorer = None,
    benchmark: Benchmark = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the tables.")] = None,
    store: StoreDir = STORE,
) -> None:
    """Compare models, each with A, paired by problem: differences, intervals, exact tests, what changed sides."""
    from micota.cli import comparison_table
    from micota.cli.console import console
    from micota.errors import MicotaError
    from micota.store.artifacts import Store

    if len(names) < 2 and not set_:
        raise MicotaError("a comparison needs two", fix="micota compare lab-mini/micota lab-mini/strong")
    found = comparison_table.compare(names, set_ or (), Store(store), scorer, benchmark)
    comparison_table.write(found, json_file, csv_file)
    comparison_table.show(console(), found)


@app.command()
def rank(
    recipe: RecipeName,
    probe: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Problems that trials answer; by default those of a length dial."),
    ] = None,
    trials: Annotated[bool, typer.Option(help="Train each student for a tenth of the steps too.")] = True,
    held_out: Annotated[int, typer.Option(min=1, help="Examples on which a trial's loss is measured.")] = 50,
    by: Annotated[str, typer.Option(metavar="MEASURE", help="The measure that sorts the table.")] = "rsr",
    plan: Annotated[bool, typer.Option("--plan", help="Show what would be made; make nothing.")] = False,
    csv_file: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table.")] = None,
    machine: MachineName = "laptop",
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Rank the data sets of a recipe's trained arms by what is known before they are trained."""
    from micota.cli import tables
    from micota.cli.console import workspace
    from micota.cli.ranking_table import judge, show
    from micota.recipe import recipe as recipes
    from micota.recipe.labels import labels

    ws, made = workspace(store, machine), recipes.load(recipe, set_ or ())
    found = ws.rank(made, probe=probe, trials=trials, held_out=held_out, make=not plan)
    if plan:
        tables.plan_table(ws.console, list(ws.plan(found.recipe).states), labels(found.recipe) | labels(made))
        return
    show(ws.console, found, by)
    judge(ws.console, found.judged(ws.results(made)))
    if csv_file:
        found.frame.to_csv(csv_file, index=False)


@app.command()
def responses(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE[/MODEL]", help="A recipe, or one model of it.")],
    arm: Annotated[str | None, typer.Option(help="One model, by the recipe's word or with its variables.")] = None,
    benchmark: Benchmark = None,
    scorer: Annotated[str | None, typer.Option(help="One scorer; without it there is a row for each.")] = None,
    verdict: Annotated[str | None, typer.Option(help="correct, wrong, no_answer or unverifiable.")] = None,
    right: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Problems that this model gets right, more often than not...")
    ] = None,
    wrong: Annotated[str | None, typer.Option(metavar="MODEL", help="... and this one wrong, in the same way.")] = None,
    where: Annotated[
        str | None, typer.Option(help="A condition on columns of Results.frame: 'tokens > 300 and not truncated'.")
    ] = None,
    limit: Annotated[int, typer.Option("--n", min=0, help="How many to print; 0 for all.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Write all of them to a .jsonl or .parquet file.")] = None,
    set_: Sets = None,
    store: StoreDir = STORE,
) -> None:
    """Print responses with their problems, reference answers and verdicts, or write them to a file."""
    from micota.cli.console import console
    from micota.cli.response_rows import show, write
    from micota.recipe import recipe as recipes
    from micota.recipe.shipped import known
    from micota.report.results import Results
    from micota.store.artifacts import Store

    base, _, model = recipe.rpartition("/")
    if base and known(recipe) is None and known(base):  # RECIPE/MODEL, as in the other commands
        recipe, arm = base, arm or model
    results = Results(recipes.load(recipe, set_ or ()), Store(store))
    conditions = {"arm": arm, "benchmark": benchmark, "scorer": scorer, "verdict": verdict}
    found = results.selected(right=right, wrong=wrong, where=where, **conditions)
    if out is not None:
        write(results.with_texts(found), out)
        console().print(f"{len(found):,} rows: {out}", soft_wrap=True, highlight=False)
    else:
        show(console(), results.with_texts(found.head(limit) if limit else found), len(found))
