"""The pages by their names, and what all of them look at: a store and, with a recipe, its answers."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.recipe.recipe import Recipe
from micota.recipe.variants import piece
from micota.report.fakes import note
from micota.report.results import Results
from micota.store.artifacts import Store
from micota.viewer import accuracy_page, data_pages, lineage_page, response_pages
from micota.viewer.database import Database
from micota.viewer.filters import Query
from micota.viewer.parquet_files import ParquetFiles

AGAIN = 10.0  # seconds between two looks at what the store has


class View:
    """A store, and the answers of a recipe in it. Its files go to STORE/view/RECIPE, or to a temporary folder."""

    def __init__(self, store: Store, recipe: Recipe | None = None) -> None:
        self.store, self.recipe = store, recipe
        self.base: Database | None = None
        self.trouble = ""  # why what is new in the store could not be taken in
        self.sampled: tuple[int, int] | None = None  # of an export: how many responses it has, and of how many
        self.fakes = ""  # what is said at the top of each page, of invented answers
        if recipe is not None:
            folder = store.root / "view" / piece(recipe.name)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError:  # a store that can only be read
                self._temporary = tempfile.TemporaryDirectory(prefix="micota-view-")
                folder = Path(self._temporary.name)
            self.results = Results(recipe, store)
            self.base = Database(ParquetFiles(self.results, folder))
            self.fakes = note(self.results)

    @property
    def pages(self) -> list[str]:
        """The names of the pages that its navigation leads to."""
        return [name for name in PAGES if name not in HIDDEN and (self.base or name in STORES)]

    @property
    def answers(self) -> Database:
        """The answers; a MicotaError without a recipe."""
        if self.base is None:
            raise MicotaError("this page shows a recipe", fix="micota view RECIPE")
        return self.base

    def refresh(self) -> None:
        """Take in what the store has now."""
        if self.base:
            self.base.refresh()
            self.fakes = note(self.results)

    def follow(self, stop: threading.Event) -> None:
        """Take in what comes into the store, until it is told to stop."""
        while not stop.is_set():
            try:
                self.refresh()
                self.trouble = ""
            except (MicotaError, OSError) as error:
                self.trouble = str(error)
            stop.wait(AGAIN)


def _live(view: View, query: Query) -> dict[str, Any]:
    from micota.viewer import live_page  # not a part of pages as files

    return live_page.live(view.store)


PAGES: dict[str, Callable[[View, Query], dict[str, Any]]] = {
    "responses": lambda view, query: response_pages.responses(view.answers, query),
    "problem": lambda view, query: response_pages.problem(view.answers, query),
    "tables": lambda view, query: accuracy_page.tables(view.answers, query),
    "compare": lambda view, query: accuracy_page.compare(view.answers, query),
    "data": lambda view, query: data_pages.data(view.answers, query),
    "dropped": lambda view, query: data_pages.dropped(view.answers, query),
    "lineage": lambda view, query: lineage_page.graph(view.store, view.recipe),
    "artifact": lambda view, query: lineage_page.artifact(view.store, query),
    "live": _live,
}
"""What finds what each page shows; its template has the same name."""
HIDDEN = ("problem", "compare", "dropped", "artifact")  # other pages lead to them
STORES = ("lineage", "live")  # they need no recipe
