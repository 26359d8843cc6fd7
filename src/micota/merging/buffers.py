"""Blocks of tensors as bytes, as fp32 and as torch sees them, and memory that a thread keeps from block to block.

Fresh memory for each block would cost more than all arithmetic: the system clears it first, and takes it back when it
is freed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import torch

Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"
"""Elements as they stand in a file: flat, uint8."""
Floats: TypeAlias = "np.ndarray[Any, np.dtype[np.float32]]"
INFINITE = {"float32": 0x7F800000, "float16": 0x7C00, "bfloat16": 0x7F80}
"""The bits of infinity in the dtypes that are merged, by torch's names: whatever is below is finite."""
FLOATS = tuple(INFINITE)
PIECE = 2**17
"""Elements that are computed at once: what is made of them stays in the processor's cache."""
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


def pieces(inputs: Sequence[Bytes], dtypes: Sequence[str]) -> Iterator[tuple[slice, list[Bytes], Floats]]:
    """The pieces of a block: which elements, their bytes of each input, and fp32 [inputs, elements] in this thread's
    memory, which the next piece overwrites.
    """
    import numpy as np

    widths = [words(elements, dtype).itemsize for elements, dtype in zip(inputs, dtypes, strict=True)]
    size = len(inputs[0]) // widths[0]
    for start in range(0, size, PIECE):
        stop = min(size, start + PIECE)
        parts = [elements[start * width : stop * width] for elements, width in zip(inputs, widths, strict=True)]
        rows = own("rows", 4 * len(inputs) * (stop - start)).view(np.float32).reshape(len(inputs), -1)
        for part, dtype, row in zip(parts, dtypes, rows, strict=True):
            widen(part, dtype, row)
        yield slice(start, stop), parts, rows


def widen(elements: Bytes, dtype: str, row: Floats) -> None:
    """Put elements of a dtype of FLOATS into `row`, in fp32."""
    if dtype == "bfloat16":
        bits = row.view("uint32")
        bits[:] = words(elements, dtype)
        bits <<= 16
    elif dtype == "float32":
        row[:] = elements.view(dtype)
    else:  # in NumPy it takes ten times as long
        typed(row.view("uint8"), "float32").copy_(typed(elements, dtype))


def narrow(row: Floats, dtype: str, into: Bytes) -> None:
    """Put fp32 numbers into `into` as elements of a dtype of FLOATS: to the nearest, ties to even."""
    if dtype == "bfloat16":
        bits = row.view("uint32")
        up = bits >> 16
        up &= 1
        up += 0x7FFF
        up += bits
        up >>= 16
        words(into, dtype)[:] = up
    elif dtype == "float32":
        into.view(dtype)[:] = row
    else:
        typed(into, dtype).copy_(typed(row.view("uint8"), "float32"))


def is_finite(elements: Bytes, dtype: str) -> bool:
    """Whether no element is NaN or infinity."""
    bits = words(elements, dtype)
    return not bits.size or int((bits & (2 ** (8 * bits.itemsize - 1) - 1)).max()) < INFINITE[dtype]


def typed(elements: Bytes, dtype: str) -> torch.Tensor:
    """Bytes as a flat tensor of a dtype (torch's name), in the same memory."""
    import torch

    return torch.from_numpy(elements).view(getattr(torch, dtype))
