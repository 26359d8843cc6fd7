"""What a merge does most: random masks, one task vector in bf16, weighted sums.

Plain NumPy says what they are; a large merge uses the same, compiled (`kernels_compiled.py`), in a tenth of the time.
Blocks of bf16 are flat, as uint16; masks are bits, the first in the lowest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micota.merging.buffers import INFINITE, Bytes, Floats

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

ENOUGH = 2**27
"""Elements of a merge for which it pays to wait for numba: a second, and two more on a new machine."""
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


def draw(state: Sequence[int], level: int, size: int) -> tuple[Bytes, int]:
    """A random mask of `size` elements, and how many it keeps: those whose 16 bits of the words of SFC64, from a state
    (a, b, c, counter) on, are below `level`, which is at most 2**16.
    """
    import numpy as np

    words = np.empty(-(-size // 4), dtype=np.uint64)
    before = np.array(state, dtype=np.uint64)
    if _compiled:
        from micota.merging import kernels_compiled

        kernels_compiled.random_words(*before, words)
    else:
        stream = np.random.SFC64()
        stream.state = {"bit_generator": "SFC64", "state": {"state": before}, "has_uint32": 0, "uinteger": 0}
        words[:] = stream.random_raw(len(words))
    kept = words.view("<u2")[:size] < level
    return np.packbits(kept, bitorder="little"), int(np.count_nonzero(kept))


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


def sizes(base: Array, model: Array, mask: Bytes) -> tuple[float, float]:
    """The L1 norm of a task vector, and of what a mask keeps of it."""
    import numpy as np

    if _compiled:
        from micota.merging import kernels_compiled

        whole, left = kernels_compiled.sizes(base, model, mask)
    else:
        each = abs(_fp32(model) - _fp32(base)).astype(np.float64)
        whole, left = each.sum(), each[_bools(mask, len(each))].sum()
    return float(whole), float(left)


def add(numbers: Floats, weight: np.float32, total: Floats) -> None:
    """Add weight * numbers to `total`, rounded once."""
    if _compiled:
        from micota.merging import kernels_compiled

        kernels_compiled.add(numbers, weight, total)
    else:
        total[:] = total.astype("float64") + numbers.astype("float64") * float(weight)


def _fp32(block: Array) -> Floats:
    return (block.astype("uint32") << 16).view("float32")


def _bools(mask: Bytes | None, size: int) -> Array:
    import numpy as np

    return np.ones(size, dtype=bool) if mask is None else np.unpackbits(mask, count=size, bitorder="little").view(bool)
