"""The report as files: Markdown for people, CSV for programs."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from micota.recipe import Recipe
from micota.report.table import Row, Score, Step, folder, measures, rows, seconds, steps
from micota.store import Store

REST = ("n", "mean_tokens", "truncated", "no_answer")
BPC_HEAD = ("Data", "Model", "Bits", "Nats", "Bits per byte", "Bits, mean of rows")
Measure = tuple[str, str, dict[str, Any]]
SCORERS = {"exact_match": "Exact match", "semantic": "Semantic"}


def write(recipe: Recipe, store: Store) -> Path:
    """Write report.md and report.csv below the store; returns the path of the Markdown."""
    table = rows(recipe, store)
    out = folder(recipe, store)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "report.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("model", "role", "data", "scorer", "accuracy", "error", *REST))
        for row in table:
            about = [row.model, row.role, row.data]
            rest = [getattr(row, name) for name in REST]
            writer.writerows([*about, score.by, score.accuracy, score.error, *rest] for score in row.scores)
    path = out / "report.md"
    text = _markdown(recipe, table, steps(recipe, store), measures(recipe, store), seconds(recipe, store))
    path.write_text(text, encoding="utf-8")
    return path


def printed(table: list[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The head and the cells as they are printed: percent for shares, a dash for what is missing."""
    scorers = list(dict.fromkeys(score.by for row in table for score in row.scores))
    shares = [column for by in scorers for column in (SCORERS.get(by, by), "± s.e.")]
    head = ("Model", "Problems", *shares, "n", "Mean tokens", "Truncated", "No answer")
    return head, [_cells(row, scorers) for row in table]


def _cells(row: Row, scorers: list[str]) -> tuple[str, ...]:
    of = {score.by: score for score in row.scores}
    shares = [value for by in scorers for value in (of.get(by, Score(by)).accuracy, of.get(by, Score(by)).error)]
    percents = [f"{100 * value:.1f}" for value in (*shares, row.truncated, row.no_answer)]
    cells = [*percents[:-2], str(row.n or "–"), f"{row.mean_tokens:.1f}", *percents[-2:]]
    return (row.model, row.data, *("–" if cell == "nan" else cell for cell in cells))


def _markdown(recipe: Recipe, table: list[Row], made: list[Step], found: list[Measure], spent: dict[str, float]) -> str:
    missing = sum(not row.done for row in table)
    lines = [f"# {recipe.name}", ""]
    if missing:
        lines += [f"{missing} of {len(table)} evaluations are not there yet (–): `micota run` makes them.", ""]
    lines += ["Accuracy, truncated and no answer in percent; s.e. is the standard error over the n problems.", ""]
    lines += _table(*printed(table))
    if made:
        lines += ["", "## Where data and models came from", ""]
        lines += _table(("Name", "Kind", "What was made"), [(s.name, s.kind, s.line) for s in made])
    if found:
        lines += ["", "## Bits per character of the data under a model, given the prompts", ""]
        lines += _table(BPC_HEAD, [(data, model, *_bpc(facts)) for data, model, facts in found])
    if spent:
        lines += ["", "## Time", ""]
        lines += _table(("Stage", "Seconds"), [(kind, f"{value:.1f}") for kind, value in sorted(spent.items())])
    return "\n".join(lines) + "\n"


def _bpc(facts: dict[str, Any]) -> tuple[str, ...]:
    names = ("bits_per_character", "nats_per_character", "bits_per_byte", "bits_per_character_mean_of_rows")
    return tuple(f"{facts[name]:.3f}" for name in names)


def _table(head: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    rule = "|" + "|".join(["---"] * 2 + ["---:"] * (len(head) - 2)) + "|"
    return [_line(head), rule, *map(_line, body)]


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
