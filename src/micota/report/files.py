"""The report as files: Markdown for people, CSV for programs."""

from __future__ import annotations

import csv
from dataclasses import asdict, fields
from pathlib import Path

from micota.recipe import Recipe
from micota.report.table import Row, Step, folder, rows, seconds, steps
from micota.store import Store

HEAD = ("Model", "Problems", "Accuracy", "± s.e.", "n", "Mean tokens", "Truncated", "No answer")


def write(recipe: Recipe, store: Store) -> Path:
    """Write report.md and report.csv below the store; returns the path of the Markdown."""
    table = rows(recipe, store)
    out = folder(recipe, store)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "report.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in table)
    path = out / "report.md"
    path.write_text(_markdown(recipe, table, steps(recipe, store), seconds(recipe, store)), encoding="utf-8")
    return path


def cells(row: Row) -> tuple[str, ...]:
    """A row as it is printed: percent for shares, a dash where the evaluation is missing."""
    if not row.done:
        return (row.model, row.data, *["–"] * (len(HEAD) - 2))
    shares = f"{100 * row.accuracy:.1f}", f"{100 * row.error:.1f}"
    rest = f"{row.mean_tokens:.1f}", f"{100 * row.truncated:.1f}", f"{100 * row.no_answer:.1f}"
    return (row.model, row.data, *shares, str(row.n), *rest)


def _markdown(recipe: Recipe, table: list[Row], made: list[Step], spent: dict[str, float]) -> str:
    missing = sum(not row.done for row in table)
    lines = [f"# {recipe.name}", ""]
    if missing:
        lines += [f"{missing} of {len(table)} evaluations are not there yet (–): `micota run` makes them.", ""]
    lines += ["Accuracy, truncated and no answer in percent; s.e. is the standard error over the n problems.", ""]
    lines += _table(HEAD, [cells(row) for row in table])
    if made:
        lines += ["", "## Where data and models came from", ""]
        lines += _table(("Name", "Kind", "What was made"), [(s.name, s.kind, s.line) for s in made])
    if spent:
        lines += ["", "## Time", ""]
        lines += _table(("Stage", "Seconds"), [(kind, f"{value:.1f}") for kind, value in sorted(spent.items())])
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    rule = "|" + "|".join(["---"] * 2 + ["---:"] * (len(head) - 2)) + "|"
    return [_line(head), rule, *map(_line, body)]


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
