"""Blocks of tensors as bytes and as torch sees them, and memory that a thread keeps from block to block.

Fresh memory for each block would cost more than all arithmetic: the system clears it first, and takes it back when it
is freed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import torch

Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"
"""Elements as they stand in a file: flat, uint8."""
FLOATS = ("float32", "float16", "bfloat16")
"""The dtypes that are merged, by torch's names."""
_BUFFERS = threading.local()


def own(name: str, size: int) -> Bytes:
    """`size` bytes in this thread's memory of that name, which the next call overwrites."""
    import numpy as np

    buffers: dict[str, Bytes] = _BUFFERS.__dict__
    if name not in buffers or len(buffers[name]) < size:
        buffers[name] = np.empty(size, dtype=np.uint8)
    return buffers[name][:size]


def fp32(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """A flat tensor as fp32 in this thread's memory of that name."""
    return typed(own(name, 4 * tensor.numel()), "float32").copy_(tensor)


def typed(elements: Bytes, dtype: str) -> torch.Tensor:
    """Bytes as a flat tensor of a dtype (torch's name), in the same memory."""
    import torch

    return torch.from_numpy(elements).view(getattr(torch, dtype))


def raw(tensor: torch.Tensor) -> Bytes:
    """The bytes of a tensor, in the same memory where it lies in one piece."""
    import torch

    return tensor.detach().reshape(-1).contiguous().view(torch.uint8).numpy()


def name_of(dtype: torch.dtype) -> str:
    """Torch's name of a dtype: float32, bfloat16, ..."""
    return str(dtype).removeprefix("torch.")
