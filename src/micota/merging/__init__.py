"""Merge models by arithmetic on their weights, or on their task vectors (what a fine-tuned model has that its base
has not).

Every method is one walk over a tensor, in blocks of 2**20 elements: subtract the base, drop entries (DARE, Yu et al.
2023, arXiv 2311.03099, at random; TIES, Yadav et al. 2023, arXiv 2306.01708, the smallest), rescale what is left,
weight, elect a sign (TIES), add up, add the base, round once. Sums are fp32, and every step is one elementary
operation, so the result is the same bit for bit for any number of threads.
No file is touched here: `micota.merging.folders` brings the tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from micota.errors import MicotaError
from micota.merging.buffers import FLOATS, name_of, raw
from micota.merging.masks import blocks
from micota.merging.safetensor_files import NAMES, Entry
from micota.merging.settings import METHODS, RESCALES, Method, Rescale, Settings, check, check_labels, settings_of
from micota.merging.tally import Tally
from micota.merging.tensor import TensorMerge, single_threaded

if TYPE_CHECKING:
    import torch

__all__ = ["METHODS", "RESCALES", "Method", "Rescale", "Settings", "Tally", "check", "merge_tensor", "settings_of"]


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
    merged = torch.empty(base.shape, dtype=dtype if dtype and name_of(base.dtype) in FLOATS else base.dtype)
    entry = Entry(name, NAMES[name_of(merged.dtype)], tuple(base.shape))
    merge = TensorMerge(entry, labels, settings, [name_of(tensor.dtype) for tensor in (base, *models)])
    flat = [(raw(tensor), tensor.itemsize) for tensor in (base, *models, merged)]
    pieces = [
        (block, stop - start, [bits[start * size : stop * size] for bits, size in flat])
        for block, start, stop in blocks(entry.numel)
    ]
    with single_threaded():
        for single in merge.passes if pieces else ():
            single.conclude(merge.see(single, block, size, inputs) for block, size, (*inputs, _) in pieces)
        for block, _, (*inputs, into) in pieces:
            seen = merge.block(block, inputs, into)
            if tally is not None:
                tally.add(seen)
    return merged
