"""What a merge does most: bf16 to fp32 and back, random masks, one task vector in bf16, weighted sums, inner products.

Plain NumPy says what they are; a large merge uses the same, compiled (`kernels_compiled.py`), in a tenth of the time.
Blocks of bf16 are flat, as uint16; masks are bits, the first in the lowest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micota.merging.buffers import INFINITE, LANES, Bytes, Floats, Words, is_finite, own, typed, words

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

ENOUGH = 2**27
"""Elements of a merge for which it pays to wait for numba: a second, and five more on a new machine."""
PIECE = 2**17
"""Elements that are computed at once: what is made of them stays in the processor's cache."""
_compiled = False


@dataclass(frozen=True)
class Seen:
    """What the walk over a block saw."""

    kept: int
    square: float
    """Inner product of the task vector with itself; NaN or infinity where an input holds one."""
    finite: bool
    """Whether inputs and result are."""


def prepare(elements: int) -> None:
    """A merge of so many elements begins: where that pays, with the compiled kernels."""
    global _compiled
    _compiled = elements >= ENOUGH


def is_compiled() -> bool:
    """Whether the merge at hand takes the compiled kernels."""
    return _compiled


def parts(inputs: Sequence[Bytes], dtypes: Sequence[str], row: int = 1) -> Iterator[tuple[slice, list[Bytes]]]:
    """The pieces of a block, in whole rows of so many elements: which elements, and their bytes of each input."""
    widths = [words(elements, dtype).itemsize for elements, dtype in zip(inputs, dtypes, strict=True)]
    size = len(inputs[0]) // widths[0]
    step = max(1, PIECE // row) * row
    for start in range(0, size, step):
        stop = min(size, start + step)
        yield slice(start, stop), [e[start * width : stop * width] for e, width in zip(inputs, widths, strict=True)]


def rows(elements: Sequence[Bytes], dtypes: Sequence[str]) -> Floats:
    """A piece of each input in fp32, [inputs, elements], in this thread's memory, which the next call overwrites."""
    import numpy as np

    size = len(words(elements[0], dtypes[0]))
    values = own("rows", 4 * len(elements) * size).view(np.float32).reshape(len(elements), -1)
    for part, dtype, row in zip(elements, dtypes, values, strict=True):
        widen(part, dtype, row)
    return values


def widen(elements: Bytes, dtype: str, row: Floats) -> None:
    """Put elements of a dtype of FLOATS into `row`, in fp32."""
    if dtype == "bfloat16" and _compiled:
        from micota.merging import kernels_compiled

        kernels_compiled.widen(words(elements, dtype), row.view("uint32"))
    elif dtype == "bfloat16":
        row[:] = _fp32(words(elements, dtype))
    elif dtype == "float32":
        row[:] = elements.view(dtype)
    else:  # in NumPy it takes ten times as long
        typed(row.view("uint8"), "float32").copy_(typed(elements, dtype))


def narrow(row: Floats, dtype: str, into: Bytes) -> bool:
    """Put fp32 numbers into `into` as elements of a dtype of FLOATS: to the nearest, ties to even. Whether all are
    finite, before and after.
    """
    if dtype == "bfloat16" and _compiled:
        from micota.merging import kernels_compiled

        kernels_compiled.narrow(row.view("uint32"), words(into, dtype))
    elif dtype == "bfloat16":
        bits = row.view("uint32")
        words(into, dtype)[:] = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    elif dtype == "float32":
        into.view(dtype)[:] = row
    else:
        typed(into, dtype).copy_(typed(row.view("uint8"), "float32"))
    return _finite(row.view("uint8"), "float32") and _finite(into, dtype)


def lanes(state: Sequence[int], size: int) -> Words:
    """`size` random numbers of 16 bits: the words of SFC64 from a state (a, b, c, counter) on, lowest bits first."""
    import numpy as np

    generator = np.random.SFC64()
    before = np.array(state, dtype=np.uint64)
    generator.state = {"bit_generator": "SFC64", "state": {"state": before}, "has_uint32": 0, "uinteger": 0}
    return generator.random_raw(-(-size // 4)).view("<u2")[:size]


def draw(state: Sequence[int], level: int, size: int) -> tuple[Bytes, int]:
    """A random mask of `size` elements, and how many it keeps: those whose lane is below `level`, at most 2**16."""
    import numpy as np

    if _compiled:
        from micota.merging import kernels_compiled

        bits = np.empty(-(-size // 8), dtype=np.uint8)
        kernels_compiled.draw(*np.array(state, dtype=np.uint64), np.uint64(level), bits)
        if size % 8:
            bits[-1] &= 2 ** (size % 8) - 1
    else:
        bits = np.packbits(lanes(state, size) < level, bitorder="little")
    return bits, int(np.bitwise_count(bits).sum())


def interpolate(base: Array, model: Array, mask: Bytes | None, factor: float, merged: Array) -> Seen:
    """Put base + factor * (model - base) into `merged` where an element is kept, and the base elsewhere; without a mask
    all are kept.

    It starts at the nearer end, as torch.lerp: at the base for |factor| < 0.5, else at the model. One rounding to fp32,
    one to bf16, to the nearest, ties to even.
    """
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        step = np.float32(factor)
        far = bool(abs(step) >= 0.5)
        way = step - np.float32(far)
        if _compiled:
            from micota.merging import kernels_compiled

            bits = np.full(-(-len(base) // 8), 255, dtype=np.uint8) if mask is None else mask
            square, top = kernels_compiled.interpolate(base, model, bits, way, far, merged)
        else:
            low, high = _fp32(base), _fp32(model)
            exact = (high if far else low).astype(np.float64) + (high - low).astype(np.float64) * np.float64(way)
            bits = exact.astype(np.float32).view(np.uint32)
            merged[:] = np.where(_bools(mask, len(base)), (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16, base)
            square, top = np.square(high - low, dtype=np.float64).sum(), (merged & 0x7FFF).max(initial=0)
    kept = len(base) if mask is None else int(np.bitwise_count(mask).sum())
    return Seen(kept, float(square), bool(np.isfinite(square)) and int(top) < INFINITE["bfloat16"])


def average(models: Sequence[Array], weights: Floats, divisor: np.float32, merged: Array) -> bool:
    """The weighted average of blocks of bf16 in a large merge, in one walk: what `add`, `divide` and `narrow` come to.
    Whether all is finite.
    """
    from micota.merging import kernels_compiled

    return bool(kernels_compiled.average(tuple(models), weights, divisor, merged))


def add(elements: Bytes, dtype: str, weight: np.float32, total: Floats) -> None:
    """Add weight * elements, of a dtype of FLOATS, to `total`, rounded once."""
    row = own("row", 4 * len(total)).view("float32")
    widen(elements, dtype, row)
    if _compiled:
        from micota.merging import vectors_compiled

        vectors_compiled.add(row, weight, total)
    else:
        total[:] = total.astype("float64") + row.astype("float64") * float(weight)


def divide(total: Floats, by: np.float32) -> None:
    """Divide numbers by one."""
    if _compiled:
        from micota.merging import vectors_compiled

        vectors_compiled.divide(total, by)
    else:
        total /= by


def inner(a: Floats, b: Floats) -> float:
    """Inner product of two flat fp32 arrays, in fp64 and in one order on every processor. NaN or infinity in either
    comes out as NaN or infinity.
    """
    import numpy as np

    sums, whole = np.zeros(LANES), len(a) // LANES * LANES
    if _compiled:
        from micota.merging import vectors_compiled

        vectors_compiled.inner(a, b, sums)
    else:
        products = a.astype("float64") * b
        sums += products[:whole].reshape(-1, LANES).sum(axis=0)
        sums[: len(a) - whole] += products[whole:]
    return float(sums.sum())


def total(numbers: Floats) -> float:
    """The sum of flat fp32 numbers, in fp64 and in one order on every processor."""
    import numpy as np

    sums, whole = np.zeros(LANES), len(numbers) // LANES * LANES
    sums += numbers[:whole].reshape(-1, LANES).sum(axis=0, dtype=np.float64)
    sums[: len(numbers) - whole] += numbers[whole:]
    return float(sums.sum())


def _finite(elements: Bytes, dtype: str) -> bool:
    if not _compiled or not len(elements):
        return is_finite(elements, dtype)
    from micota.merging import kernels_compiled

    return int(kernels_compiled.largest(words(elements, dtype))) < INFINITE[dtype]


def _fp32(block: Array) -> Floats:
    return (block.astype("uint32") << 16).view("float32")


def _bools(mask: Bytes | None, size: int) -> Array:
    import numpy as np

    return np.ones(size, dtype=bool) if mask is None else np.unpackbits(mask, count=size, bitorder="little").view(bool)
