"""Merge models by arithmetic on their weights, or on their task vectors (what a fine-tuned model has that its base
has not).

Every method is one walk over a tensor, in blocks of 2**20 elements: subtract the base, drop entries (DARE, Yu et al.
2023, arXiv 2311.03099, at random; TIES, Yadav et al. 2023, arXiv 2306.01708, the smallest), rescale what is left,
weight, elect a sign (TIES), add up, add the base, round once. Sums are fp32, and every step is one elementary
operation, so the result is the same bit for bit for any number of threads.
No file is touched here: `micota.checkpoints` brings the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from micota.errors import MicotaError
from micota.merging.masks import blocks, mask
from micota.merging.settings import METHODS, RESCALES, Method, Rescale, Settings, check, check_labels
from micota.merging.tally import Tally
from micota.merging.tensor import TensorMerge, single_threaded

if TYPE_CHECKING:
    import torch

__all__ = [
    "METHODS",
    "RESCALES",
    "Method",
    "Rescale",
    "Settings",
    "Tally",
    "TensorMerge",
    "check",
    "check_labels",
    "mask",
    "merge_tensor",
]


def merge_tensor(
    name: str,
    base: torch.Tensor,
    models: Sequence[torch.Tensor],
    labels: Sequence[str],
    settings: Settings,
    tally: Tally | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Merge one tensor that lies in memory; shape and, unless given, dtype are the base's. A `tally` collects facts.

    >>> import torch
    >>> merge_tensor("w", torch.zeros(2), [torch.ones(2)], ["tuned"], Settings("task_arithmetic", (0.5,)))
    tensor([0.5000, 0.5000])
    """
    import torch

    check(settings, len(models))
    check_labels(labels, len(models))
    for label, model in zip(labels, models, strict=True):
        if model.shape != base.shape:
            shapes = f"{list(model.shape)} against {list(base.shape)}"
            raise MicotaError(f"tensor {name} has another shape than in the base: {shapes}", where=label)
    merge = TensorMerge(name, base.numel(), labels, settings, dtype or base.dtype)
    flat = [tensor.reshape(-1) for tensor in (base, *models)]
    pieces = [(block, [tensor[start:stop] for tensor in flat]) for block, start, stop in blocks(base.numel())]
    with single_threaded():
        for look in merge.looks:
            for block, inputs in pieces:
                if (seen := merge.see(look, block, inputs)) is not None:
                    look.learn(seen)
            look.done()
        merged = [merge.block(block, inputs) for block, inputs in pieces]
    if tally is not None:
        for _, facts in merged:
            tally.add(facts)
    return torch.cat([one for one, _ in merged]).reshape(base.shape) if merged else base.to(merge.dtype)
