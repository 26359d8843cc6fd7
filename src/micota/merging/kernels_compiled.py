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
NOTHING, UNIT = np.float32(0), np.float32(1)
LARGEST = np.int32(0x7FFFFFFF)
"""All bits but that of the sign."""
EIGHTS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little").view(np.uint64)[:, 0]
"""The eight bools of a byte of a mask."""
ZERO, ONE, TWO, THREE, FOUR, ELEVEN, LANE, TURN, BACK, TAIL = map(np.uint64, (0, 1, 2, 3, 4, 11, 16, 24, 40, 0xFFFF))


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
    """Bits that are set where 16 bits of the words of SFC64 (Doty-Humphrey, PractRand) are below `level`."""
    for i in range(bits.size):
        byte = np.uint64(0)
        for half in (ZERO, FOUR):
            word = a + b + counter
            counter += ONE
            a = b ^ (b >> ELEVEN)
            b = c + (c << THREE)
            c = ((c << TURN) | (c >> BACK)) + word
            for lane in (ZERO, ONE, TWO, THREE):
                byte |= np.uint64(((word >> (lane * LANE)) & TAIL) < level) << (half + lane)
        bits[i] = np.uint8(byte)


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


@compiled
def add_vectors(
    values: Any, bits: Any, bounds: Any, factors: Any, weights: Any, elects: int, divides: bool, whole: np.float32,
    least: np.float32, scale: np.float32, sums: Any, seen: Any, mixed: Any,
) -> None:  # fmt: skip
    """The walk of `vectors.Addition.add`; adds products to `sums`, and to `seen` what is kept of each and conflicts."""
    count, keep, signs = values.shape[0] - 1, np.empty(ROW, np.float32), np.empty(ROW, np.uint32)
    votes, shares = np.empty((count, ROW), np.float32), np.empty(ROW, np.float32)
    for start in range(0, mixed.size, ROW):
        stop = min(start + ROW, mixed.size)
        total, origin = mixed[start:stop], values[0, start:stop]
        for j in range(count):
            subtract(values[j + 1, start:stop], origin)
            for i in range(j + 1):
                inner(values[j + 1, start:stop], values[i + 1, start:stop], sums[j, i])
        for j in range(count):
            seen[j] += stop - start
            if bounds[j, 0] >= 0:
                vector = values[j + 1, start:stop]
                choose(vector, bits[j, start // 8 : (stop + 7) // 8], bounds[j, 0], bounds[j, 1], keep)
                seen[j] -= zeros(keep[: stop - start])
                multiply(vector, keep)
        for after in range(2):
            if elects == 2 - after:
                sum_up(values, start, stop, total)
                for j in range(count):
                    vote(values[j + 1, start:stop], total, votes[j])
            for j in range(0 if after else count):
                weigh(values[j + 1, start:stop], factors[j, 0], factors[j, 1])
        for j in range(count if count > 1 else 0):
            mark(values[j + 1, start:stop], signs, j == 0)
        seen[count] += both(signs[: stop - start]) if count > 1 else 0
        for j in range(count if elects else 0):
            multiply(values[j + 1, start:stop], votes[j])
        sum_up(values, start, stop, total)
        if divides:
            shares[:] = NOTHING if elects else whole
            for j in range(count if elects else 0):
                add(votes[j], weights[j], shares)
            divide(total, shares, least)
        finish(total, scale, origin)


@compiled
def subtract(vector: Any, origin: Any) -> None:
    for i in range(vector.size):
        vector[i] -= origin[i]


@compiled
def choose(vector: Any, bits: Any, above: np.int32, least: np.int32, keep: Any) -> None:
    """`vectors.Kept.bools` as 1 and 0."""
    for i in range(bits.size):
        for j in range(8):
            keep[8 * i + j] = np.float32((bits[i] >> np.uint8(j)) & np.uint8(1))
    if above < LARGEST or least > 0:
        for i in range(vector.size):
            size = np.int32(np.float32(vector[i]).view(np.int32) & LARGEST)
            marked = keep[i] if size >= least else NOTHING
            keep[i] = UNIT if size > above else marked


@compiled
def zeros(row: Any) -> int:
    found = 0
    for i in range(row.size):
        found += row[i] == NOTHING
    return found


@compiled
def multiply(vector: Any, by: Any) -> None:
    for i in range(vector.size):
        vector[i] *= by[i]


@compiled
def weigh(vector: Any, first: np.float32, second: np.float32) -> None:
    for i in range(vector.size):
        vector[i] = (vector[i] * first) * second


@compiled
def sum_up(values: Any, start: int, stop: int, total: Any) -> None:
    """Columns of all rows but the first, in their order."""
    for j in range(1, values.shape[0]):
        row = values[j, start:stop]
        if j == 1:
            for i in range(total.size):
                total[i] = row[i]
        else:
            for i in range(total.size):
                total[i] += row[i]


@compiled
def vote(vector: Any, total: Any, agrees: Any) -> None:
    """1 where an entry has the sign of the sum; where that is zero, +."""
    for i in range(vector.size):
        up = UNIT if vector[i] > NOTHING else NOTHING
        down = UNIT if vector[i] < NOTHING else NOTHING
        agrees[i] = down if total[i] < NOTHING else up


@compiled
def mark(vector: Any, signs: Any, first: bool) -> None:
    """Note whether a number is above 0, and whether one is below."""
    for i in range(vector.size):
        sign = np.uint32(1) if vector[i] > NOTHING else np.uint32(2) if vector[i] < NOTHING else np.uint32(0)
        signs[i] = sign if first else np.uint32(signs[i] | sign)


@compiled
def both(signs: Any) -> int:
    """Where numbers of either sign were noted."""
    found = 0
    for i in range(signs.size):
        found += signs[i] == np.uint32(3)
    return found


@compiled
def divide(total: Any, shares: Any, least: np.float32) -> None:
    for i in range(total.size):
        share = max(shares[i], least) if least > NOTHING else shares[i]
        total[i] /= UNIT if share == NOTHING else share


@compiled
def finish(total: Any, scale: np.float32, origin: Any) -> None:
    for i in range(total.size):
        total[i] = total[i] * scale + origin[i]


@compiled
def weighted(values: Any, factors: Any, mixed: Any) -> None:
    """The sum of rows, each with its factor."""
    for start in range(0, mixed.size, ROW):
        total = mixed[start : start + ROW]
        for j in range(values.shape[0]):
            row, factor = values[j, start : start + ROW], factors[j]
            if j == 0:
                for i in range(total.size):
                    total[i] = row[i] * factor
            else:
                for i in range(total.size):
                    total[i] += row[i] * factor


@compiled
def sizes(base: Any, model: Any, bits: Any, above: np.int32, least: np.int32, sums: Any) -> None:
    """Add |model - base| to LANES sums, and what is kept of it to as many."""
    keep, vector = np.empty(ROW, np.float32), np.zeros(ROW, np.float32)
    for start in range(0, base.size, ROW):
        stop = min(start + ROW, base.size)
        distance(base[start:stop], model[start:stop], vector)
        vector[stop - start :] = 0
        add_up(vector.reshape(-1, LANES), sums[0])
        choose(vector, bits[start // 8 : (stop + 7) // 8], above, least, keep)
        multiply(vector[: stop - start], keep)
        add_up(vector.reshape(-1, LANES), sums[1])


@compiled
def distance(base: Any, model: Any, vector: Any) -> None:
    for i in range(base.size):
        vector[i] = abs(model[i] - base[i])


@compiled
def count(base: Any, model: Any, high: int, counts: Any) -> None:
    """`vectors.count`; -1: by the upper half of the bits."""
    for i in range(base.size):
        bits = np.int32(np.float32(model[i] - base[i]).view(np.int32) & LARGEST)
        if high < 0:
            counts[bits >> 16] += 1
        elif bits >> 16 == high:
            counts[bits & 0xFFFF] += 1
