"""Merge one tensor that lies in memory, by the steps that a merge of folders takes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from micota.merging import Settings, Tally, check, check_labels
from micota.merging.buffers import FLOATS, Bytes
from micota.merging.safetensor_files import NAMES, Entry
from micota.merging.tensor import TensorMerge


def merge_tensor(
    name: str,
    base: torch.Tensor,
    models: Sequence[torch.Tensor],
    labels: Sequence[str],
    settings: Settings,
    tally: Tally | None = None,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Merge one tensor that lies in memory; shape and, unless given, dtype are the base's. A `tally` collects facts."""
    check(settings, len(models))
    check_labels(labels, len(models))
    merged = torch.empty(base.shape, dtype=dtype if dtype and name_of(base.dtype) in FLOATS else base.dtype)
    entry = Entry(name, NAMES[name_of(merged.dtype)], tuple(base.shape))
    merge = TensorMerge(entry, labels, settings, [name_of(tensor.dtype) for tensor in (base, *models)])
    flat = [(raw(tensor), tensor.itemsize) for tensor in (base, *models, merged)]
    pieces = [
        (block, stop - start, [bits[start * size : stop * size] for bits, size in flat])
        for block, start, stop in merge.blocks()
    ]
    for single in merge.passes if pieces else ():
        single.conclude(merge.see(single, block, size, inputs) for block, size, (*inputs, _) in pieces)
    for block, _, (*inputs, into) in pieces:
        seen = merge.block(block, inputs, into)
        if tally is not None:
            tally.add(seen)
    return merged


def raw(tensor: torch.Tensor) -> Bytes:
    """The bytes of a tensor, in the same memory where it lies in one piece."""
    return tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy()


def name_of(dtype: torch.dtype) -> str:
    """Torch's name of a dtype: float32, bfloat16, ..."""
    return str(dtype).removeprefix("torch.")
