"""The compiled walks over rows of fp32: task vectors thinned, weighted, elected and added up, sums and counts of them.

What they compute is what `vectors.py` and `kernels.py` write in NumPy. A kernel kept on the disk depends on this file
alone: numba does not see that another one has changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from micota.merging.buffers import LANES
from micota.merging.kernels_compiled import ROW, compiled, fused

NOTHING, UNIT = np.float32(0), np.float32(1)
LARGEST = np.int32(0x7FFFFFFF)
"""All bits but that of the sign."""


@compiled
def add(numbers: Any, weight: np.float32, total: Any) -> None:
    """total + weight * numbers."""
    for i in range(total.size):
        total[i] = fused(numbers[i], weight, total[i])


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
def divide(total: Any, by: np.float32) -> None:
    """Each number by one number."""
    for i in range(total.size):
        total[i] /= by


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
    """|model - base|."""
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
            divide_each(total, shares, least)
        finish(total, scale, origin)


@compiled
def subtract(vector: Any, origin: Any) -> None:
    """A task vector in place of the model's row."""
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
    """How many of a row are 0."""
    found = 0
    for i in range(row.size):
        found += row[i] == NOTHING
    return found


@compiled
def multiply(vector: Any, by: Any) -> None:
    """Each number by its own: what is dropped becomes 0."""
    for i in range(vector.size):
        vector[i] *= by[i]


@compiled
def weigh(vector: Any, first: np.float32, second: np.float32) -> None:
    """Two factors, each with a rounding of its own, as mergekit has them."""
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
def divide_each(total: Any, shares: Any, least: np.float32) -> None:
    """Each sum by the share of those that added to it, at least `least` where that is above 0; by 1 where none did."""
    for i in range(total.size):
        share = max(shares[i], least) if least > NOTHING else shares[i]
        total[i] /= UNIT if share == NOTHING else share


@compiled
def finish(total: Any, scale: np.float32, origin: Any) -> None:
    """The sum, scaled and added to the base."""
    for i in range(total.size):
        total[i] = total[i] * scale + origin[i]


@compiled
def add_up(rows: Any, sums: Any) -> None:
    """Add rows of LANES numbers to as many sums in fp64."""
    for j in range(rows.shape[0]):
        for i in range(LANES):
            sums[i] += rows[j, i]
