"""Names beside what they name, in the place of a legend: at the ends of lines, and around dots where there is room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from micota.report.drawing import soft, words

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def line_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names right of the axes for the ends (x, y, name, colour) of lines, moved apart where they would touch."""
    canvas: Any = axes.figure
    canvas.draw_without_rendering()
    shown = sorted((float(axes.transData.transform((x, y))[1]), x, y, name, of) for x, y, name, of in ends)
    places = spread([height for height, *_ in shown], 13 * canvas.dpi / 72)
    for height, (_, x, y, name, of) in zip(places, shown, strict=True):
        level = float(axes.transData.inverted().transform((0, height))[1])
        thin = {"arrowstyle": "-", "color": of, "linewidth": 0.8, "shrinkA": 1, "shrinkB": 1}
        axes.annotate(words(name), (x, y), (1.03, level), textcoords=("axes fraction", "data"), va="center",
                      fontsize=9, annotation_clip=False, arrowprops=thin)  # fmt: skip


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Sorted heights moved as little as needed to stand a gap apart: what touches is centred on its mean."""
    stacks: list[list[float]] = []
    for height in heights:
        stacks.append([height])
        while len(stacks) > 1 and _bottom(stacks[-1], gap) < _bottom(stacks[-2], gap) + gap * len(stacks[-2]):
            last = stacks.pop()
            stacks[-1] += last
    return [_bottom(stack, gap) + gap * i for stack in stacks for i in range(len(stack))]


def _bottom(stack: Sequence[float], gap: float) -> float:
    return sum(stack) / len(stack) - gap * (len(stack) - 1) / 2


def beside_dots(axes: Axes, dots: Sequence[tuple[float, float, str, str]], taken: Sequence[tuple[Any, Any]]) -> None:
    """A name with a quiet line below it beside each dot (x, y, name, line), where it covers no dot, bar or name.

    Names that stand above each other do so in the order of their dots, the highest first.
    `taken` are line pieces ((x, y), (x, y)) to keep clear of, all in the axes' own units.
    """
    from matplotlib.transforms import Bbox

    canvas: Any = axes.figure
    canvas.draw_without_rendering()
    scale = canvas.dpi / 72
    frame = axes.get_window_extent()
    boxes = [Bbox.from_extents(*_around(axes.transData.transform((x, y)), 5 * scale)) for x, y, *_ in dots]
    for one, two in taken:
        (x0, y0), (x1, y1) = axes.transData.transform((one, two))
        boxes.append(Bbox.from_extents(min(x0, x1) - 2, min(y0, y1) - 2, max(x0, x1) + 2, max(y0, y1) + 2))
    names: list[Any] = []
    for x, y, name, line in sorted(dots, key=lambda dot: -dot[1]):
        first = _put(axes, words(name), line, (x, y), *PLACES[0])
        size = first.get_window_extent()
        first.remove()
        at = axes.transData.transform((x, y))
        tried = [_box(at, size, scale, *place) for place in PLACES]
        costs = [_cost(box, boxes, frame) + _above(box, names) + i * 1e-3 for i, box in enumerate(tried)]
        best = costs.index(min(costs))
        boxes.append(tried[best])
        names.append(tried[best])
        _put(axes, words(name), line, (x, y), *PLACES[best])


PLACES = [
    (side * dx, up * dy, 0.5 - side / 2, 0.5 - up / 2)
    for dx, dy in ((9, 7), (9, 0), (9, 16), (14, 24), (0, 26), (20, 34), (0, 40))
    for side, up in ((1, 1), (-1, 1), (1, -1), (-1, -1))
]
"""Where a name may stand around a dot, best first: its offset in points, and which point of it stands there."""


def _put(axes: Axes, name: str, line: str, place: tuple[float, float], dx: float, dy: float, h: float, v: float) -> Any:
    from matplotlib.offsetbox import AnnotationBbox, TextArea, VPacker

    heading = TextArea(name, textprops={"fontsize": 9.5, "fontweight": "bold"})
    both: Any = [heading, TextArea(line, textprops={"fontsize": 8.5, "color": soft()})]
    box = AnnotationBbox(VPacker(children=both, pad=0, sep=2), place, (dx, dy), xycoords="data", pad=0,
                         boxcoords="offset points", box_alignment=(h, v), frameon=False,
                         annotation_clip=False)  # fmt: skip
    axes.add_artist(box)
    return box


def _box(at: Any, size: Any, scale: float, dx: float, dy: float, h: float, v: float) -> Any:
    """The extent of a name that is put so, in dots of the canvas."""
    from matplotlib.transforms import Bbox

    return Bbox.from_bounds(at[0] + dx * scale - h * size.width, at[1] + dy * scale - v * size.height, *size.size)


def _around(point: Any, reach: float) -> tuple[float, float, float, float]:
    return point[0] - reach, point[1] - reach, point[0] + reach, point[1] + reach


def _above(box: Any, names: Sequence[Any]) -> int:
    """How many names of higher dots a name would stand above, and so be taken for theirs."""
    return sum(box.y0 > other.y0 and box.x0 < other.x1 and other.x0 < box.x1 for other in names)


def _cost(box: Any, boxes: Sequence[Any], frame: Any) -> float:
    """How much of a name would cover something else or leave the frame, in names."""
    from matplotlib.transforms import Bbox

    area = box.width * box.height
    inside = Bbox.intersection(box, frame)
    lost = area - (inside.width * inside.height if inside else 0)
    covered = (Bbox.intersection(box, other) for other in boxes)
    return float((3 * lost + sum(one.width * one.height for one in covered if one)) / area)
