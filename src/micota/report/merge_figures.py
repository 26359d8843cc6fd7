"""The figures of merging: the candidates of the length dial, and the task vectors layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from micota.report.drawing import SOFT, TEXT, above, colour, legend
from micota.report.figures import Shown
from micota.report.graded_answers import GradedAnswers
from micota.report.merge_tables import is_chosen, vectors
from micota.report.texts import figure, left_out
from micota.specs import LengthDial
from micota.specs.dial_policy import SETTINGS, setting_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LENGTH = "Length, share of that before merging"
TURNED = {"weight": "Merge weight"}


class Dial(NamedTuple):
    """A dial by its label: the spec, and the facts of its search and its choice."""

    label: str
    spec: LengthDial
    facts: Mapping[str, Any]

    @property
    def setting(self) -> str:
        """The setting that the right panel goes along: the first that is a range."""
        return next(setting for setting in SETTINGS if isinstance(self.spec.ranges[setting], tuple))

    @property
    def choice(self) -> Mapping[str, Any] | None:
        """The row of the chosen candidate."""
        return next((row for row in self.facts["dial"] if is_chosen(row, self.facts)), None)

    def __str__(self) -> str:
        if self.choice is None:
            return f"{self.label}: nothing chosen"
        reference, row = self.facts["reference"], self.choice
        return (
            f"{self.label}: {setting_text(row)} gives {100 * row['accuracy']:.1f} % at {row['tokens']:.0f} tokens, the "
            f"reference {100 * reference['accuracy']:.1f} % at {reference['tokens']:.0f}"
        )


def dials(results: GradedAnswers) -> Shown:
    """Accuracy against length of all candidates, and length over the setting that was varied."""
    named = {spec.digest: (label, spec) for label, spec in results.recipe.names.items() if isinstance(spec, LengthDial)}
    every = [Dial(label, dial, {**results.facts(dial.search), **results.facts(dial)}) for label, dial in named.values()]
    tried = [dial for dial in every if dial.facts]
    if not tried:
        return [left_out("dial_figure")] if every else []
    about = {"chosen": "; ".join(map(str, tried)), "n": tried[0].spec.probe.n}
    return [figure("dial_figure", lambda axes: _draw(axes, tried), about, "dial", panels=2)]


def _draw(axes: Sequence[Axes], dials: Sequence[Dial]) -> None:
    left, right = axes
    for dial in dials:
        _candidates(left, dial, 1 / len(dials))
        rows = sorted(dial.facts["dial"], key=lambda row: row[dial.setting])
        right.plot(
            [row[dial.setting] for row in rows], [row["share"] for row in rows], "o-", color=colour("ta_mid"), ms=5
        )
        dashed: dict[str, Any] = {"color": SOFT, "linewidth": 1, "linestyle": (0, (4, 3)), "zorder": 1}
        if (target := dial.facts["target"]) is not None:
            right.axhline(target, **dashed)
            left.axvline(target, **dashed)
        if row := dial.choice:
            for panel, at in (
                (left, (row["share"], 100 * row["accuracy"])),
                (right, (row[dial.setting], row["share"])),
            ):
                panel.plot(*at, "o", ms=12, mfc="none", mew=1.6, mec=TEXT, zorder=4)
    above(left, "Accuracy on the probe problems, %")
    above(right, LENGTH)
    left.set_xlim(0, max(1.1, left.get_xlim()[1]))
    right.set_ylim(0, max(1.12, right.get_ylim()[1]))
    left.set_xlabel(LENGTH, loc="right")
    right.set_xlabel(TURNED.get(dials[0].setting, dials[0].setting.capitalize()), loc="right")
    for panel in axes:
        panel.grid(axis="y")


def _candidates(axes: Axes, dial: Dial, strength: float) -> None:
    """The candidates of one dial with their intervals, and the reference."""
    reference = 100 * dial.facts["reference"]["accuracy"]
    for row in dial.facts["dial"]:
        x, y = row["share"], 100 * row["accuracy"]
        share, loss = ([row.get(f"{name}_{end}", row[name]) for end in ("low", "high")] for name in ("share", "loss"))
        for ends in ((share, (y, y)), ((x, x), [reference - 100 * end for end in loss])):
            axes.plot(*ends, color=colour("ta_mid"), linewidth=1, alpha=0.45)
        axes.plot(x, y, "o", color=colour("ta_mid"), ms=5)
    axes.plot(1, reference, "s", color=colour("ta_long"), ms=7)
    axes.axhspan(reference - 100 * dial.spec.max_loss, reference, color=colour("mix_long"), alpha=0.16 * strength,
                 linewidth=0, zorder=0)  # fmt: skip


def task_vectors(results: GradedAnswers) -> Shown:
    """The norm of each task vector, layer by layer; what several merges share is one line."""
    lines = {}
    for vector in vectors(results):
        layers = vector.own.get("layers", {})
        points = tuple((int(layer), norm) for layer, norm in layers.items() if layer != "other")
        if len(points) > 1:
            lines[vector.model, points] = f"{vector.model} {points[0][1]:.3g} to {points[-1][1]:.3g}"
    if not lines:
        return []
    ends = ", ".join(lines.values())
    return [figure("task_vectors_figure", lambda axes: _vectors(axes[0], list(lines)), {"ends": ends}, "task_vectors")]


def _vectors(axes: Axes, lines: Sequence[tuple[str, tuple[tuple[int, float], ...]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    legend(axes, {name: axes.plot(*zip(*points, strict=True), "o-", ms=4)[0] for name, points in lines})
    axes.set_ylim(0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    above(axes, "L2 norm of the task vector")
    axes.set_xlabel("Layer", loc="right")
