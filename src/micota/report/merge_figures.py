"""The figures of merging: the dial with its frontier of accuracy and length, and the task vectors layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from micota.recipe.labels import everything, labels, name
from micota.report.drawing import above, colour, soft
from micota.report.figures import MAKES, Shown, lacking
from micota.report.graded_answers import GradedAnswers
from micota.report.label_placement import line_ends
from micota.report.page import Figure
from micota.specs import LengthDial, Merge
from micota.specs import dial_policy as choosing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Facts = Mapping[str, Any]


def dial(results: GradedAnswers) -> Shown:
    """Accuracy against length of all candidates, with the frontier; and length over the setting that was turned."""
    dials = {spec.digest: (label, spec) for label, spec in results.recipe.names.items() if isinstance(spec, LengthDial)}
    if not dials:
        return []
    title = "The dial: accuracy against length, and length over the setting"
    searched = [(label, spec, {**results.facts(spec.search), **results.facts(spec)}) for label, spec in dials.values()]
    there = [one for one in searched if one[2]]
    if not there:
        return [f"{title} is left out: no dial has tried its candidates yet. {MAKES}"]
    gone = lacking(label for label, _, facts in searched if not facts.get("chosen"))
    said = "; ".join(_said(label, facts) for label, _, facts in there)
    caption = (
        f"Each dot is a candidate, asked {there[0][1].probe.n} probe problems that are not those of the evaluation, "
        "with its 95 % intervals, paired with the assistant before merging (square). Line: the frontier, where no "
        f"candidate is both shorter and better. Ringed: the choice. Band: a loss that is still allowed. Dashed: the "
        f"wanted length. {said}."
    )
    drawn = [(facts, spec.max_loss, _turned(spec)) for _, spec, facts in there]
    return [Figure("dial", title, lambda axes: _dials(axes, drawn), f"Two panels. {said}", caption + gone, panels=2)]


def _said(label: str, facts: Facts) -> str:
    reference = facts["reference"]
    best = next((row for row in facts["dial"] if _is(row, facts.get("chosen"))), None)
    if best is None:
        return f"{label}: nothing chosen"
    return (
        f"{label}: {choosing.setting_text(best)} gives {100 * best['accuracy']:.1f} % at {best['tokens']:.0f} tokens, "
        f"the reference {100 * reference['accuracy']:.1f} % at {reference['tokens']:.0f}"
    )


def _is(row: Facts, chosen: Facts | None) -> bool:
    return chosen is not None and all(row[one] == chosen[one] for one in choosing.SETTINGS)


def _turned(spec: LengthDial) -> str:
    """The setting that the right panel goes along: the first that is a range."""
    return next(one for one in choosing.SETTINGS if isinstance(spec.ranges[one], tuple))


def frontier(rows: Sequence[Facts]) -> list[Facts]:
    """The candidates of which none other is at most as long and more accurate, from the shortest on."""
    found: list[Facts] = []
    for row in sorted(rows, key=lambda row: (row["share"], -row["accuracy"])):
        if not found or row["accuracy"] > found[-1]["accuracy"]:
            found.append(row)
    return found


def _dials(axes: Sequence[Axes], drawn: Sequence[tuple[Facts, float, str]]) -> None:
    left, right = axes
    for facts, max_loss, turned in drawn:
        _frontier(left, facts, max_loss / len(drawn), 1 / len(drawn))
        rows = sorted(facts["dial"], key=lambda row: row[turned])
        line = "o" if len({row[turned] for row in rows}) < len(rows) else "o-"
        right.plot([row[turned] for row in rows], [row["share"] for row in rows], line, color=colour("ta_mid"), ms=5)
        right.axhline(facts["target"], color=soft(), linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        left.axvline(facts["target"], color=soft(), linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for row in (row for row in rows if _is(row, facts.get("chosen"))):
            for panel, at in ((left, (row["share"], 100 * row["accuracy"])), (right, (row[turned], row["share"]))):
                panel.plot(*at, "o", markersize=12, markerfacecolor="none", markeredgewidth=1.6, zorder=4,
                           markeredgecolor=panel.title.get_color())  # fmt: skip
    left.annotate("wanted", (drawn[0][0]["target"], 0), (4, 5), xycoords=("data", "axes fraction"), color=soft(),
                  textcoords="offset points", fontsize=8.5)  # fmt: skip
    above(left, "Accuracy on the probe problems, %")
    above(right, "Length, share of that of the assistant before merging")
    left.set_xlim(0, max(1.1, left.get_xlim()[1]))
    right.set_ylim(0, max(1.12, right.get_ylim()[1]))
    left.set_xlabel("Length, share of that of the assistant before merging", loc="right")
    right.set_xlabel({"weight": "Merge weight"}.get(drawn[0][2], drawn[0][2].capitalize()), loc="right")
    for panel in axes:
        panel.grid(axis="y")


def _frontier(axes: Axes, facts: Facts, band: float, strength: float) -> None:
    """The candidates of one dial with their intervals, the frontier, and what they are held against."""
    reference = 100 * facts["reference"]["accuracy"]
    for row in facts["dial"]:
        x, y = row["share"], 100 * row["accuracy"]
        ends = [(row.get(f"share_{end}", x), 100 * row.get(f"loss_{end}", row["loss"])) for end in ("low", "high")]
        axes.plot([ends[0][0], ends[1][0]], [y, y], color=colour("ta_mid"), linewidth=1, alpha=0.45)
        axes.plot(
            [x, x], [reference - ends[0][1], reference - ends[1][1]], color=colour("ta_mid"), linewidth=1, alpha=0.45
        )
        axes.plot(x, y, "o", color=colour("ta_mid"), markersize=5)
    best = frontier(facts["dial"])
    axes.plot(
        [row["share"] for row in best], [100 * row["accuracy"] for row in best], color=colour("ta_mid"), linewidth=1.4
    )
    axes.plot(1, reference, "s", color=colour("ta_long"), markersize=7)
    axes.annotate("before merging", (1, reference), (0, 9), textcoords="offset points", color=soft(), fontsize=8.5,
                  ha="center")  # fmt: skip
    axes.axhspan(reference - 100 * band / strength, reference, color=colour("mix_long"), alpha=0.16 * strength,
                 linewidth=0, zorder=0)  # fmt: skip


def vectors(results: GradedAnswers) -> Shown:
    """The norm of each task vector, layer by layer."""
    names = labels(results.recipe)
    lines: list[tuple[str, tuple[tuple[int, float], ...]]] = []
    for spec in everything(results.recipe):
        facts = results.facts(spec) if isinstance(spec, Merge | LengthDial) else {}
        for i, model in enumerate(spec.models if isinstance(spec, Merge | LengthDial) else ()):
            layers = facts.get("models", {}).get(str(i), {}).get("layers", {})
            points = tuple((int(layer), norm) for layer, norm in layers.items() if layer != "other")
            line = (name(names, model), points)
            if len(points) > 1 and line not in lines:  # what several merges share is one line
                lines.append(line)
    if not lines:
        return []
    said = ", ".join(f"{label} {points[0][1]:.3g} to {points[-1][1]:.3g}" for label, points in lines)
    caption = (
        "L2 norm of what a model has that its base has not, over all weights of a layer; embedding and head are not "
        f"shown. First to last layer: {said}."
    )
    title = "Task vectors, layer by layer"
    return [Figure("task_vectors", title, lambda axes: _vectors(axes[0], lines), f"Lines. {said}", caption)]


def _vectors(axes: Axes, lines: Sequence[tuple[str, tuple[tuple[int, float], ...]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    ends = {}
    for label, points in lines:
        axes.plot(*zip(*points, strict=True), "o-", color=colour("ta_long"), markersize=4, linewidth=1.4)
        ends[label] = (*points[-1], label, colour("ta_long"))
    axes.set_ylim(0, None)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y")
    above(axes, "L2 norm of the task vector")
    axes.set_xlabel("Layer", loc="right")
    line_ends(axes, list(ends.values()))
