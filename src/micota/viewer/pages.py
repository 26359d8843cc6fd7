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
from micota.report.results import Results
from micota.store.artifacts import Store
from micota.viewer import response_pages
from micota.viewer.database import Database
from micota.viewer.filters import Query
from micota.viewer.parquet_files import ParquetFiles

AGAIN = 10.0  # seconds between two looks at what the store has


class View:
    """A store, and the answers of a recipe in it. Its files go to STORE/view/RECIPE, or to a temporary folder."""

    def __init__(self, store: Store, recipe: Recipe | None = None) -> None:
        self.store, self.recipe = store, recipe
        self.base: Database | None = None
        if recipe is not None:
            folder = store.root / "view" / piece(recipe.name)
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError:  # a store that can only be read
                self._temporary = tempfile.TemporaryDirectory(prefix="micota-view-")
                folder = Path(self._temporary.name)
            self.results = Results(recipe, store)
            self.base = Database(ParquetFiles(self.results, folder))

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

    def follow(self, stop: threading.Event) -> None:
        """Take in what comes into the store, until it is told to stop."""
        while not stop.is_set():
            self.refresh()
            stop.wait(AGAIN)


def _responses(view: View, query: Query) -> dict[str, Any]:
    return response_pages.responses(view.answers, query)


def _problem(view: View, query: Query) -> dict[str, Any]:
    return response_pages.problem(view.answers, query)


PAGES: dict[str, tuple[str, Callable[[View, Query], dict[str, Any]]]] = {
    "responses": ("responses", _responses),
    "problem": ("problem", _problem),
}
"""The template of each page, and what finds what it shows."""
HIDDEN = ("problem",)  # other pages lead to them
STORES = ("lineage", "live")  # they need no recipe
