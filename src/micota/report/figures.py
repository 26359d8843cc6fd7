"""The figures of what models answered: Figures 2 and 3 of the paper, and accuracy against length.

A figure is left out where what it shows is missing; a line then says so. What a recipe does not ask for has no line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from micota.report.drawing import MARKS, Bar, Block, above, bars, colour, counted, soft, tall
from micota.report.graded_answers import GradedAnswers
from micota.report.label_placement import beside_dots
from micota.report.model_rows import PROCEDURE, SCORERS, Model, by_problem, each_seed, groups, models, scorers
from micota.report.page import Figure
from micota.stats import Estimate, interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Shown = list[Figure | str]
Piece = tuple[tuple[float, float], tuple[float, float]]
"""A straight line from (x, y) to (x, y), in the units of the axes."""
TOKENS = "Mean length of a response, tokens"
MAKES = "`micota run` makes what is missing."


def name(model: Model) -> str:
    return f"{model.title}, tokens matched" if model.matched == "tokens" else model.title


def within(found: Iterable[Model]) -> list[tuple[str, list[Model]]]:
    """The models of each combination of variables, those that depend on none of them included, with its name."""
    every = list(found)
    return [
        (", ".join(group.values()), [one for one in every if one.variables.items() <= group.items()])
        for group in groups(every)
    ]


def length(model: Model, sets: Sequence[str]) -> Estimate:
    """Mean tokens over problems, then over sets; nan where a set is missing."""
    return interval(*(by_problem(model.tokens(data)) for data in sets))


def _lengths(model: Model, sets: Sequence[str]) -> tuple[float, ...]:
    return tuple(each_seed([model.tokens(data) for data in sets]).values())


def lacking(names: Iterable[str]) -> str:
    """A sentence for the caption about what is not there yet, "" if nothing."""
    wanted = list(dict.fromkeys(names))
    return f" Missing: {', '.join(wanted)}; {MAKES}" if wanted else ""


def sizes(found: Sequence[Model], sets: Sequence[str]) -> str:
    """`200 problems of test-set; 3 seeds`: what the dots of a figure stand on."""
    problems = sum(max((len(by_problem(one.tokens(data))) for one in found), default=0) for data in sets)
    seeds = max((len({answers.seed for answers in one.answers if answers.done}) for one in found), default=1)
    several = f"{seeds} seeds" if seeds > 1 else "1 seed"
    return f"{problems:,} problems of {', '.join(sets)}; {several}"


def assistant(results: GradedAnswers) -> Shown:
    """Figure 2: how long the teacher and the assistant answer, the latter before and after fine-tuning, and merged."""
    found = [one for one in models(results) if one.role in PROCEDURE]
    if not {"ta_long", "ta_mid"} <= {one.role for one in found}:
        return []
    blocks: list[Block] = []
    gone = []
    asked = list(dict.fromkeys(data for one in found for data in one.sets))
    for group, inside in within(found):
        for data in asked:
            order = sorted((one for one in inside if data in one.sets), key=lambda one: PROCEDURE.index(one.role))
            there = {one.role: length(one, [data]).value for one in order}
            share = there.get("ta_mid", math.nan) / there.get("ta_long", math.nan)
            note = f"{share:.2f} × after fine-tuning" if math.isfinite(share) else ""
            block = [_bar(one, [data], note if one.role == "ta_mid" else "") for one in order]
            gone += [f"{one.title} on {data}" for one, bar in zip(order, block, strict=True) if bar is None]
            drawn = [bar for bar in block if bar]
            heading = ", ".join(part for part in (group, data if len(asked) > 1 else "") if part)
            blocks += [(heading, drawn)] if drawn else []
    title = "Figure 2: the assistant, before and after fine-tuning, and merged"
    if not blocks:
        return [f"{title} is left out: no answer of the procedure's models is there. {MAKES}"]
    caption = f"Mean tokens of a response with 95 % intervals over problems; {sizes(found, asked)}." + lacking(gone)
    alt = "Bars of mean response length. " + _said(blocks)
    return [Figure("figure2", title, _bars(blocks), alt, caption)]


def students(results: GradedAnswers) -> Shown:
    """Figure 3: how long each student answers after learning from each arm's data."""
    found = [one for one in models(results) if one.arm]
    if not found:
        return []
    asked = list(dict.fromkeys(data for one in found for data in one.sets))
    blocks: list[Block] = []
    gone: list[str] = []
    for group, inside in within(found):
        block = [(one, _bar(one, one.sets)) for one in inside]
        gone += [of(name(one), group) for one, bar in block if bar is None]
        drawn = [bar for _, bar in block if bar]
        blocks += [(group, drawn)] if drawn else []
    title = "Figure 3: how long the students answer"
    if not blocks:
        return [f"{title} is left out: no answer of an arm is there. {MAKES}"]
    several = " Problem sets count equally." if len(asked) > 1 else ""
    caption = f"Mean tokens of a response with 95 % intervals over problems; {sizes(found, asked)}.{several}"
    alt = "Bars of mean response length. " + _said(blocks)
    return [Figure("figure3", title, _bars(blocks), alt, caption + lacking(gone))]


def _bar(model: Model, sets: Sequence[str], note: str = "") -> Bar | None:
    found = length(model, sets)
    if not math.isfinite(found.value):
        return None
    light = model.matched == "tokens"
    seeds = _lengths(model, sets)
    return Bar(name(model), found.value, colour(model.role), found.low, found.high, seeds, note, light)


def _bars(blocks: Sequence[Block]) -> Callable[[Sequence[Axes]], None]:
    return lambda axes: bars(axes[0], blocks, TOKENS, lambda value: f"{value:,.0f}")


def _said(blocks: Sequence[Block]) -> str:
    return "; ".join(
        (f"{heading}: " if heading else "") + ", ".join(f"{bar.name} {bar.value:,.0f}" for bar in block)
        for heading, block in blocks
    )


def of(one: str, group: str) -> str:
    return f"{one} ({group})" if group else one


@dataclass(frozen=True)
class Dot:
    """A model by its length and accuracy, with each seed's."""

    name: str
    role: str
    light: bool
    tokens: Estimate
    accuracy: Estimate
    seeds: tuple[tuple[float, float], ...]


def learned(results: GradedAnswers, matched: str) -> Shown:
    """Who learned, who was overwhelmed: accuracy against length, a dot for each arm that is matched so.

    One figure for each group. Instruct learns nothing and stands in all of them.
    """
    found = [one for one in models(results) if one.arm and (one.matched == matched or one.role == "instruct")]
    if all(one.role == "instruct" for one in found):
        return []
    title, key = "Who learned, who was overwhelmed", "learned"
    if matched == "tokens":
        title, key = f"{title}: the arms matched in target tokens", f"{key}_tokens"
    several = within(found)
    return [
        _learned(results, of(title, group), inside, f"{key}{i}" if len(several) > 1 else key)
        for i, (group, inside) in enumerate(several, 1)
    ]


def _learned(results: GradedAnswers, title: str, inside: Sequence[Model], key: str) -> Figure | str:
    by = next(by for by in scorers(results) if any(by in answers.graded for one in inside for answers in one.answers))
    dots = [(one, _dot(one, by)) for one in inside]
    there = [dot for _, dot in dots if dot]
    if not there:
        return f"{title} is left out: no answer of an arm is there. {MAKES}"
    sets = list(dict.fromkeys(data for one in inside for data in one.sets))
    caption = (
        f"Accuracy by {SCORERS.get(by, by).lower()} against mean tokens of a response, with 95 % intervals over "
        f"problems; {sizes(inside, sets)}{', each a small dot' if any(len(dot.seeds) > 1 for dot in there) else ''}."
    )
    caption += " Below the dashed line a student answers worse than before it was taught." if _base(there) else ""
    said = (f"{dot.name} {100 * dot.accuracy.value:.1f} % at {dot.tokens.value:,.0f} tokens" for dot in there)
    gone = lacking(one.title for one, dot in dots if dot is None)
    alt = "Dots of accuracy against response length: " + ", ".join(said)
    return Figure(key, title, lambda axes: _draw(axes[0], there), alt, caption + gone)


def _dot(model: Model, by: str) -> Dot | None:
    reached, long = model.accuracy(model.sets, by), length(model, model.sets)
    if not (math.isfinite(reached.value) and math.isfinite(long.value)):
        return None
    right = model.over_seeds(model.sets, by)
    tokens = each_seed([model.tokens(data) for data in model.sets])
    seeds = tuple((tokens[seed], right[seed]) for seed in right if seed in tokens)
    return Dot(model.title, model.role, model.matched == "tokens", long, reached, seeds)


def _base(dots: Sequence[Dot]) -> Dot | None:
    return next((dot for dot in dots if dot.role == "instruct"), None)


def _draw(axes: Axes, dots: Sequence[Dot]) -> None:
    right = max(max(dot.tokens.value, *(x for x, _ in dot.seeds)) for dot in dots)
    means = [y for dot in dots for y in (dot.accuracy.value, dot.accuracy.low, dot.accuracy.high) if y == y]
    ends = [100 * y for y in (*means, *(y for dot in dots for _, y in dot.seeds))]
    spread = max(max(ends) - min(ends), 5.0)
    axes.set(xlim=(0, 1.13 * right), ylim=(max(0, min(ends) - 0.12 * spread), min(100, max(ends) + 0.12 * spread)))
    tall(axes, 4.4)
    axes.grid(axis="y")
    above(axes, "Accuracy, %")
    counted(axes, TOKENS, "right")
    taken = [piece for dot in dots for piece in _cross(axes, dot)]
    if base := _base(dots):
        taken.append(_reference(axes, 100 * base.accuracy.value))
    places = [(dot.tokens.value, 100 * dot.accuracy.value) for dot in dots]
    said = [f"{y:.1f} %, {x:,.0f} tokens" for x, y in places]
    beside_dots(axes, [(x, y, dot.name, line) for (x, y), dot, line in zip(places, dots, said, strict=True)], taken)


def _cross(axes: Axes, dot: Dot) -> list[Piece]:
    """Draw a dot with its two intervals and its seeds; returns the line pieces."""
    x, y, of = dot.tokens.value, 100 * dot.accuracy.value, colour(dot.role)
    for one, other in dot.seeds if len(dot.seeds) > 1 else ():
        axes.plot(one, 100 * other, "o", color=of, alpha=0.35, markersize=4, markeredgewidth=0)
    up = ((x, 100 * dot.accuracy.low), (x, 100 * dot.accuracy.high))
    across = ((dot.tokens.low, y), (dot.tokens.high, y))
    pieces = [piece for piece in (up, across) if all(map(math.isfinite, (*piece[0], *piece[1])))]
    for piece in pieces:
        axes.plot(*zip(*piece, strict=True), color=of, linewidth=1.6, alpha=0.65, solid_capstyle="butt")
    filled = axes.get_facecolor() if dot.light else of
    axes.plot(x, y, MARKS.get(dot.role, "P"), color=of, markerfacecolor=filled, markersize=9.5, markeredgewidth=1.8,
              zorder=4)  # fmt: skip
    return pieces


def _reference(axes: Axes, y: float) -> Piece:
    """Draw the line of the untaught student, and say what lies above and below it; returns the line."""
    axes.axhline(y, color=soft(), linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.axhspan(axes.get_ylim()[0], y, color=soft(), alpha=0.07, linewidth=0, zorder=0)
    for text, up, va in (("↑ learned", 4, "bottom"), ("↓ overwhelmed", -4, "top")):
        axes.annotate(text, (1, y), (5, up), xycoords=("axes fraction", "data"), textcoords="offset points", va=va,
                      fontsize=9, color=soft(), annotation_clip=False)  # fmt: skip
    return (0, y), (axes.get_xlim()[1], y)
