"""Titles, captions and sentences of the report, from `templates/texts.yaml`, by the key of a table or figure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.report.page import Figure
from micota.yaml_tree import read

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TEMPLATES = Path(__file__).parent / "templates"


@cache
def texts() -> dict[str, dict[str, str]]:
    """All texts: by their keys, then `title`, `caption`, `alt` or another name."""
    loaded: dict[str, dict[str, str]] = read((TEMPLATES / "texts.yaml").read_text(encoding="utf-8"), "texts.yaml").value
    return loaded


def text(key: str, name: str = "caption", **values: Any) -> str:
    """A text with its values filled in, of which some may be empty; "" where there is none."""
    return texts().get(key, {}).get(name, "").format(**values).replace("  ", " ").strip()


def figure(
    key: str, draw: Callable[[Sequence[Axes]], None], values: Mapping[str, Any], file: str = "", panels: int = 1
) -> Figure:
    """A figure with the texts of `key`; `file` names its file where one key has several figures."""
    title, alt, caption = (text(key, name, **values) for name in ("title", "alt", "caption"))
    return Figure(file or key, title, draw, alt, caption, panels)


def left_out(key: str, **values: Any) -> str:
    """The line in place of a figure whose data is missing."""
    return text("left_out", title=text(key, "title", **values))
