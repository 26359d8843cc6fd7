"""Figure 4: one problem answered by the half-size student and the MiCoTA student, side by side.

The problem is chosen by a rule, and the caption says how often the rule would hold the other way round.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from micota.recipe.recipe import Evaluation
from micota.report.graded_answers import GradedAnswers
from micota.report.model_rows import Model, models, scorer_title, scorers
from micota.report.page import Case, Response
from micota.report.reflection import places
from micota.report.texts import text

if TYPE_CHECKING:
    from pandas import DataFrame

RIVALS = ("half", "strong")  # the paper's is the first; a recipe without it shows the second
LOST = "(the text was removed from the store)"


class Side(NamedTuple):
    """One of two models with one of its evaluations and the first sample of each problem there."""

    model: Model
    evaluation: Evaluation
    rows: DataFrame


def case(results: GradedAnswers) -> list[Case | str]:
    """The case, or a line that says what is missing; nothing where a recipe has nothing to compare."""
    pairs = list(_pairs(results))
    for rival, ours in pairs:
        if not (rival.rows.empty or ours.rows.empty):
            return [_case(results, rival, ours)]
    return [text("figure4", "missing", a=rival.model.title, b=ours.model.title) for rival, ours in pairs[:1]]


def _pairs(results: GradedAnswers) -> Iterator[tuple[Side, Side]]:
    """Answers of the rival and of MiCoTA to the same problems under the same scorer, in the recipe's order."""
    compared = [model for model in models(results) if model.matched == "steps"]
    role = next((role for role in RIVALS if any(model.role == role for model in compared)), None)
    ours = [side for model in compared if model.role == "micota" for side in _sides(model)]
    rivals = [side for model in compared if model.role == role for side in _sides(model)]
    for by in scorers(results):
        for side in ours:
            yield from ((other, side) for other in rivals if _where(other) == _where(side) and side[1].spec.by == by)


def _sides(model: Model) -> list[Side]:
    ordered = [(evaluation, rows.sort_values(["problem", "sample"])) for evaluation, rows in model.cells]
    return [
        Side(model, evaluation, rows.drop_duplicates("problem").set_index("problem")) for evaluation, rows in ordered
    ]


def _where(side: Side) -> tuple[Any, ...]:
    evaluation = side.evaluation
    return evaluation.data_word, side.model.group, evaluation.variables.get("seed"), evaluation.spec.by


def _case(results: GradedAnswers, rival: Side, ours: Side) -> Case:
    keys = ours.rows.index.intersection(rival.rows.index).sort_values()
    own, theirs = (side.rows.loc[keys, "verdict"] == "correct" for side in (ours, rival))
    won, lost = keys[own & ~theirs], keys[theirs & ~own]
    key = (won if len(won) else keys)[0]
    data, student, seed, by = _where(ours)
    where = [f"Problem set {data}", f"student {student}" if student else "", f"seed {seed}" if seed is not None else ""]
    caption = text(
        "figure4",
        rule=text("figure4", "rule", a=ours.model.title, b=rival.model.title) if len(won) else text("figure4", "first"),
        problems=f"{len(keys):,}",
        won=f"{len(won):,}",
        lost=f"{len(lost):,}",
        where=", ".join(filter(None, where)),
        scorer=scorer_title(by),
    )
    rows = [results.responses(side.evaluation.model, data, scorer=by, problem=key).iloc[0] for side in (rival, ours)]
    sides = tuple(_response(side.model.title, row) for side, row in zip((rival, ours), rows, strict=True))
    problem, gold = (_there(rows[1][name]) for name in ("problem_text", "gold"))
    return Case("figure4", text("figure4", "title"), problem, gold, sides, caption)


def _response(title: str, row: Any) -> Response:
    response = _there(row["response"])
    return Response(title, row["verdict"].replace("_", " "), int(row["tokens"]), response, places(response))


def _there(value: Any) -> str:
    return value if isinstance(value, str) else LOST
