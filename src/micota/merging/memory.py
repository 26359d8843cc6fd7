"""Memory that a thread keeps from block to block. Fresh memory for each would cost more than all arithmetic: the system
has to clear it first, and takes it back when it is freed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from micota.merging.masks import BLOCK

if TYPE_CHECKING:
    import torch

_DESK = threading.local()


def own(name: str, numel: int, dtype: torch.dtype) -> torch.Tensor:
    """`numel` elements in this thread's memory of that name, which the next call overwrites."""
    import torch

    desk: dict[str, torch.Tensor] = _DESK.__dict__
    size = numel * dtype.itemsize
    if name not in desk or len(desk[name]) < size:
        desk[name] = torch.empty(max(4 * BLOCK, size), dtype=torch.uint8)
    return desk[name][:size].view(dtype)


def fp32(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A flat tensor as fp32 in this thread's memory of that name."""
    import torch

    return own(name, tensor.numel(), torch.float32).copy_(tensor)
