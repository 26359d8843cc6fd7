"""The figures of what models answered: Figures 2 and 3 of the paper, and accuracy against response length.

A figure is left out where all that it shows is missing; a line then says so, if the recipe asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micota.report.drawing import MARKS, SOFT, Bar, Block, above, bars, counted, described, legend, tall
from micota.report.escape import short
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, by_problem, models, scorer_title, scorers, sets_of, within
from micota.report.page import Figure
from micota.report.roles import PROCEDURE
from micota.report.texts import figure, left_out
from micota.stats import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Shown = list[Figure | str]
LENGTH = "Mean length of a response, tokens"
ALIKE = {"steps": "", "tokens": ", arms matched in target tokens"}


def sizes(compared: Sequence[Model]) -> str:
    """`200 problems of test-set; 3 seeds`: what a figure's values are means of."""
    sets = sets_of(compared)
    problems = sum(
        max((len(by_problem(model.observed(data, "tokens"))) for model in compared), default=0) for data in sets
    )
    seeds = max(
        (len({cell.variables.get("seed") for cell, rows in model.cells if len(rows)}) for model in compared), default=1
    )
    return f"{problems:,} problems of {', '.join(sets)}; {f'{seeds} seeds' if seeds > 1 else '1 seed'}"


def assistant(results: GradedAnswers) -> Shown:
    """Figure 2: how long the teacher and the assistant answer, the latter before and after fine-tuning, and merged."""
    procedure = sorted(
        (model for model in models(results) if model.role in PROCEDURE), key=lambda model: PROCEDURE.index(model.role)
    )
    sets = sets_of(procedure)
    blocks = [
        (", ".join(filter(None, (group, data if len(sets) > 1 else ""))), _bars(inside, [data]))
        for group, inside in within(procedure)
        for data in sets
    ]
    return (
        _length_bars("figure2", blocks, procedure)
        if {"ta_long", "ta_mid"} <= {model.role for model in procedure}
        else []
    )


def students(results: GradedAnswers) -> Shown:
    """Figure 3: how long each student answers after learning from each arm's data."""
    arms = [model for model in models(results) if model.arm]
    blocks = [(group, _bars(inside)) for group, inside in within(arms)]
    return _length_bars("figure3" if results.recipe.roles else "arm_lengths", blocks, arms) if arms else []


def _length_bars(key: str, blocks: Sequence[Block], arms: Sequence[Model]) -> Shown:
    answered = [(heading, block) for heading, block in blocks if block]
    if not answered:
        return [left_out(key)]
    about = {"sizes": sizes(arms), "bars": described(answered, ",.0f")}
    return [figure(key, lambda axes: bars(axes[0], answered, LENGTH, ",.0f"), about)]


def _bars(arms: Sequence[Model], sets: Sequence[str] | None = None) -> list[Bar]:
    """A bar for each model that has answered; that of the merged assistant says its share of the length before."""
    lengths = {
        model: model.estimate(sets or model.sets, "tokens") for model in arms if set(sets or ()) <= set(model.sets)
    }
    before = next((length.value for model, length in lengths.items() if model.role == "ta_long"), math.nan)
    return [
        Bar(
            model.title + (", tokens matched" if model.matched == "tokens" else ""),
            *(length.value, model.colour, length.low, length.high),
            seeds=tuple(model.over_seeds(sets or model.sets, "tokens").values()),
            note=f"{length.value / before:.2f} × after fine-tuning" if model.role == "ta_mid" and before > 0 else "",
            light=model.matched == "tokens",
        )
        for model, length in lengths.items()
        if math.isfinite(length.value)
    ]


@dataclass(frozen=True)
class Dot:
    """A model by its length and accuracy (in percent), with each seed's."""

    name: str
    role: str
    colour: str
    tokens: Estimate
    accuracy: Estimate
    seeds: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        return f"{self.accuracy.value:.1f} %, {self.tokens.value:,.0f} tokens"


def accuracy_by_length(results: GradedAnswers, matched: str) -> Shown:
    """Accuracy against response length: a dot for each arm that is matched so, a figure for each group.

    Instruct learns nothing and is in all of them.
    """
    arms = [model for model in models(results) if model.arm and (model.matched == matched or model.role == "instruct")]
    several = within(arms) if any(model.role != "instruct" for model in arms) else []
    shown: Shown = []
    for i, (group, inside) in enumerate(several, 1):
        by = next(
            by for by in scorers(results) if any(cell.spec.by == by for model in inside for cell, _ in model.cells)
        )
        dots = [dot for model in inside if (dot := _dot(model, by))]
        about = {"matched": ALIKE[matched], "group": f" ({group})" if group else ""}
        about |= {
            "scorer": scorer_title(by),
            "sizes": sizes(inside),
            "dots": "; ".join(f"{dot.name} {dot}" for dot in dots),
        }
        file = "accuracy_by_length" + ("_tokens" if matched == "tokens" else "") + (str(i) if len(several) > 1 else "")
        shown.append(_figure(dots, file, about) if dots else left_out("accuracy_by_length", **about))
    return shown


def _figure(dots: Sequence[Dot], file: str, about: dict[str, Any]) -> Figure:
    return figure("accuracy_by_length", lambda axes: draw_dots(axes[0], dots), about, file)


def _dot(model: Model, by: str) -> Dot | None:
    reached, length = (model.estimate(model.sets, measure, who) for measure, who in (("correct", by), ("tokens", None)))
    if not (math.isfinite(reached.value) and math.isfinite(length.value)):
        return None
    right, tokens = model.over_seeds(model.sets, "correct", by), model.over_seeds(model.sets, "tokens")
    seeds = tuple((tokens[seed], 100 * right[seed]) for seed in right if seed in tokens)
    percent = {name: 100 * getattr(reached, name) for name in ("value", "error", "low", "high")}
    return Dot(model.title, model.role, model.colour, length, Estimate(**percent, n=reached.n), seeds)


def draw_dots(axes: Axes, dots: Sequence[Dot]) -> None:
    """Each dot with its two intervals and its seeds, the line of the student before training, and a legend."""
    tall(axes, 4.4)
    ordered = sorted(dots, key=lambda dot: -dot.accuracy.value)
    legend(axes, {f"{short(dot.name)}\n{dot}": _draw(axes, dot) for dot in ordered})
    axes.set_xlim(0)
    low, high = axes.get_ylim()
    axes.set_ylim(max(low, 0), min(high, 101))
    for dot in dots:
        if dot.role == "instruct":
            axes.axhline(dot.accuracy.value, color=SOFT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            axes.axhspan(axes.get_ylim()[0], dot.accuracy.value, color=SOFT, alpha=0.07, linewidth=0, zorder=0)
    axes.grid(axis="y")
    above(axes, "Accuracy, %")
    counted(axes, LENGTH, "right")


def _draw(axes: Axes, dot: Dot) -> Any:
    x, y, of = dot.tokens, dot.accuracy, dot.colour
    for seed in dot.seeds if len(dot.seeds) > 1 else ():
        axes.plot(*seed, "o", color=of, alpha=0.35, ms=4, mew=0)
    for ends in (((x.value, x.value), (y.low, y.high)), ((x.low, x.high), (y.value, y.value))):
        axes.plot(*ends, color=of, linewidth=1.6, alpha=0.65, solid_capstyle="butt")
    (mark,) = axes.plot(x.value, y.value, MARKS.get(dot.role, "P"), color=of, ms=9, linestyle="none", zorder=4)
    return mark
