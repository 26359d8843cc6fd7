"""The map as a picture: a field for each student and length, the ridge of the best length, and where training harms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from micota.report.drawing import PAPER, SOFT, TEXT, above, tall, words
from micota.report.figures import Shown
from micota.report.graded_answers import GradedAnswers
from micota.report.length_map import Panel, Student, panels
from micota.report.texts import figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIR = 2  # panels side by side


def maps(results: GradedAnswers) -> Shown:
    """The panels of the map, two beside each other."""
    every = panels(results)
    rows = [every[at : at + PAIR] for at in range(0, len(every), PAIR)]
    return [
        figure("map", lambda axes, row=row: _draw(axes, row), _about(row), f"map{i}", len(row))  # type: ignore[misc]
        for i, row in enumerate(rows, 1)
    ]


def _about(row: Sequence[Panel]) -> dict[str, str]:
    best = (
        f"{panel.title}, {one.name}: best {one.ridge.value:g} ({one.ridge.low:g} to {one.ridge.high:g}),"
        f" {100 * one.reached(one.ridge.value):.1f} %"
        for panel in row
        for one in panel.students
    )
    return {"panels": "; ".join(panel.title for panel in row), "best": "; ".join(best)}


def _draw(axes: Sequence[Axes], row: Sequence[Panel]) -> None:
    tall(axes[0], 1.5 + 0.5 * max(len(panel.students) for panel in row))
    for one, panel in zip(axes, row, strict=True):
        _panel(one, panel)


def _panel(axes: Axes, panel: Panel) -> None:
    """Fields in the order of the lengths, evenly spaced: those of few tokens lie close together."""
    lengths = panel.lengths
    for y, student in enumerate(panel.students):
        for x, length in enumerate(lengths):
            if length in student.after:
                _field(axes, x, y, student, length)
        ends = [lengths.index(end) for end in (student.ridge.low, student.ridge.high) if end in lengths]
        axes.plot(ends, [y + 0.36] * len(ends), color=TEXT, linewidth=2.2, solid_capstyle="round")
    ridge = [lengths.index(student.ridge.value) for student in panel.students]
    axes.plot(ridge, range(len(ridge)), "o", ms=24, mfc="none", mec=TEXT, mew=1.3)
    axes.set(xlim=(-0.5, len(lengths) - 0.5), ylim=(len(panel.students) - 0.5, -0.5))
    axes.set_xticks(range(len(lengths)), [f"{length:g}\n{panel.tokens[length]:.0f}" for length in lengths])
    axes.set_yticks(range(len(panel.students)), [words(student.name) for student in panel.students])
    axes.set_xlabel("Length asked for, and mean tokens of the chains", loc="right")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    above(axes, words(panel.title))


def _field(axes: Axes, x: int, y: int, student: Student, length: float) -> None:
    """One accuracy in percent: blue above the untrained student, red below; ↓ where all of the interval is below."""
    reached, gain = student.reached(length), student.gain(length)
    strength = min(1.0, abs(gain.value) / 0.4)
    colour = "#0077bb" if gain.value > 0 else "#cc3311"
    axes.fill_between((x - 0.48, x + 0.48), y - 0.48, y + 0.48, color=PAPER, linewidth=0)
    axes.fill_between((x - 0.48, x + 0.48), y - 0.48, y + 0.48, color=colour, alpha=0.75 * strength, linewidth=0)
    mark = "↓" if gain.high < 0 else ""
    weight = "bold" if length == student.ridge.value else "normal"
    axes.text(x, y, f"{100 * reached:.0f}{mark}", ha="center", va="center", fontsize=9, fontweight=weight)
    axes.tick_params(axis="y", colors=SOFT)
