"""The kernels of a large merge, compiled by numba for the processor at hand and kept on the disk for the next process.

What they compute is what `kernels.py` writes in NumPy, in rows that stay in the processor's fastest memory. They use no
operation that processors may do differently, and add up in a fixed order.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from micota.merging.buffers import INFINITE, LANES

ROW = 4096
"""Elements of a row."""
LARGEST = np.int32(0x7FFFFFFF)
"""All bits but that of the sign."""
INFINITE32, INFINITE16 = np.uint32(INFINITE["float32"]), np.uint16(INFINITE["bfloat16"])
EIGHTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").view(np.uint64)[:, 0]
"""The eight bools of a byte of a mask."""
ONE, THREE, ELEVEN, FIFTEEN, TURN, BACK, AT = map(np.uint64, (1, 3, 11, 15, 24, 40, 48))
NO_BITS, NIBBLE, HALF, MOST = map(np.uint64, (0, 15, 0x7FFF, 0xFFFF))
EACH, GATHER = np.uint64(0x0001_0001_0001_0001), np.uint64(2**48 + 2**33 + 2**18 + 2**3)
"""One for each 16 bits of a word; and what puts the lowest bits of each next to each other, from bit 48 on."""
HIGHEST = EACH << FIFTEEN


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
def draw(a: np.uint64, b: np.uint64, c: np.uint64, counter: np.uint64, level: np.uint64, bits: Any) -> None:
    """Bits that are set where 16 bits of the words of SFC64 (Doty-Humphrey, PractRand) are below `level` (<= 2**16).

    Four are compared at once: where one is not below, subtracting the level leaves the highest bit that was set before.
    """
    low, high = EACH * (level & HALF), level > HALF
    for i in range(bits.size):
        byte = NO_BITS
        for half in range(2):
            word = a + b + counter
            counter += ONE
            a = b ^ (b >> ELEVEN)
            b = c + (c << THREE)
            c = ((c << TURN) | (c >> BACK)) + word
            left = (word | HIGHEST) - low
            below = HIGHEST & ~(word & left if high else word | left)
            byte |= (((below >> FIFTEEN) * GATHER >> AT) & NIBBLE) << np.uint64(4 * half)
        bits[i] = np.uint8(byte) if level <= MOST else np.uint8(255)


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
        top = max(top, largest(merged[start:stop]))
    return sums.sum(), top


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
def add_up(rows: Any, sums: Any) -> None:
    """Add rows of LANES numbers in fp32 to as many sums in fp64."""
    for j in range(rows.shape[0]):
        for i in range(LANES):
            sums[i] += rows[j, i]


@compiled
def largest(bits: Any) -> Any:
    """The largest absolute value of numbers, as bits."""
    mask = bits.dtype.type(LARGEST >> (32 - 8 * bits.itemsize))
    top = bits.dtype.type(0)
    for i in range(bits.size):
        size = bits.dtype.type(bits[i] & mask)
        top = size if size > top else top
    return top


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


@compiled
def average(blocks: Any, weights: Any, divisor: np.float32, merged: Any) -> bool:
    """bf16(sum of weights[i] * blocks[i] / divisor), each product added with one rounding, of blocks of bf16, as bits.
    Whether all is finite, before and after.
    """
    total, finite = np.empty(ROW, np.float32), True
    for start in range(0, merged.size, ROW):
        row, into = total[: merged.size - start], merged[start : start + ROW]
        row[:] = np.float32(0)
        for i in range(len(blocks)):
            add_bf16(blocks[i][start : start + ROW], weights[i], row)
        for i in range(row.size):
            row[i] /= divisor
        narrow(row.view(np.uint32), into)
        finite &= largest(row.view(np.uint32)) < INFINITE32 and largest(into) < INFINITE16
    return finite


@compiled
def add_bf16(block: Any, weight: np.float32, total: Any) -> None:
    """Add weight * block, of bf16 as bits, with one rounding."""
    for i in range(total.size):
        total[i] = fused(np.uint32(np.uint32(block[i]) << 16).view(np.float32), weight, total[i])
