"""The calls that build merged models: merges, the line between two models, and the length dial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from micota.errors import expected
from micota.recipe.signature import build, constructor
from micota.recipe.words import as_model, as_problems
from micota.specs import Learner, LengthDial, Merge, Model, Probe, Problems, Slice, Subset, Target

ModelLike = Model | str | Path
ProblemsLike = Problems | Subset | str | Path
ProbeLike = Probe | ProblemsLike | Mapping[str, Any]


def listed(values: Any, what: str) -> Sequence[Any]:
    """A list or tuple of something; MicotaError for anything else."""
    sequence: Sequence[Any] = expected(values, list | tuple, f"a list of {what}")
    return sequence


@constructor(Merge, hidden=("lambda_",), extra=("lambda",))
def merge(
    base: ModelLike,
    models: Sequence[ModelLike] = (),
    *,
    weight: Annotated[
        float | tuple[float, ...] | None, Field(description="the weight of one model, in place of `weights`")
    ] = None,
    **fields: Any,
) -> Merge:
    """A weighted merge of fine-tuned models with their pre-fine-tuning checkpoint.

    In Python the DARE methods rescale by default as their paper does: `inverse_density`. A recipe writes it out.
    `passthrough` needs no `models`: they are those of its slices, and the other files are the base's.

    >>> mid = merge(ta, [ta_long], method="dare_ties", density=0.7, weight=0.6)
    >>> deep = merge(ta, method="passthrough", slices=[{"model": ta, "layers": (0, 24)},
    ...                                                {"model": ta, "layers": (8, 28)}])
    """
    fields |= {} if weight is None else {"weight": weight}
    if "slices" in fields:
        fields["slices"] = slices = [_sliced(part) for part in listed(fields["slices"], "slices")]
        named = [part["model"] for part in slices if isinstance(part, dict) and "model" in part]
        models = models or list(dict.fromkeys(named + [part.model for part in slices if isinstance(part, Slice)]))
    tuned = [as_model(model) for model in listed(models, "models")]
    return build(Merge, base=as_model(base), models=tuned, **_rescaled(fields))


@constructor(Merge, Slice)
def interpolate(
    base: ModelLike,
    model: ModelLike,
    weight: Annotated[float, Field(description="how far to go: 0 is the base, 1 the model; beyond is extrapolation")],
) -> Merge:
    """The model on the straight line between two: base + weight (model - base), tensor by tensor (arXiv 2510.10977).

    It is `merge` with the method task_arithmetic, and one artifact with it.

    >>> middle = interpolate("Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B-Thinking-2507", 0.5)
    """
    return merge(base, [model], method="task_arithmetic", weight=weight)


def _sliced(part: Any) -> Any:
    return {**part, "model": as_model(part["model"])} if isinstance(part, dict) and "model" in part else part


def _rescaled(fields: dict[str, Any]) -> dict[str, Any]:
    """DARE's own rescale (Yu et al., arXiv 2311.03099) where none is stated."""
    return {"rescale": "inverse_density", **fields} if str(fields.get("method")).startswith("dare_") else fields


@constructor(LengthDial, hidden=("lambda_",), extra=("lambda",))
def dial(base: ModelLike, models: Sequence[ModelLike], target: Target, probe: ProbeLike, **fields: Any) -> LengthDial:
    """The merge whose responses have the wanted length, searched on probe problems.

    `weight`, `density` and `lambda` are values, or ranges `(low, high)` to search. `probe` is a problem set, or a
    mapping that also says how it is asked: `{"data": math, "n": 200, "prompt": ..., "sampling": ...}`.

    >>> mid = dial(ta, [ta_long], method="dare_ties", density=0.7, weight=(0.3, 0.9),
    ...            target=length(0.5, of=ta_long), probe=math.take(200))
    """
    probe = probe if isinstance(probe, Probe | Subset | Mapping) else as_problems(probe)
    models = [as_model(model) for model in listed(models, "models")]
    return build(LengthDial, base=as_model(base), models=models, target=target, probe=probe, **_rescaled(fields))


def length(share: float, of: ModelLike) -> Target:
    """The target of a dial: a share of another model's mean response length."""
    return build(Target, length=share, of=as_model(of))


def tokens(mean: float, of: ModelLike) -> Target:
    """The target of a dial: mean tokens of a response; `of` is whose accuracy may fall by at most `max_loss`."""
    return build(Target, tokens=mean, of=as_model(of))


@constructor(Learner, Target, hidden=("rank", "length", "tokens"))
def rank(student: ModelLike, of: ModelLike, **fields: Any) -> Target:
    """The target of a dial: the candidate whose verified chains a student learns best from by a measure.

    `of` is whose accuracy may fall by at most `max_loss`. `micota rank` says what a measure is worth.

    >>> mid = dial(ta, [ta_long], method="dare_ties", density=0.7, weight=(0.3, 0.9),
    ...            target=rank(student, of=ta_long), probe=math.take(200))
    """
    return build(Target, rank=build(Learner, student=as_model(student), **fields), of=as_model(of))
