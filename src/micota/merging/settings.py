"""How to merge: a method, its weights, densities and scales; what of it does nothing, and what is impossible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from micota.errors import MicotaError
from micota.merging.masks import LEVELS

SearchedMethod = Literal["linear", "slerp", "task_arithmetic", "ties", "dare_linear", "dare_ties"]
"""The methods whose weight, density or lambda a length dial turns."""
Method = Literal[
    SearchedMethod,
    "della",
    "della_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
    "sce",
    "model_stock",
    "nuslerp",
    "passthrough",
]
Rescale = Literal["inverse_density", "l1", "none"]
METHODS: tuple[str, ...] = get_args(Method)
RESCALES: tuple[str, ...] = get_args(Rescale)
RANDOM = ("dare_linear", "dare_ties", "della", "della_linear")
"""The methods that drop entries of task vectors at random; della the smaller ones rather than the larger."""
BY_SIZE = ("ties", "breadcrumbs", "breadcrumbs_ties", "sce")
"""The methods that drop entries by their size: ties the smallest, breadcrumbs the largest too, sce those on which the
task vectors differ least."""
THINNING = (*BY_SIZE, *RANDOM)
UNSEEN = ("task_arithmetic", "dare_linear", "dare_ties")
"""The methods that keep entries of a task vector without looking at them: all, or some at random."""
ELECTING = ("ties", "dare_ties", "della", "breadcrumbs_ties", "sce")
"""The methods in which the task vectors elect a sign for each entry."""
AVERAGING = ("linear", "slerp")
"""The methods that know no task vectors: they average whole models."""
WEIGHING = ("sce", "model_stock")
"""The methods that find the weights themselves, tensor by tensor."""
FIXED = (*WEIGHING, "nuslerp", "passthrough")
"""The methods without lambda, rescale and normalize."""
EPSILON, GAMMA = 0.15, 0.01
"""mergekit's defaults."""


@dataclass(frozen=True)
class Settings:
    """How to merge. The smallest: `Settings("task_arithmetic", (0.5,))`, half way from the base to the model."""

    method: Method
    """linear: sum of weight_i * model_i, divided by the sum of the weights; the base is no part of it unless it stands
    among the models. slerp: from the base to the one model along the arc, as far as its weight says (mergekit's t).
    task_arithmetic: base + lambda * sum of weight_i * (model_i - base): weight 0 is the base, weight 1 the model, bit
    for bit. dare_linear drops entries of each task vector at random first. dare_ties then also lets the task vectors
    elect a sign for each entry, as ties does, which drops the smallest entries instead."""
    weights: tuple[float, ...]
    """One per model."""
    density: float | tuple[float, ...] = 1.0
    """Share of each task vector's entries that is kept, in (0, 1]; one for all models or one for each. Masks honour
    it to 1 in 65536."""
    lambda_: float = 1.0
    """Scale of the summed task vectors."""
    rescale: Rescale = "inverse_density"
    """What makes up for dropped entries, tensor by tensor: divide by the share really kept (DARE), restore the task
    vector's L1 norm (mergekit's dare methods since February 2025), or nothing (mergekit's ties)."""
    normalize: bool | None = None
    """Divide by the sum of the weights; in methods that elect signs, of the weights that survive at each entry.
    None is mergekit's default: in linear, ties and della, and in no other method."""
    seed: int = 0
    """Seed of the masks."""
    epsilon: float = EPSILON
    """For della: from the smallest to the largest entry of a row the share that is kept rises from density - epsilon
    to density + epsilon."""
    gamma: float = GAMMA
    """For breadcrumbs: share of the largest entries that is dropped; less, if the density would not be reached."""
    whole: bool = False
    """For nuslerp: between whole models in place of task vectors."""

    @property
    def densities(self) -> tuple[float, ...]:
        """One per model."""
        return self.density if isinstance(self.density, tuple) else (self.density,) * len(self.weights)

    @property
    def normalizes(self) -> bool:
        """Whether sums are divided by the weights."""
        return self.method in ("linear", "ties", "della") if self.normalize is None else self.normalize

    def drops(self, model: int) -> bool:
        """Whether any entry of a model's task vector can be dropped."""
        return self.method in THINNING and self.densities[model] < 1

    @property
    def identity(self) -> dict[str, Any]:
        """All fields; those that came later only where they are not their defaults."""
        later = {"epsilon": EPSILON, "gamma": GAMMA, "whole": False}
        return {key: value for key, value in asdict(self).items() if key not in later or value != later[key]}


def settings_of(merge: Any) -> Settings:
    """The settings of a recipe's merge, the spec `Merge`, for all tensors; what is None there is the default."""
    weights = merge.weights or (() if merge.method == "passthrough" else (1.0,) * len(merge.models))
    own = {key: value for key in ("epsilon", "gamma") if (value := getattr(merge, key)) is not None}
    return Settings(
        merge.method, weights, merge.density, merge.lambda_, merge.rescale or "none", merge.normalize, merge.seed, **own
    )


def check(settings: Settings, models: int | None = None) -> list[str]:
    """Remarks, in plain language, about settings that do nothing; impossible ones are a `MicotaError`."""
    _refuse_impossible(settings, models)
    single = sum(weight != 0 for weight in settings.weights) == 1
    idle = ", ".join(str(i + 1) for i, weight in enumerate(settings.weights) if weight == 0)
    method = settings.method
    full = all(density == 1 for density in settings.densities)
    cancels = settings.normalizes and single and method != "slerp"
    alone = "normalize cancels the weight: with one model " + ("it is a copy" if method == "linear" else "only lambda")
    remarks = [
        (idle and method not in ("slerp", "nuslerp"), f"weight 0: model {idle} takes no part in the merge"),
        (settings.lambda_ == 0 and method not in (*AVERAGING, *FIXED), "lambda 0: the merge is the base"),
        (settings.lambda_ != 1 and method in AVERAGING, f"lambda does nothing: {method} knows no task vectors"),
        (method not in THINNING and not full, f"density does nothing: {method} keeps every entry"),
        (method in THINNING and full, f"density 1 does nothing: {method} then drops no entry"),
        (method in ELECTING and single, "sign consensus does nothing: one task vector agrees with itself"),
        (cancels, alone + ("" if method == "linear" else " counts")),
    ]
    return [remark for applies, remark in remarks if applies]


def _refuse_impossible(settings: Settings, models: int | None) -> None:
    method, weights, rescale, densities = settings.method, settings.weights, settings.rescale, settings.densities
    finite = all(map(math.isfinite, (*weights, *densities, settings.lambda_, settings.epsilon, settings.gamma)))
    divides = settings.normalizes and method not in ("slerp", *ELECTING)
    thin = next((d for d in densities if not 0 < d <= 1), None) if finite else None
    tiny = next((d for d in densities if 0 < d * LEVELS <= 0.5), None) if method not in BY_SIZE else None
    least, most = {"passthrough": (0, 0), "nuslerp": (2, 2), "model_stock": (2, None)}.get(method, (1, None))
    problems = [
        (method not in METHODS, f"{method!r} is not a merge method: {', '.join(METHODS)} are"),
        (rescale not in RESCALES, f"{rescale!r} is not a way to rescale: {', '.join(RESCALES)} are"),
        (least == 1 and not weights, "a merge needs at least one model with its weight"),
        (models not in (None, len(weights)), f"{len(weights)} weights for {models} models"),
        (len(densities) != len(weights), f"{len(densities)} densities for {len(weights)} models"),
        (method == "slerp" and len(weights) != 1, f"slerp goes from the base to one model, not to {len(weights)}"),
        (len(weights) < least, f"{method} needs {least} models beside the base, not {len(weights)}"),
        (most is not None and len(weights) > (most or 0), f"{method} takes {most} models, not {len(weights)}"),
        (not finite, "weights, density, lambda, epsilon and gamma must be finite numbers"),
        (thin is not None, f"density {thin or 0:g} is outside (0, 1]"),
        (tiny is not None, f"density {tiny or 0:g} is too small: masks resolve 1 in {LEVELS}"),
        (divides and finite and math.fsum(weights) == 0, "normalize divides by weights that sum to 0"),
        *_own_problems(settings),
    ]
    for applies, problem in problems:
        if applies:
            raise MicotaError(problem, where="merge settings")


def _own_problems(settings: Settings) -> list[tuple[bool, str]]:
    """What is impossible with the settings that only some methods have."""
    method, epsilon, densities = settings.method, settings.epsilon, settings.densities
    steep = next((d for d in densities if d < 1 and not epsilon < d < 1 - epsilon), None)
    della = method in ("della", "della_linear")
    alike = len(set(densities)) > 1
    others = [
        (settings.lambda_ != 1 and method != "passthrough", "lambda"),
        (settings.normalize is not None, "normalize"),
        (method in WEIGHING and any(weight != 1 for weight in settings.weights), "weight"),
    ]
    return [
        (della and steep is not None, f"density {steep or 0:g} with epsilon {epsilon:g}: both density - epsilon and "
         "density + epsilon must lie between 0 and 1"),
        (della and epsilon < 0, f"epsilon {epsilon:g} is negative"),
        (not 0 <= settings.gamma < 1, f"gamma {settings.gamma:g} is outside [0, 1)"),
        (not della and epsilon != EPSILON, f"{method} has no epsilon: della has"),
        (not method.startswith("breadcrumbs") and settings.gamma != GAMMA, f"{method} has no gamma: breadcrumbs has"),
        (method == "sce" and alike, "sce has one density for all models"),
        *((applies and method in FIXED, f"{method} has no {name}") for applies, name in others),
    ]  # fmt: skip


def check_labels(labels: Sequence[str], models: int) -> None:
    """Every model needs a label, and no two the same: it is part of the model's masks."""
    if not len(set(labels)) == len(labels) == models:
        raise MicotaError(f"{models} models need as many different labels", where=", ".join(labels))
