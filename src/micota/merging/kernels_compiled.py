"""The kernels of a large merge, compiled by numba for the processor at hand and kept on the disk for the next process.

What they compute is what `kernels.py` writes in NumPy, in rows that stay in the processor's fastest memory. They use no
operation that processors may do differently, and add up in a fixed order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from micota.merging.buffers import LANES

ROW = 4096
"""Elements of a row."""
EIGHTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").view(np.uint64)[:, 0]
"""The eight bools of a byte of a mask."""
ONE, THREE, ELEVEN, TURN, BACK = map(np.uint64, (1, 3, 11, 24, 40))


def compiled(function: Any) -> Any:
    """Machine code that lets other threads run; kept on the disk, where there is a place for it."""
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither this folder nor the user's can be written
        return njit(**options)(function)


@intrinsic  # type: ignore[untyped-decorator]
def fused(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in fp32 with one rounding."""
    return types.float32(types.float32, types.float32, types.float32), lambda _, builder, __, args: builder.fma(*args)


@compiled
def random_words(a: np.uint64, b: np.uint64, c: np.uint64, counter: np.uint64, out: Any) -> None:
    """The next words of SFC64 (Doty-Humphrey, PractRand)."""
    for i in range(out.size):
        out[i] = a + b + counter
        counter += ONE
        a = b ^ (b >> ELEVEN)
        b = c + (c << THREE)
        c = ((c << TURN) | (c >> BACK)) + out[i]


@compiled
def interpolate(base: Any, model: Any, mask: Any, way: np.float32, far: bool, merged: Any) -> tuple[float, np.uint16]:
    """bf16(end + way * (model - base)) where an element is kept, else the base; `far`: the end is the model. Returns
    the sum of (model - base)**2 and the largest |merged|, as bits.
    """
    keep, squares, sums, top = np.empty(ROW, np.bool_), np.empty(ROW, np.float32), np.zeros(LANES), np.uint16(0)
    for start in range(0, base.size, ROW):
        stop = min(start + ROW, base.size)
        spread(mask[start // 8 : (stop + 7) // 8], keep.view(np.uint64))
        squares[stop - start :] = 0
        step(base[start:stop], model[start:stop], keep, way, far, merged[start:stop], squares)
        add_up(squares.reshape(-1, LANES), sums)
        top = max(top, highest(merged[start:stop]))
    return sums.sum(), top


@compiled
def sizes(base: Any, model: Any, mask: Any) -> tuple[float, float]:
    """The sum of |model - base|, and of those that are kept."""
    keep, rows, whole, left = np.empty(ROW, np.bool_), np.empty((2, ROW), np.float32), np.zeros(LANES), np.zeros(LANES)
    for start in range(0, base.size, ROW):
        stop = min(start + ROW, base.size)
        spread(mask[start // 8 : (stop + 7) // 8], keep.view(np.uint64))
        rows[:, stop - start :] = 0
        distance(base[start:stop], model[start:stop], keep, rows[0], rows[1])
        add_up(rows[0].reshape(-1, LANES), whole)
        add_up(rows[1].reshape(-1, LANES), left)
    return whole.sum(), left.sum()


@compiled
def spread(mask: Any, eights: Any) -> None:
    """Bits as bools, eight at a time."""
    for i in range(mask.size):
        eights[i] = EIGHTS[mask[i]]


@compiled
def step(base: Any, model: Any, keep: Any, way: np.float32, far: bool, merged: Any, squares: Any) -> None:
    """A row of `interpolate`."""
    for i in range(base.size):
        low = np.uint32(np.uint32(base[i]) << 16).view(np.float32)
        high = np.uint32(np.uint32(model[i]) << 16).view(np.float32)
        vector = high - low
        squares[i] = vector * vector
        bits = np.float32(fused(vector, way, high if far else low)).view(np.uint32)
        rounded = np.uint32(bits + np.uint32(0x7FFF) + (np.uint32(bits >> 16) & np.uint32(1)))
        merged[i] = np.uint16(rounded >> 16) if keep[i] else base[i]


@compiled
def distance(base: Any, model: Any, keep: Any, size: Any, kept: Any) -> None:
    """A row of `sizes`."""
    for i in range(base.size):
        low = np.uint32(np.uint32(base[i]) << 16).view(np.float32)
        size[i] = abs(np.uint32(np.uint32(model[i]) << 16).view(np.float32) - low)
        kept[i] = size[i] if keep[i] else np.float32(0)


@compiled
def add_up(rows: Any, sums: Any) -> None:
    """Add rows of LANES numbers in fp32 to as many sums in fp64."""
    for j in range(rows.shape[0]):
        for i in range(LANES):
            sums[i] += rows[j, i]


@compiled
def highest(block: Any) -> np.uint16:
    """The largest absolute value of a row in bf16, as bits."""
    top = np.uint16(0)
    for i in range(block.size):
        size = np.uint16(block[i] & np.uint16(0x7FFF))
        top = size if size > top else top
    return top


@compiled
def add(numbers: Any, weight: np.float32, total: Any) -> None:
    """total + weight * numbers."""
    for i in range(total.size):
        total[i] = fused(numbers[i], weight, total[i])


@compiled
def add_bf16(block: Any, weight: np.float32, total: Any) -> None:
    """The same for bf16, as bits."""
    for i in range(total.size):
        total[i] = fused(np.uint32(np.uint32(block[i]) << 16).view(np.float32), weight, total[i])


@compiled
def inner(a: Any, b: Any, sums: Any) -> None:
    """Add the products of two rows of numbers to LANES sums in fp64."""
    whole = a.size // LANES * LANES
    for start in range(0, whole, LANES):
        for i in range(LANES):
            sums[i] += np.float64(a[start + i]) * np.float64(b[start + i])
    for i in range(whole, a.size):
        sums[i - whole] += np.float64(a[i]) * np.float64(b[i])


@compiled
def widen(block: Any, row: Any) -> None:
    """bf16 as fp32, both as bits."""
    for i in range(block.size):
        row[i] = np.uint32(block[i]) << 16


@compiled
def narrow(row: Any, block: Any) -> None:
    """fp32 as bf16, both as bits: to the nearest, ties to even."""
    for i in range(row.size):
        block[i] = np.uint16(np.uint32(row[i] + np.uint32(0x7FFF) + (np.uint32(row[i] >> 16) & np.uint32(1))) >> 16)
