"""Figures are drawn once: again only if they show something else, or if a kept picture is not whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from micota.report import figures
from micota.report.drawn import pictures, shown
from micota.report.figures import Dot
from micota.report.page import Figure
from micota.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DRAWN: list[int] = []


def line(key: str, *heights: float) -> Figure:
    def draw(axes: Sequence[Axes]) -> None:
        DRAWN.append(1)
        axes[0].plot(heights)

    return Figure(key, "Heights", draw, alt="A line")


def times() -> int:
    count = len(DRAWN)
    DRAWN.clear()
    return count


def test_a_figure_that_shows_the_same_is_not_drawn_again(tmp_path: Path) -> None:
    first = pictures([line("a", 1.0, 2.0), line("b", 3.0, 1.0)], tmp_path)
    assert times() == 2
    assert pictures([line("a", 1.0, 2.0), line("b", 3.0, 1.0)], tmp_path) == first
    assert times() == 0
    changed = pictures([line("a", 1.0, 2.5), line("b", 3.0, 1.0)], tmp_path)
    assert times() == 1
    assert changed["a"].light != first["a"].light and changed["b"] == first["b"]
    assert {path.stem for path in tmp_path.iterdir()} == {shown(line("a", 1.0, 2.5)), shown(line("b", 3.0, 1.0))}


def test_a_picture_that_is_not_whole_is_drawn_again(tmp_path: Path) -> None:
    first = pictures([line("a", 1.0, 2.0)], tmp_path)
    (tmp_path / f"{shown(line('a', 1.0, 2.0))}.svg").unlink()
    times()
    assert pictures([line("a", 1.0, 2.0)], tmp_path) == first
    assert times() == 1


def test_whatever_a_figure_says_belongs_to_what_it_shows() -> None:
    one = line("a", 1.0)
    assert shown(one) == shown(line("a", 1.0)) != shown(line("b", 1.0))
    assert shown(one) != shown(Figure("a", "Heights", one.draw, alt="A line", panels=2))


def test_no_seed_lies_outside_the_picture_of_who_learned() -> None:
    from matplotlib.figure import Figure as Sheet

    axes = Sheet().subplots()
    seeds = ((200.0, 0.08), (205.0, 0.75))
    figures._draw(axes, [Dot("Half", "half", False, Estimate(204.0), Estimate(0.4, 0.01, 0.38, 0.42), seeds)])
    low, high = axes.get_ylim()
    assert low < 8 and high > 75
