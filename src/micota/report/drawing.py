"""How figures look: one small style, light and dark, and the shapes that several figures share.

Colours say whose chains of thought a model learnt from, and can be told apart by colour-blind readers. Marks differ in
shape too. Lines and dots are named where they are: no legend.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
INK = {  # text, what is quiet, lines, paper
    "light": ("#1d2129", "#5c6470", "#e3e6ea", "#fffffe"),
    "dark": ("#e6e8eb", "#a2abb6", "#30353d", "#15181d"),
}


def colour(role: str) -> str:
    return COLOURS.get(role, GREY)


@dataclass(frozen=True)
class Picture:
    """A figure as PNG on white, 200 dots an inch, and as SVG with its letters as shapes, light and dark."""

    png: bytes
    light: bytes
    dark: bytes


def picture(figure: Figure) -> Picture:
    """Draw a figure; equal figures are equal bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    with _style():
        canvas = Canvas(figsize=(WIDTH if figure.panels == 1 else 1.4 * WIDTH, 4.0), layout="constrained")
        FigureCanvasAgg(canvas)
        figure.draw(list(canvas.subplots(1, figure.panels, squeeze=False)[0]))
        canvas.draw_without_rendering()
        canvas.set_layout_engine("none")
        png, svg = io.BytesIO(), io.BytesIO()
        canvas.savefig(png, format="png", dpi=200, metadata={"Software": None})
        canvas.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return whole(png.getvalue(), svg.getvalue())


def whole(png: bytes, svg: bytes) -> Picture:
    """With the dark theme's drawing: only paper and ink change, and no other colour is one of theirs."""
    dark = svg
    for day, night in zip(INK["light"], INK["dark"], strict=True):
        dark = dark.replace(day.encode(), night.encode())
    return Picture(png, svg, dark)


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib as mpl
    from matplotlib import style

    text, soft, line, paper = INK["light"]
    own = {
        "figure.facecolor": paper,
        "savefig.facecolor": paper,
        "axes.facecolor": paper,
        "text.color": text,
        "text.parse_math": False,
        "figure.constrained_layout.w_pad": 0.08,
        "figure.constrained_layout.h_pad": 0.08,
        "axes.labelcolor": soft,
        "axes.edgecolor": line,
        "xtick.color": soft,
        "ytick.color": soft,
        "grid.color": line,
        "grid.linewidth": 0.8,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.minor.size": 0,
        "ytick.minor.size": 0,
        "font.family": ["DejaVu Sans"],
        "font.size": 10,
        "axes.labelsize": 9.5,
        "xtick.labelsize": 9,
        "ytick.labelsize": 9,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
        "svg.hashsalt": "micota",
        "svg.fonttype": "path",
        "path.simplify": True,
    }
    with mpl.rc_context(), style.context(["default", own]):
        yield


def soft() -> str:
    """The quiet colour of the style in force."""
    import matplotlib as mpl

    return str(mpl.rcParams["xtick.color"])


def paper() -> str:
    import matplotlib as mpl

    return str(mpl.rcParams["axes.facecolor"])


def words(text: str, limit: int = 40) -> str:
    """A text that the bundled font can write; what it lacks is a box."""
    line = short(text)
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    return "".join(char if ord(char) in _letters() else "□" for char in line)


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def above(axes: Axes, text: str) -> None:
    """The name of the vertical axis, where it is read: level, above its upper end."""
    axes.set_title(text, loc="left", fontsize=9.5, color=soft(), pad=10)


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


Block = tuple[str, Sequence[Bar]]
"""A heading, "" for none, and the bars below it."""


def bars(axes: Axes, blocks: Sequence[Block], label: str, text: Callable[[float], str]) -> None:
    """Level bars in blocks, each with its name before it and its value behind it; the figure grows with them."""
    headed = any(heading for heading, _ in blocks)
    rows = sum(len(block) for _, block in blocks) + (1.35 * len(blocks) if headed else 0.35 * (len(blocks) - 1))
    tall(axes, 0.75 + 0.31 * rows)
    at, ticks, names = 0.0, [], []
    ends = [max(filter(math.isfinite, (bar.value, bar.high, *bar.seeds))) for _, block in blocks for bar in block]
    for heading, block in blocks:
        if headed:
            axes.annotate(words(heading), (0, at), fontweight="bold", fontsize=9.5, va="center", xytext=(1, 0),
                          textcoords="offset points")  # fmt: skip
            at += 0.9
        for bar in block:
            _bar(axes, at, bar, text)
            ticks.append(at)
            names.append(words(bar.name))
            at += 1
        at += 0.45 if headed else 0.35
    axes.set_yticks(ticks, names, color=axes.xaxis.label.get_color())
    axes.set(ylim=(at - (0.85 if headed else 0.75), -0.7), xlim=(0, 1.02 * max(ends, default=1.0)))
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    counted(axes, label, "left")


def _bar(axes: Axes, at: float, bar: Bar, text: Callable[[float], str]) -> None:
    axes.barh(at, bar.value, 0.72, color=bar.colour, alpha=0.45 if bar.light else 0.9, linewidth=0)
    end = bar.value
    if bar.high > bar.value:
        axes.plot((bar.low, bar.high), (at, at), color=axes.title.get_color(), linewidth=1.1, solid_capstyle="butt")
        end = bar.high
    if len(bar.seeds) > 1:
        axes.plot(bar.seeds, [at] * len(bar.seeds), "o", markersize=3, color=paper(), markeredgecolor=soft(),
                  markeredgewidth=0.7)  # fmt: skip
        end = max(end, *bar.seeds)
    note = text(bar.value) + (f"   {bar.note}" if bar.note else "")
    axes.annotate(note, (end, at), (5, 0), textcoords="offset points", va="center", fontsize=9, annotation_clip=False)
