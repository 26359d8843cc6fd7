"""The terminal of every command: names, messages and answers of others cannot steer it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.segment import Segment

from micota.errors import visible


class Terminal(Console):
    """A console that shows control characters, and those that turn the direction of writing, as escapes."""

    def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
        """The segments of what is printed, with everything visible that is no command of rich itself."""
        for segment in super().render(renderable, options):
            plain = segment.control or segment.text.isprintable() or segment.text == "\n"
            yield segment if plain else Segment(visible(segment.text), segment.style)
