"""The figures of how models came to be: bits per character, training loss, lengths of the training data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from micota.report.bits_per_character import Measure, bits_per_character, measures, taught
from micota.report.drawing import Bar, Block, above, bars, colour, counted, tall, words
from micota.report.figures import MAKES, Shown, lacking, of, within
from micota.report.graded_answers import ROLES, GradedAnswers
from micota.report.label_placement import line_ends
from micota.report.model_rows import models
from micota.report.page import Figure
from micota.specs import Mix, Select, Spec, Train

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ORDER = ("strong", "half", "mix_long", "micota", "short")


def density(results: GradedAnswers) -> Shown:
    """Bits per character of each data set under each model."""
    found = measures(results)
    if not found:
        return []
    title = "Bits per character of each data set under each model"
    cells: dict[tuple[str, str], list[Measure]] = {}
    for one in found:
        cells.setdefault((one.title, one.model), []).append(one)
    there = {pair: [one for one in ones if one.facts] for pair, ones in cells.items()}
    if not any(there.values()):
        return [f"{title} are left out: none is measured yet. {MAKES}"]
    blocks: list[Block] = []
    for model in dict.fromkeys(model for _, model in there):
        ones = [(data, there[data, under]) for data, under in there if under == model and there[data, under]]
        block = [Bar(data, bits_per_character(few), colour(few[0].role), seeds=_each(few)) for data, few in ones]
        blocks += [(f"under {model}", block)] if block else []
    gone = lacking(f"{data} under {model}" for (data, model), ones in there.items() if not ones)
    alt = "Bars of bits per character. " + "; ".join(
        f"{head}: " + ", ".join(f"{bar.name} {bar.value:.3f}" for bar in block) for head, block in blocks
    )
    caption = "The responses given their prompts. Lower is nearer to what the model would write itself." + gone
    label = "Bits per character"
    return [Figure("bpc", title, lambda axes: bars(axes[0], blocks, label, lambda v: f"{v:.3f}"), alt, caption)]


def _each(found: Iterable[Measure]) -> tuple[float, ...]:
    return tuple(bits_per_character([one]) for one in found)


@dataclass(frozen=True)
class Curve:
    """The loss over the steps of one training."""

    name: str
    role: str
    points: tuple[tuple[float, float], ...]


def losses(results: GradedAnswers, matched: str) -> Shown:
    """The training loss of the arms that are matched so, a line for each seed; one figure for each group."""
    arms = [one for one in models(results) if one.arm and one.matched == matched and isinstance(one.spec, Train)]
    shown: Shown = []
    for i, (group, inside) in enumerate(several := within(arms), 1):
        title = of(f"Training loss of the arms{', tokens matched' if matched == 'tokens' else ''}", group)
        curves = [
            Curve(one.title, one.role, tuple(map(tuple, results.facts(spec)["loss"])))
            for one in inside
            for spec in {answers.model.digest: answers.model for answers in one.answers}.values()
            if results.facts(spec).get("loss")
        ]
        gone = [one.title for one in inside if not any(results.facts(a.model).get("loss") for a in one.answers)]
        if not curves:
            shown.append(f"{title} is left out: no arm is trained yet. {MAKES}")
            continue
        said = ", ".join(f"{one.name} {one.points[-1][1]:.3g}" for one in curves)
        caption = "Mean loss of a step's target tokens, each step as it was. Arms learn different texts: a lower loss "
        caption += f"says that a text is easier to predict, not that more was learnt from it.{lacking(gone)}"
        key = "loss" + ("_tokens" if matched == "tokens" else "") + (str(i) if len(several) > 1 else "")
        shown.append(Figure(key, title, _drawn(curves), f"Lines of training loss; last: {said}", caption))
    return shown


def _drawn(curves: Sequence[Curve]) -> Any:
    return lambda axes: _curves(axes[0], curves)


def _curves(axes: Axes, curves: Sequence[Curve]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    ends = {}
    for curve in curves:
        steps, values = zip(*curve.points, strict=True)
        axes.plot(steps, values, color=colour(curve.role), linewidth=1.5, alpha=0.8)
        ends[curve.name] = (*curve.points[-1], curve.name, colour(curve.role))
    if min(value for curve in curves for _, value in curve.points) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y")
    axes.margins(x=0.01)
    above(axes, "Loss, nats a token")
    counted(axes, "Optimizer step", "right")
    line_ends(axes, list(ends.values()))


def lengths(results: GradedAnswers) -> Shown:
    """How long the responses are that the arms learn from: one distribution for each kind of data set."""
    roles = taught(results)
    of_role: dict[str, dict[str, Spec]] = {}
    for spec in results.recipe.names.values():
        if isinstance(spec, Train) and spec.data.digest in roles:
            of_role.setdefault(roles[spec.data.digest], {})[spec.data.digest] = spec.data
    title = "How long the responses are that the arms learn from"
    wanted = [role for role in ORDER if role in of_role]
    tokens = {role: [n for data in of_role[role].values() for n in _tokens(results, data)] for role in wanted}
    there = [(role, sorted(tokens[role])) for role in wanted if tokens[role]]
    if not there:
        return [f"{title}: left out, no training data is there. {MAKES}"] if wanted else []
    said = ", ".join(f"{ROLES[role]} {median(found):,.0f} (n = {len(found):,})" for role, found in there)
    caption = f"Tokens of each kept response, counted by the model that wrote it. Medians: {said}."
    gone = lacking(ROLES[role] for role in wanted if not tokens[role])
    alt = f"Distributions of response lengths, below each other; medians: {said}"
    return [Figure("lengths", title, lambda axes: _ridges(axes[0], there), alt, caption + gone)]


def _tokens(results: GradedAnswers, data: Spec) -> list[int]:
    """The lengths of a data set's responses; those of a mixture come from its parts."""
    parts = [part.data for part in data.parts] if isinstance(data, Mix) else [data]
    known: dict[tuple[str, int, str], int] = {}
    todo = list(parts)
    for part in todo:
        if isinstance(part, Select):
            rows = results.rows(part.completions)
            known |= {(row["key"], row["sample"], row["sha"]): row["tokens"] for row in rows}
        elif isinstance(part, Mix):
            todo += [one.data for one in part.parts]
    keys = ((row["key"], row["sample"], row["sha"]) for row in results.rows(data))
    return [known[key] for key in keys if key in known]


def _ridges(axes: Axes, there: Sequence[tuple[str, list[int]]]) -> None:
    top = max(found[-1] for _, found in there) * 1.02 + 1
    edges = [top * i / 80 for i in range(81)]
    tall(axes, 0.9 + 0.8 * len(there))
    for at, (role, found) in enumerate(there):
        heights = [0.0] * 80
        for value in found:
            heights[min(79, int(80 * value / top))] += 1
        high = max(heights)
        shape = [at - 0.72 * height / high for height in heights]
        axes.stairs(shape, edges, baseline=at, fill=True, color=colour(role), alpha=0.75, linewidth=0)
        axes.plot((0, top), (at, at), color=axes.spines["left"].get_edgecolor(), linewidth=0.8, zorder=0)
        middle = median(found)
        axes.plot((middle, middle), (at, at - 0.76), color=axes.title.get_color(), linewidth=1.3)
        axes.annotate(f"{middle:,.0f}", (middle, at - 0.76), (0, 1), textcoords="offset points", fontsize=9,
                      ha="center", va="bottom")  # fmt: skip
    axes.set_yticks(
        range(len(there)), [words(ROLES[role]) for role, _ in there], color=axes.title.get_color(), va="bottom"
    )
    axes.set(xlim=(0, top), ylim=(len(there) - 0.95, -1.05))
    axes.spines["left"].set_visible(False)
    counted(axes, "Tokens of a response; the line is the median", "left")
