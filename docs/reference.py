"""A hook of the documentation site: the API reference lists every name of `micota.__all__`, read from the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import griffe

SOURCE = Path(__file__).parents[1] / "src"
MARK = "<!-- every name of micota.__all__ -->"


def public_names() -> list[str]:
    """The names in `micota.__all__`, in its order; nothing of micota is imported."""
    package = griffe.load("micota", search_paths=[SOURCE], resolve_aliases=True)
    return [str(name) for name in package.exports or []]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put one block of mkdocstrings for each public name in the place of the mark."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n\n".join(f"::: micota.{name}" for name in public_names()))
