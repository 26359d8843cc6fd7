"""Merge models by arithmetic on their task vectors (what a fine-tuned model has that its base has not).

Every method is one walk over a tensor, in blocks of 2**20 elements: subtract the base, drop entries at random
(DARE, Yu et al. 2023, arXiv 2311.03099), rescale what is left, weight, elect a sign (TIES, Yadav et al. 2023,
arXiv 2306.01708), add up, add the base, round once to the base's dtype. Sums are fp32, and every step is one
elementary operation, so the result is the same bit for bit for any number of threads.
No file is touched here: `micota.checkpoints` brings the tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from micota.errors import MicotaError
from micota.merging.masks import LEVELS, blocks, mask, mask_block
from micota.merging.tally import Tally

if TYPE_CHECKING:
    import torch

__all__ = ["Settings", "Tally", "check", "check_labels", "mask", "merge_blocks", "merge_tensor"]

Reader = Callable[[int, int], "torch.Tensor"]
"""Gives elements [start, stop) of a tensor, flat."""


@dataclass(frozen=True)
class Settings:
    """How to merge. The smallest: `Settings("linear", (0.5,))`, half way from the base to the model."""

    method: Literal["linear", "dare_linear", "dare_ties"]
    """linear: base + lambda * sum of weight_i * (model_i - base), that is, task arithmetic: weight 0 is the
    base, weight 1 the model, bit for bit. It is not an average of models. dare_linear drops entries of each
    task vector first; dare_ties then also lets the task vectors elect a sign per entry."""
    weights: tuple[float, ...]
    """One per model."""
    density: float = 1.0
    """Share of each task vector's entries that DARE keeps, in (0, 1], honoured to 1 in 65536."""
    lambda_: float = 1.0
    """Scale of the summed task vectors."""
    rescale: Literal["inverse_density", "l1", "none"] = "inverse_density"
    """What makes up for dropped entries, tensor by tensor: divide by the share really kept (DARE), restore
    the task vector's L1 norm (mergekit since February 2025), or nothing."""
    normalize: bool = False
    """Divide by the sum of the weights; with dare_ties, of the weights that survive at each entry."""
    seed: int = 0
    """Seed of the masks."""

    @property
    def drops(self) -> bool:
        """Whether any entry can be dropped."""
        return self.method != "linear" and self.density < 1


def check(settings: Settings, models: int | None = None) -> list[str]:
    """Remarks, in plain language, about settings that do nothing; impossible ones are a `MicotaError`."""
    _refuse_impossible(settings, models)
    one = sum(weight != 0 for weight in settings.weights) == 1
    idle = ", ".join(str(i + 1) for i, weight in enumerate(settings.weights) if weight == 0)
    method, density = settings.method, settings.density
    remarks = [
        (idle, f"weight 0: model {idle} takes no part in the merge"),
        (settings.lambda_ == 0, "lambda 0: the merge is the base"),
        (method == "linear" and density < 1, f"density {density:g} does nothing: linear keeps every entry"),
        (method != "linear" and density == 1, f"density 1 does nothing: {method} then drops no entry"),
        (method == "dare_ties" and one, "sign consensus does nothing: one task vector agrees with itself"),
        (settings.normalize and one, "normalize cancels the weight: with one task vector only lambda counts"),
    ]
    return [remark for applies, remark in remarks if applies]


def _refuse_impossible(settings: Settings, models: int | None) -> None:
    method, weights, density, rescale = settings.method, settings.weights, settings.density, settings.rescale
    methods, rescales = ("linear", "dare_linear", "dare_ties"), ("inverse_density", "l1", "none")
    finite = all(map(math.isfinite, (*weights, density, settings.lambda_)))
    problems = [
        (method not in methods, f"{method!r} is not a merge method: {', '.join(methods)} are"),
        (rescale not in rescales, f"{rescale!r} is not a way to rescale: {', '.join(rescales)} are"),
        (not weights, "a merge needs at least one model with its weight"),
        (models not in (None, len(weights)), f"{len(weights)} weights for {models} models"),
        (not finite, "weights, density and lambda must be finite numbers"),
        (not 0 < density <= 1, f"density {density:g} is outside (0, 1]"),
        (density * LEVELS <= 0.5, f"density {density:g} is too small: masks resolve 1 in {LEVELS}"),
        (
            settings.normalize and finite and math.fsum(weights) == 0,
            "normalize divides by weights that sum to 0",
        ),
    ]
    for applies, problem in problems:
        if applies:
            raise MicotaError(problem, where="merge settings")


def check_labels(labels: Sequence[str], models: int) -> None:
    """Every model needs a label, and no two the same: it is part of the model's masks."""
    if not len(set(labels)) == len(labels) == models:
        raise MicotaError(f"{models} models need as many different labels", where=", ".join(labels))


def merge_tensor(
    name: str,
    base: torch.Tensor,
    models: Sequence[torch.Tensor],
    labels: Sequence[str],
    settings: Settings,
    tally: Tally | None = None,
) -> torch.Tensor:
    """Merge one tensor that lies in memory; shape and dtype are the base's. A `tally` collects facts.

    >>> import torch
    >>> merge_tensor("w", torch.zeros(2), [torch.ones(2)], ["tuned"], Settings("linear", (0.5,)))
    tensor([0.5000, 0.5000])
    """
    import torch

    check_labels(labels, len(models))
    for label, model in zip(labels, models, strict=True):
        if model.shape != base.shape:
            shapes = f"{list(model.shape)} against {list(base.shape)}"
            raise MicotaError(f"tensor {name} has another shape than in the base: {shapes}", where=label)
    base_reader, *readers = (_reader(tensor) for tensor in (base, *models))
    merged = list(merge_blocks(name, base.numel(), base_reader, readers, labels, settings, tally))
    return torch.cat(merged).reshape(base.shape) if merged else base.clone()


def _reader(tensor: torch.Tensor) -> Reader:
    flat = tensor.reshape(-1)
    return lambda start, stop: flat[start:stop]


def merge_blocks(
    name: str,
    numel: int,
    base: Reader,
    models: Sequence[Reader],
    labels: Sequence[str],
    settings: Settings,
    tally: Tally | None = None,
) -> Iterator[torch.Tensor]:
    """Merge one tensor block by block: yields flat tensors in the base's dtype, in order; holds one block.

    Inputs are read once; twice if `l1` has something to rescale. Each label seeds its model's masks, so
    labels differ. A tensor that is not fp32, fp16 or bf16 is copied if all inputs agree on it, and an error
    if not. NaN or infinity, in an input or in the result, is a `MicotaError` that names the tensor.
    """
    check(settings, len(models))
    check_labels(labels, len(models))
    rescales = [_rescale(name, numel, base, *model, settings) for model in zip(models, labels, strict=True)]
    factors = [rescale * weight for rescale, weight in zip(rescales, settings.weights, strict=True)]
    for block, start, stop in blocks(numel):
        inputs = [read(start, stop) for read in (base, *models)]
        if not _mergeable(name, inputs, labels):
            yield inputs[0]
            continue
        merged, seen = _merge_block(name, block, inputs, labels, factors, settings)
        if tally is not None:
            tally.add(seen)
        yield merged


def _rescale(name: str, numel: int, base: Reader, model: Reader, label: str, settings: Settings) -> float:
    """What makes up for the entries dropped from one tensor's task vector; 0 if all of them were."""
    import numpy as np
    import torch

    if not settings.drops or settings.rescale == "none":
        return 1.0
    whole = left = 0.0
    for block, start, stop in blocks(numel):
        kept = mask_block(settings.seed, label, name, block, stop - start, settings.density)
        if settings.rescale == "l1":
            sizes = (model(start, stop).float() - base(start, stop).float()).abs()
            whole += float(sizes.numpy().sum(dtype="float64"))
            left += float(sizes.mul_(torch.from_numpy(kept)).numpy().sum(dtype="float64"))
        else:
            whole += kept.size
            left += np.count_nonzero(kept)
    return whole / left if left else 0.0


def _mergeable(name: str, inputs: Sequence[torch.Tensor], labels: Sequence[str]) -> bool:
    """Whether the inputs are numbers to do arithmetic on; False means: copy, they are all the same."""
    import torch

    if all(tensor.dtype in (torch.float32, torch.float16, torch.bfloat16) for tensor in inputs):
        return True
    for label, tensor in zip(labels, inputs[1:], strict=True):
        base = inputs[0]
        if tensor.dtype != base.dtype or not torch.equal(tensor.view(torch.uint8), base.view(torch.uint8)):
            dtypes = f"{tensor.dtype} and, in the base, {base.dtype}"
            why = "only float32, float16 and bfloat16 are merged; anything else must be the same everywhere"
            raise MicotaError(f"tensor {name} cannot be merged: {dtypes}", where=label, why=why)
    return False


def _merge_block(
    name: str,
    block: int,
    inputs: Sequence[torch.Tensor],
    labels: Sequence[str],
    factors: Sequence[float],
    settings: Settings,
) -> tuple[torch.Tensor, Tally]:
    import numpy as np
    import torch

    origin = inputs[0].float()
    vectors = [model.float() - origin for model in inputs[1:]]
    seen = Tally(origin.numel(), [origin.numel()] * len(vectors), _products(vectors))
    if settings.drops:
        for i, (vector, label) in enumerate(zip(vectors, labels, strict=True)):
            kept = mask_block(settings.seed, label, name, block, vector.numel(), settings.density)
            seen.kept[i] = int(np.count_nonzero(kept))
            vector.mul_(torch.from_numpy(kept))
    parts = [vector.mul_(factor) for vector, factor in zip(vectors, factors, strict=True)]
    seen.conflicts = _conflicts(parts)
    copied = _copied(settings)
    merged = (origin + _mix(parts, settings) if copied is None else inputs[copied]).to(inputs[0].dtype)
    if not (all(math.isfinite(row[-1]) for row in seen.products) and _is_finite(merged)):
        _refuse_not_finite(name, inputs, labels)
    return merged, seen


def _mix(parts: Sequence[torch.Tensor], settings: Settings) -> torch.Tensor:
    """Add up what was masked, rescaled and weighted: fp32, ready to be added to the base."""
    if settings.method != "dare_ties":
        mixed = sum(parts[1:], parts[0])
        divisor = math.fsum(settings.weights) if settings.normalize else 1.0
        return mixed * (settings.lambda_ / divisor)
    elected = (sum(parts[1:], parts[0]) >= 0).float() * 2 - 1  # a tie counts as +
    agree = [(part * elected > 0).float() for part in parts]
    terms = [part * vote for part, vote in zip(parts, agree, strict=True)]
    mixed = sum(terms[1:], terms[0])
    if settings.normalize:
        weights = [vote * weight for vote, weight in zip(agree, settings.weights, strict=True)]
        survivors = sum(weights[1:], weights[0])
        mixed = mixed / survivors.masked_fill(survivors == 0, 1.0)
    return mixed * settings.lambda_


def _copied(settings: Settings) -> int | None:
    """Which input (0: the base) the settings ask for unchanged, if any: sums may miss its last bit."""
    active = [i for i, weight in enumerate(settings.weights) if weight != 0]
    if not active or settings.lambda_ == 0:
        return 0
    weight = 1.0 if settings.normalize else settings.weights[active[0]]
    alone = len(active) == 1 and not settings.drops
    return active[0] + 1 if alone and weight * settings.lambda_ == 1 else None


def _products(vectors: Sequence[torch.Tensor]) -> list[list[float]]:
    return [[_dot(a, b) for b in vectors[: i + 1]] for i, a in enumerate(vectors)]


def _dot(a: torch.Tensor, b: torch.Tensor) -> float:
    """Inner product by rows of 1024, so that fp32 stays exact enough; one thread, so always the same."""
    import numpy as np

    rows = a.numel() // 1024 * 1024
    head = [t[:rows].view(-1, 1024).numpy() for t in (a, b)]
    tail = [t[rows:].numpy() for t in (a, b)]
    return float(np.einsum("ij,ij->i", *head).sum(dtype="float64") + np.einsum("i,i->", *tail))


def _conflicts(parts: Sequence[torch.Tensor]) -> int:
    if len(parts) < 2:
        return 0
    some_up, some_down = parts[0] > 0, parts[0] < 0
    for part in parts[1:]:
        some_up, some_down = some_up | (part > 0), some_down | (part < 0)
    return int((some_up & some_down).sum())


def _is_finite(tensor: torch.Tensor) -> bool:
    return math.isfinite(float(tensor.abs().max()))  # ten times faster than isfinite, and NaN comes through


def _refuse_not_finite(name: str, inputs: Sequence[torch.Tensor], labels: Sequence[str]) -> None:
    for label, tensor in zip(("base", *labels), inputs, strict=True):
        if not _is_finite(tensor):
            raise MicotaError(f"tensor {name} holds NaN or infinity", where=label, fix="use an intact copy")
    why = f"the inputs are finite, but the result does not fit {inputs[0].dtype}"
    fix = "lower the weights or lambda, or raise the density"
    raise MicotaError(f"tensor {name} overflows in the merge", why=why, fix=fix)
