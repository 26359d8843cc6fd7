"""How figures look: one small style, light and dark, and the shapes that several figures share.

Colours say whose chains of thought a model learnt from, and can be told apart by colour-blind readers. Marks differ in
shape too.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from micota.report.escape import short
from micota.report.page import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH = 6.4  # inches of a figure with one panel; one with more is wider
COLOURS = {
    "micota": "#0077bb",
    "ta_mid": "#0077bb",
    "strong": "#cc3311",
    "teacher": "#cc3311",
    "half": "#ee7733",
    "ta_long": "#ee7733",
    "mix_long": "#009988",
    "short": "#ee3377",
}
MARKS = {"micota": "o", "strong": "s", "half": "D", "mix_long": "^", "short": "v", "instruct": "X"}
GREY = "#8a9099"
NEUTRAL = ("#0077bb", "#ee7733", "#009988", "#cc3311", "#ee3377", "#33bbee", "#bbbb00", "#775599")
"""The colours of arms without a role, in the order in which they stand in the recipe."""
TEXT, SOFT, LINE, PAPER = "#1d2129", "#5c6470", "#e3e6ea", "#fffffe"
DARK = {TEXT: "#e6e8eb", SOFT: "#a2abb6", LINE: "#30353d", PAPER: "#15181d"}
STYLE = {
    **dict.fromkeys(("figure.facecolor", "savefig.facecolor", "axes.facecolor"), PAPER),
    **dict.fromkeys(("axes.labelcolor", "xtick.color"), SOFT),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), LINE),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size", "xtick.minor.size", "ytick.minor.size"), 0),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 9),
    "text.color": TEXT,
    "text.parse_math": False,
    "ytick.color": SOFT,
    "axes.axisbelow": True,
    "axes.labelsize": 9.5,
    "font.family": ["DejaVu Sans"],
    "legend.frameon": False,
    "svg.hashsalt": "micota",
}


def colour(role: str) -> str:
    """The colour of a role; grey for others."""
    return COLOURS.get(role, GREY)


@dataclass(frozen=True)
class Picture:
    """A figure as PNG on white, 200 dots an inch, and as SVG with its letters as shapes, light and dark."""

    png: bytes
    light: bytes
    dark: bytes


def picture(figure: Figure) -> Picture:
    """Draw a figure; equal figures are equal bytes. In the dark picture only paper and ink have other colours."""
    from matplotlib import style
    from matplotlib.figure import Figure as Canvas

    with style.context(["default", STYLE]):
        canvas = Canvas(figsize=(WIDTH if figure.panels == 1 else 1.4 * WIDTH, 4.0), layout="constrained")
        figure.draw(list(canvas.subplots(1, figure.panels, squeeze=False)[0]))
        png, svg = io.BytesIO(), io.BytesIO()
        canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        canvas.set_layout_engine("none")
        canvas.savefig(png, format="png", dpi=200, metadata={"Software": None})
    light = dark = svg.getvalue()
    for day, night in DARK.items():
        dark = dark.replace(day.encode(), night.encode())
    return Picture(png.getvalue(), light, dark)


def words(text: str, limit: int = 40) -> str:
    """A text that the bundled font can write; what it lacks is a box."""
    line = short(text)
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    line = f" {line}" if line.startswith("_") else line  # legends leave out what begins with an underscore
    return "".join(char if ord(char) in _letters() else "□" for char in line)


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def legend(axes: Axes, handles: Mapping[str, Any]) -> None:
    """Lines or dots by their names, right of the axes; a name may have a second line."""
    canvas: Any = axes.figure
    names = ["\n".join(map(words, name.split("\n"))) for name in handles]
    canvas.legend(list(handles.values()), names, loc="outside right upper", labelspacing=0.9)


def above(axes: Axes, text: str) -> None:
    """The name of the vertical axis, where it is read: level, above its upper end."""
    axes.set_title(text, loc="left", fontsize=9.5, color=SOFT, pad=10)


def counted(axes: Axes, label: str, loc: Literal["left", "right"]) -> None:
    """A level axis of numbers, few enough to be read side by side."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.10g}"))
    axes.set_xlabel(label, loc=loc)


def tall(axes: Axes, inches: float) -> None:
    """Give the axes' figure another height."""
    canvas: Any = axes.figure
    canvas.set_figheight(inches)


@dataclass(frozen=True)
class Bar:
    """A level bar: its name, value, the ends of its interval (nan without), each seed's value, and a note."""

    name: str
    value: float
    colour: str
    low: float = math.nan
    high: float = math.nan
    seeds: tuple[float, ...] = ()
    note: str = ""
    light: bool = False

    @property
    def end(self) -> float:
        """Where all that is drawn of it ends."""
        return max(filter(math.isfinite, (self.value, self.high, *self.seeds)))


Block = tuple[str, Sequence[Bar]]
"""A heading, "" for none, and the bars below it."""


def bars(axes: Axes, blocks: Sequence[Block], label: str, form: str) -> None:
    """Level bars in blocks, each with its name before it and its value behind it; the figure grows with them."""
    at, names = 0.0, {}
    for heading, block in blocks:
        if heading:
            axes.annotate(words(heading), (0, at), fontweight="bold", fontsize=9.5, va="center")
        at += 0.9 if heading else 0
        for bar in block:
            _bar(axes, at, bar, format(bar.value, form))
            names[at] = words(bar.name)
            at += 1
        at += 0.45
    tall(axes, 0.75 + 0.31 * at)
    ends = [bar.end for _, block in blocks for bar in block]
    axes.set_yticks(list(names), list(names.values()))
    axes.set(ylim=(at - 0.85, -0.7), xlim=(0, 1.02 * max(ends, default=1.0)))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    counted(axes, label, "left")


def _bar(axes: Axes, at: float, bar: Bar, value: str) -> None:
    axes.barh(at, bar.value, 0.72, color=bar.colour, alpha=0.45 if bar.light else 0.9, linewidth=0)
    axes.plot((bar.low, bar.high), (at, at), color=TEXT, linewidth=1.1, solid_capstyle="butt")
    if len(bar.seeds) > 1:
        axes.plot(bar.seeds, [at] * len(bar.seeds), "o", ms=3, color=PAPER, mec=SOFT, mew=0.7)
    note = f"{value}   {bar.note}" if bar.note else value
    axes.annotate(note, (bar.end, at), (5, 0), textcoords="offset points", va="center", fontsize=9)


def described(blocks: Sequence[Block], form: str) -> str:
    """The bars in words."""
    return "; ".join(
        (f"{heading}: " if heading else "") + ", ".join(f"{bar.name} {bar.value:{form}}" for bar in block)
        for heading, block in blocks
    )
