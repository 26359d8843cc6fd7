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
Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"
Words: TypeAlias = "np.ndarray[Any, np.dtype[np.uint16]]"
INFINITE = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}
"""The bits of infinity in the dtypes that are merged, by torch's names: whatever is below is finite."""
LANES = 128
"""Sums that are kept side by side."""
FLOATS = tuple(INFINITE)
_BUFFERS = threading.local()


def own(name: str, size: int) -> Bytes:
    """`size` bytes in this thread's memory of that name, which the next call overwrites."""
    import numpy as np

    buffers: dict[str, Bytes] = _BUFFERS.__dict__
    if name not in buffers or len(buffers[name]) < size:
        buffers[name] = np.empty(size, dtype=np.uint8)
    return buffers[name][:size]


def words(elements: Bytes, dtype: str) -> np.ndarray[Any, Any]:
    """The bits of elements of a dtype of FLOATS as unsigned integers, in the same memory."""
    return elements.view("uint32" if dtype == "float32" else "uint16")


def is_finite(elements: Bytes, dtype: str) -> bool:
    """Whether no element is NaN or infinity."""
    bits = words(elements, dtype)
    return not bits.size or int((bits & (2 ** (8 * bits.itemsize - 1) - 1)).max()) < INFINITE[dtype]


def typed(elements: Bytes, dtype: str) -> torch.Tensor:
    """Bytes as a flat tensor of a dtype (torch's name), in the same memory."""
    import torch

    return torch.from_numpy(elements).view(getattr(torch, dtype))
