"""The pages of a recipe as files: they work from a disk, a web server or a static Space.

Tables, data and lineage are whole. Of the responses so many are taken as were asked for, always all of a problem: the
problems whose hashes are smallest, which is as good as a draw.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from micota import __version__
from micota.atomic import atomic, write_text
from micota.errors import MicotaError
from micota.recipe.labels import everything, labels
from micota.recipe.recipe import Recipe
from micota.report.files import VIEW
from micota.report.graded_answers import GradedAnswers
from micota.specs import Source
from micota.store.artifacts import Store
from micota.store.records import text_key
from micota.viewer.data_pages import png
from micota.viewer.pages import View
from micota.viewer.server import FILES, file, render

MADE_OF = "made-of.txt"
MANY = 20_000  # verdicts of a recipe whose pages stand beside its report
BYTES = 5_000_000  # of all these pages
SAMPLED = ("responses", "problem")
KEYS = {
    "tables": ("baseline",), "compare": ("a", "b", "scorer"), "dropped": ("data", "reason"), "artifact": ("id",),
    "problem": ("in", "key"),
}  # fmt: skip
"""What tells the files of a page apart; other parts of an address do not exist here."""
SHOWN = {"problem": "show"}


class Site:
    """The files to write, by page and address."""

    def __init__(self, baseline: str) -> None:
        self.baseline = baseline  # the one with which models are compared in detail
        self.problems: set[tuple[str, str]] = set()  # those with pages, as (benchmark, problem)
        self.todo: dict[str, tuple[str, dict[str, list[str]]]] = {}

    def link(self, page: str, query: Mapping[str, Any] | None = None) -> str | None:
        """The name of a page's file, which is to be written too; None of what only a server can show."""
        if page in (*FILES, "lengths.png"):
            return page
        if page in ("responses.jsonl", "live") or "sort" in (query or {}):
            return None
        if page == "compare" and _listed((query or {})["b"]) != [self.baseline]:
            return None
        if page == "problem" and tuple(_listed((query or {})[name])[0] for name in KEYS[page]) not in self.problems:
            return None
        words = {name: _listed((query or {})[name]) for name in KEYS.get(page, ()) if (query or {}).get(name)}
        name = page + (f"-{text_key(page, *(word for value in words.values() for word in value))}" if words else "")
        self.todo.setdefault(f"{name}.html", (page, words))
        return f"{name}.html"


def export(view: View, folder: Path, limit: int) -> tuple[int, int]:
    """Write the pages into a missing or empty folder; returns how many responses it has, and of how many."""
    if folder.is_dir() and any(folder.iterdir()):
        raise MicotaError(f"{folder} is not empty", fix="name a folder that is missing or empty")
    base = view.answers
    site = Site(base.files.results.recipe.baseline)
    base.refresh(search=False)
    site.problems = base.draw(limit)
    for page in view.pages:
        site.link(page)
    written = _write(view, site, folder, set())
    whole = base.rows("SELECT count(*) AS n FROM answers")[0]["n"]
    there = base.restrict(site.problems)
    view.sampled = there, whole
    _write(view, site, folder, written, SAMPLED)
    for name in FILES[1:]:  # all but htmx, which a page without a server does not load
        write_text(folder / name, file(name))
    if (folder / "data.html").is_file() and "lengths.png" in (folder / "data.html").read_text(encoding="utf-8"):
        (folder / "lengths.png").write_bytes(png(base.files.results))
    write_text(folder / "index.html", (folder / "responses.html").read_text(encoding="utf-8"))
    return there, whole


def beside(recipe: Recipe, store: Store, report: Path) -> str:
    """The pages in the folder `view` beside a report: at most 5 MB, of the problems that fit into it.

    They are written anew where what they show has changed. Returns the path of the first from the report; "", and no
    pages, without a response and of more than MANY.
    """
    results, out = GradedAnswers(recipe, store), report / VIEW
    n = sum(int(results.facts(one.spec).get("rows", 0)) for one in recipe.evaluations if results.manifest(one.spec))
    if not 0 < n <= MANY:
        return ""
    made_of = _made_of(results)
    if not (out / MADE_OF).is_file() or (out / MADE_OF).read_text(encoding="utf-8") != made_of:
        try:
            with atomic(out) as aside:
                _fitting(View(store, recipe), aside, n)
                write_text(aside / MADE_OF, made_of)
                shutil.rmtree(out, ignore_errors=True)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another run has just put the same there
                raise
    return f"{VIEW}/index.html"


def _fitting(view: View, out: Path, limit: int) -> None:
    """Write the pages with as many responses as 5 MB hold."""
    while True:
        export(view, out, limit)
        size = sum(path.stat().st_size for path in out.iterdir())
        if size <= BYTES or limit == 1:
            return
        shutil.rmtree(out)
        limit = max(1, int(0.9 * limit * BYTES / size))
        view = View(view.store, view.recipe)


def _made_of(results: GradedAnswers) -> str:
    """A key of all that the pages of a recipe show."""
    recipe = results.recipe
    specs = [spec for spec in everything(recipe) if not isinstance(spec, Source)]
    made = [results.store.manifest(spec) for spec in specs]
    found = [(spec.digest, one and (one.content, one.fake)) for spec, one in zip(specs, made, strict=True)]
    labelled = [(one.model, one.role, one.data_word) for one in recipe.evaluations]
    shown = (
        __version__,
        BYTES,
        recipe.name,
        recipe.baseline,
        recipe.titles,
        recipe.roles,
        labels(recipe),
        labelled,
        found,
    )
    return text_key(*map(repr, shown))


def _write(view: View, site: Site, folder: Path, written: set[str], pages: tuple[str, ...] = ()) -> set[str]:
    """Write the pages that are to do, and those that they lead to; without `pages` all that are whole."""
    while todo := [
        name for name, (page, _) in site.todo.items() if name not in written and (page in SAMPLED) == bool(pages)
    ]:
        for name in todo:
            page, query = site.todo[name]
            shown = {"show": view.answers.models} if page == "problem" else {}
            write_text(folder / name, render(view, page, query | shown, site.link, static=True))
            written.add(name)
    return written


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
