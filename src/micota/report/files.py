"""The report as files: one HTML page for people, Markdown, the tables as CSV and LaTeX, the figures as PNG.

STORE/reports/RECIPE/   report.html, report.md, tables/KEY.csv, tables/KEY.tex, figures/KEY.png, view/
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import micota
from micota.atomic import atomic
from micota.recipe.labels import everything
from micota.recipe.recipe import Recipe
from micota.recipe.variants import piece
from micota.report import render
from micota.report.drawing import picture
from micota.report.fakes import marked
from micota.report.graded_answers import GradedAnswers
from micota.report.page import Figure, Page, Section, Table
from micota.report.page_sections import missing, sections
from micota.report.texts import text
from micota.specs import Source
from micota.store.artifacts import Store

VIEW = "view"
"""The folder beside a report in which the pages of the view are."""


def write(recipe: Recipe, store: Store) -> Path:
    """Write the report of what is there below the store; returns the path of its HTML page."""
    return publish(page(recipe, store), folder(recipe, store))


def folder(recipe: Recipe, store: Store) -> Path:
    """Where the report of a recipe lies: inside the store, whatever the recipe is called."""
    return store.root / "reports" / piece(recipe.name)


def page(recipe: Recipe, store: Store) -> Page:
    """The whole report of what a store has of a recipe."""
    return page_of(GradedAnswers(recipe, store))


def page_of(results: GradedAnswers) -> Page:
    """The whole report as a page."""
    shown = tuple(_filed(section) for section in sections(results))
    return marked(Page(results.recipe.name, tuple(_notes(results)), shown), results)


def _filed(section: Section) -> Section:
    """The section with keys that can be file names: a key can hold the recipe's word for a problem set."""
    return replace(section, items=tuple(replace(item, key=piece(item.key)) for item in section.items))


def _notes(results: GradedAnswers) -> Iterable[str]:
    if evaluations := missing(results):
        yield text("page", "command", evaluations=evaluations)
    specs = [spec for spec in everything(results.recipe) if not isinstance(spec, Source)]
    done = Counter(spec.kind for spec in specs if results.store.manifest(spec))
    kinds = ", ".join(f"{n} {kind}" for kind, n in done.items())
    yield text("page", "stages", done=done.total(), n=len(specs), kinds=f": {kinds}" if kinds else "")
    yield text("page", "version", version=micota.__version__)


def publish(page: Page, out: Path) -> Path:
    """Write a page's files, each aside and then renamed; the HTML comes last, and files of no use any more go.

    So does the folder `view`, if the page does not lead there.
    """
    items = [item for section in page.sections for item in section.items]
    pictures = {item.key: picture(item) for item in items if isinstance(item, Figure)}
    files: dict[Path, bytes] = {out / "figures" / f"{key}.png": drawn.png for key, drawn in pictures.items()}
    for item in items:
        if isinstance(item, Table):
            files[out / "tables" / f"{item.key}.csv"] = render.table_csv(item).encode()
            files[out / "tables" / f"{item.key}.tex"] = render.latex(item).encode()
    files[out / "report.md"] = render.markdown(page).encode()
    files[out / "report.html"] = render.html(page, pictures).encode()
    for path, data in files.items():
        with atomic(path) as temporary:
            temporary.write_bytes(data)
    for path in [*(out / "tables").glob("*.*"), *(out / "figures").glob("*.png")]:
        if path not in files and path.suffix in (".csv", ".tex", ".png"):
            path.unlink(missing_ok=True)
    if not page.pages:
        shutil.rmtree(out / VIEW, ignore_errors=True)
    return out / "report.html"
