"""A hook of the documentation site: the API reference lists every name of `micota.__all__` with its docstring.

The package is imported for the names alone, which loads nothing; mkdocstrings reads the docstrings from the source.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "src"
MARK = "<!-- every name of micota.__all__ -->"


def public_names() -> list[str]:
    """The names in `micota.__all__`, in its order."""
    sys.path.insert(0, str(SOURCE))
    return list(getattr(importlib.import_module("micota"), "__all__", []))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put one block of mkdocstrings for each public name in the place of the mark."""
    if MARK not in markdown:
        return markdown
    return markdown.replace(MARK, "\n\n".join(f"::: micota.{name}" for name in public_names()))
