"""The report as files: one HTML page for people, Markdown, the tables as CSV and LaTeX, the figures as PNG.

STORE/reports/RECIPE/   report.html, report.md, tables/KEY.csv, tables/KEY.tex, figures/KEY.png, drawn/ (what is kept)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import micota
from micota.recipe.labels import everything
from micota.recipe.recipe import Recipe
from micota.report import case, drawn, figures, html, render
from micota.report import merge_figures as dialled
from micota.report import table_list as tables
from micota.report import training_figures as searches
from micota.report.graded_answers import GradedAnswers
from micota.report.page import Case, Figure, Page, Section, Table
from micota.specs import Source
from micota.store.artifacts import Store
from micota.store.records import text_key

CASE = "One problem, two students"
ORDER = (
    tables.HOLDS,
    tables.MAIN,
    tables.TOKENS,
    tables.PIVOTAL,
    tables.ABLATION,
    tables.DENSITY,
    CASE,
    tables.DIAL,
    tables.FUNNEL,
    tables.COST,
)
FOOTER = (
    "The tables lie beside this file as CSV and LaTeX in `tables/`, the figures as PNG in `figures/`, and all of it as "
    "Markdown in `report.md`."
)


def write(recipe: Recipe, store: Store) -> Path:
    """Write the report of what is there below the store; returns the path of its HTML page."""
    return publish(page(recipe, store), folder(recipe, store))


def folder(recipe: Recipe, store: Store) -> Path:
    """Where the report of a recipe lies: inside the store, whatever the recipe is called."""
    return store.root / "reports" / piece(recipe.name)


def piece(name: str) -> str:
    """A name as one piece of a path; a name that has to change keeps apart from its like by a hash."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", name[:60]).strip(".-")
    return plain if plain == name != "" else f"{plain or 'x'}-{text_key(name)[:8]}"


def page(recipe: Recipe, store: Store) -> Page:
    """The whole report, made anew: tables, each with the figures that belong to it."""
    results = GradedAnswers(recipe, store)
    found = {section.title: section for section in tables.sections(results)}
    beside: dict[str, list[Figure | Case | str]] = {
        tables.HOLDS: [*figures.learned(results, "steps")],
        tables.MAIN: [*figures.students(results)],
        tables.TOKENS: [*figures.learned(results, "tokens")],
        tables.DENSITY: [*searches.density(results)],
        CASE: [one] if (one := case.case(results)) else [],
        tables.DIAL: [*figures.assistant(results), *dialled.dial(results), *dialled.vectors(results)],
        tables.FUNNEL: [
            *searches.lengths(results),
            *searches.losses(results, "steps"),
            *searches.losses(results, "tokens"),
        ],
    }
    made = [_joined(found.get(title, Section(title, "", ())), beside.get(title, [])) for title in ORDER]
    shown = tuple(_filed(section) for section in made if section.items or section.text)
    return Page(recipe.name, tuple(_notes(results)), shown)


def _joined(section: Section, more: Iterable[Figure | Case | str]) -> Section:
    """A section with its pictures behind its first table, at the top of the page before it; lines join its text."""
    pictures = tuple(one for one in more if not isinstance(one, str))
    lines = [one for one in more if isinstance(one, str)]
    first = 0 if section.title == tables.HOLDS else 1
    items = (*section.items[:first], *pictures, *section.items[first:])
    return replace(section, text="\n\n".join(filter(None, [section.text, *lines])), items=items)


def _filed(section: Section) -> Section:
    """The section with keys that can be file names: a key can hold the recipe's word for a problem set."""
    return replace(section, items=tuple(replace(item, key=piece(item.key)) for item in section.items))


def _notes(results: GradedAnswers) -> Iterable[str]:
    if absent := tables.missing(results):
        yield f"{absent} {figures.MAKES}"
    specs = [spec for spec in everything(results.recipe) if not isinstance(spec, Source)]
    done = [spec for spec in specs if results.store.manifest(spec)]
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(spec.kind for spec in done).items())
    yield f"{len(done)} of {len(specs)} stages are done" + (f": {kinds}." if kinds else ".")
    yield f"Made by micota {micota.__version__} from what is in the store, anew at every call."


def publish(one: Page, out: Path) -> Path:
    """Write a page's files, each aside and then renamed; the HTML comes last, and files of no use any more go.

    Only figures that show something new are drawn.
    """
    items = [item for section in one.sections for item in section.items]
    pictures = drawn.pictures([item for item in items if isinstance(item, Figure)], out / "drawn")
    files: dict[Path, bytes] = {out / "figures" / f"{key}.png": one.png for key, one in pictures.items()}
    for item in items:
        if isinstance(item, Table):
            files[out / "tables" / f"{item.key}.csv"] = render.table_csv(item).encode()
            files[out / "tables" / f"{item.key}.tex"] = render.latex(item).encode()
    files[out / "report.md"] = render.markdown(one).encode()
    files[out / "report.html"] = html.whole(one, pictures, FOOTER).encode()
    for path, data in files.items():
        drawn.write(path, data)
    for path in [*(out / "tables").glob("*.*"), *(out / "figures").glob("*.png")]:
        if path not in files and path.suffix in (".csv", ".tex", ".png"):
            path.unlink(missing_ok=True)
    return out / "report.html"
