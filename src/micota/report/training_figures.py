"""The figures of training: the loss over the steps, and the lengths of the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from micota.recipe.labels import everything
from micota.report.drawing import GREY, LINE, TEXT, above, counted, legend, tall, words
from micota.report.figures import ALIKE, Shown
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, models, within
from micota.report.page import Figure
from micota.report.roles import taught, title_of
from micota.report.texts import figure, left_out
from micota.specs import Data, Mix, Select, SelectBy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 80


@dataclass(frozen=True)
class Curve:
    """The loss over the steps of one training."""

    name: str
    colour: str
    points: tuple[tuple[float, float], ...]


def losses(results: GradedAnswers, matched: str) -> Shown:
    """The training loss of the arms that are matched so, a line for each seed; one figure for each group."""
    arms = [model for model in models(results) if model.arm and model.matched == matched and model.spec.kind == "train"]
    several = within(arms)
    figures: Shown = []
    for i, (group, inside) in enumerate(several, 1):
        curves = [curve for model in inside for curve in _curves(results, model)]
        about = {"matched": ALIKE[matched], "group": f" ({group})" if group else ""}
        about["last"] = ", ".join(f"{model.name} {model.points[-1][1]:.3g}" for model in curves)
        file = "loss" + ("_tokens" if matched == "tokens" else "") + (str(i) if len(several) > 1 else "")
        figures.append(_figure(curves, file, about) if curves else left_out("loss", **about))
    return figures


def _figure(curves: Sequence[Curve], file: str, about: dict[str, str]) -> Figure:
    return figure("loss", lambda axes: _draw(axes[0], curves), about, file)


def _curves(results: GradedAnswers, model: Model) -> list[Curve]:
    trained = {loss.spec.completions.model.digest: loss.spec.completions.model for loss, _ in model.cells}
    points = [results.facts(spec).get("loss") for spec in trained.values()]
    return [Curve(model.title, model.colour, tuple(map(tuple, loss))) for loss in points if loss]


def _draw(axes: Axes, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    lines = {}
    for curve in curves:
        steps, values = zip(*curve.points, strict=True)
        (lines[curve.name],) = axes.plot(steps, values, color=curve.colour, linewidth=1.5, alpha=0.8)
    if min(value for curve in curves for _, value in curve.points) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")
    axes.margins(x=0.01)
    above(axes, "Loss, nats a token")
    counted(axes, "Optimizer step", "right")
    legend(axes, lines)


def lengths(results: GradedAnswers) -> Shown:
    """How long the responses are that the arms learn from: one distribution for each arm whose data is its own."""
    recipe, learnt = results.recipe, taught(results.recipe)
    data = {spec.digest: spec for spec in everything(recipe) if isinstance(spec, Data) and spec.digest in learnt}
    tokens = {
        word: sorted(n for digest in data if learnt[digest] == word for n in _tokens(results, data[digest]))
        for word in recipe.titles
        if word in learnt.values()
    }
    known = {title_of(recipe, word): counts for word, counts in tokens.items() if counts}
    if not known:
        return [left_out("lengths")] if tokens else []
    medians = ", ".join(f"{title} {median(counts):,.0f} (n = {len(counts):,})" for title, counts in known.items())
    colours = {model.title: model.colour for model in models(results)}
    return [figure("lengths", lambda axes: _ridges(axes[0], known, colours), {"medians": medians})]


def _tokens(results: GradedAnswers, data: Data) -> list[int]:
    """The lengths of a data set's responses; those of a mixture come from its parts."""
    known: dict[tuple[str, int, str], int] = {}
    todo: list[Data] = [data]
    for part in todo:
        if isinstance(part, Select):
            rows = results.rows(part.completions)
            known |= {(row["key"], row["sample"], row["sha"]): row["tokens"] for row in rows}
        elif isinstance(part, Mix):
            todo += [component.data for component in part.parts]
        elif isinstance(part, SelectBy):
            todo.append(part.measure.data)
    keys = ((row["key"], row.get("sample", 0), row.get("sha", "")) for row in results.rows(data))
    return [known[key] for key in keys if key in known]


def _ridges(axes: Axes, tokens: dict[str, list[int]], colours: dict[str, str]) -> None:
    """Histograms of equal height below each other, with their medians."""
    top = max(counts[-1] for counts in tokens.values()) * 1.02 + 1
    edges = [top * i / BINS for i in range(BINS + 1)]
    tall(axes, 0.9 + 0.8 * len(tokens))
    for at, (title, counts) in enumerate(tokens.items()):
        heights = [0] * BINS
        for value in counts:
            heights[min(BINS - 1, int(BINS * value / top))] += 1
        shape = [at - 0.72 * height / max(heights) for height in heights]
        axes.stairs(shape, edges, baseline=at, fill=True, color=colours.get(title, GREY), alpha=0.75, linewidth=0)
        axes.plot((0, top), (at, at), color=LINE, linewidth=0.8, zorder=0)
        middle = median(counts)
        axes.plot((middle, middle), (at, at - 0.76), color=TEXT, linewidth=1.3)
        axes.text(middle, at - 0.78, f"{middle:,.0f}", fontsize=9, ha="center", va="bottom")
    axes.set_yticks(range(len(tokens)), [*map(words, tokens)], va="bottom")
    axes.set(xlim=(0, top), ylim=(len(tokens) - 0.95, -1.05))
    axes.spines["left"].set_visible(False)
    counted(axes, "Tokens of a response; the line is the median", "left")
