"""What a report is made of: sections of text, tables, figures and cases. The renderers know nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Cell:
    """A cell of a table: the text that is printed, and the number behind it for programs."""

    text: str
    value: float | None = None
    bold: bool = False
    underline: bool = False


MISSING = Cell("–")


@dataclass(frozen=True)
class Table:
    """A table. `key` names its files (`table2.csv`, `table2.tex`); the first `words` columns are text, set left.

    A row of one cell is a heading over the rows below it.
    """

    form: ClassVar[str] = "table"
    key: str
    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    words: int = 1


@dataclass(frozen=True)
class Figure:
    """A figure that `draw` draws on axes side by side, `panels` of them; `alt` says in words what can be seen."""

    form: ClassVar[str] = "figure"
    key: str
    title: str
    draw: Callable[[Sequence[Axes]], None]
    alt: str
    caption: str = ""
    panels: int = 1


@dataclass(frozen=True)
class Response:
    """One response of a case: who wrote it, what a grader said, and the places [start, end) of reflection words."""

    title: str
    verdict: str
    tokens: int
    text: str
    reflections: tuple[tuple[int, int], ...]

    @property
    def counts(self) -> str:
        """What a line says of the text."""
        n = len(self.reflections)
        return f"{self.tokens:,} tokens, {n:,} reflection {'word' if n == 1 else 'words'}"


@dataclass(frozen=True)
class Case:
    """One problem, answered by several models side by side. The texts are hostile: they are shown, never run."""

    form: ClassVar[str] = "case"
    key: str
    title: str
    problem: str
    gold: str
    responses: tuple[Response, ...]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with text and what belongs below it; empty sections are not shown."""

    title: str
    text: str
    items: tuple[Table | Figure | Case, ...]


@dataclass(frozen=True)
class Page:
    """The whole report; `notes` stand at its top: what is missing, what the recipe is.

    `pages`: the file, from the report's folder, that shows every response; "" without one.
    """

    title: str
    notes: tuple[str, ...]
    sections: tuple[Section, ...]
    pages: str = ""
