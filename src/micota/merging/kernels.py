"""What a merge does most, by machine code: random masks, and the commonest merge, of one task vector in bf16.

Torch needs nine operations for that merge, each through memory, and ten times as long; and it takes two seconds to
import. NumPy takes twice as long for the masks. Blocks are flat, as bytes; masks are bits, the first in the lowest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from micota.merging.buffers import Bytes
from micota.merging.kernels_llvm import code

if TYPE_CHECKING:
    import numpy as np

GROUP = 16
"""Elements that are computed at once."""
BYTES = 2 * GROUP
"""Their size in bf16."""
INFINITE = 0x7F80
"""The bits of a bf16 infinity, without its sign: whatever is below is finite."""


@dataclass(frozen=True)
class Seen:
    """What the walk over a block saw."""

    kept: int
    square: float
    """Inner product of the task vector with itself; NaN or infinity where an input holds one."""
    finite: bool
    """Whether inputs and result are."""


def draw(state: Sequence[int], level: int, size: int) -> tuple[Bytes, int]:
    """A random mask of `size` elements, from a state (a, b, c, counter) of SFC64 on, and how many it keeps: those whose
    16 random bits are below `level`, which is at most 2**16.
    """
    import numpy as np

    groups = -(-size // GROUP)
    bits = np.zeros(groups, dtype="<u2")
    count = code().draw(*state, level - 1, groups, bits.ctypes.data) if level and groups else 0
    if tail := size % GROUP:
        last = int(bits[-1])
        bits[-1] = last & ((1 << tail) - 1)
        count -= (last >> tail).bit_count()
    return bits.view(np.uint8), count


def sizes(base: Bytes, model: Bytes, mask: Bytes) -> tuple[float, float]:
    """The L1 norm of a task vector, and of what a mask keeps of it."""
    import numpy as np

    base, model = _padded(base), _padded(model)
    whole, left, groups = np.zeros(GROUP), np.zeros(GROUP), len(base) // BYTES
    assert len(model) == len(base) and len(mask) == 2 * groups
    if groups:
        code().sizes(*_places(base, model, mask), groups, *_places(whole, left))
    return math.fsum(whole), math.fsum(left)


def merge(base: Bytes, model: Bytes, mask: Bytes | None, factor: float, merged: Bytes) -> Seen:
    """Put base + factor * (model - base) into `merged` where an element is kept, and the base elsewhere; without a mask
    all are kept.

    Like torch.lerp it starts at the nearer end: at the base for |factor| < 0.5, else at the model.
    """
    import numpy as np

    base, model = _padded(base), _padded(model)
    groups = len(base) // BYTES
    with np.errstate(over="ignore"):
        step = np.float32(factor)
    anchor, way = (base, step) if abs(step) < 0.5 else (model, step - np.float32(1))
    bits = np.full(2 * groups, 255, dtype=np.uint8) if mask is None else mask
    out = merged if len(merged) == len(base) else np.empty_like(base)
    assert len(model) == len(base) and len(bits) == 2 * groups and 0 <= len(base) - len(merged) < BYTES
    squares, tops, count = np.zeros(GROUP), np.zeros(GROUP, dtype=np.uint16), 0
    if groups:
        inputs, outputs = _places(base, model, anchor, bits), _places(out, squares, tops)
        count = code().merge(*inputs, way, groups, *outputs)
    if out is not merged:
        merged[:] = out[: len(merged)]
    square = math.fsum(squares)
    finite = math.isfinite(square) and int(tops.max()) < INFINITE
    return Seen(len(merged) // 2 if mask is None else count, square, finite)


def _padded(block: Bytes) -> Bytes:
    """Whole groups; what is added is zero."""
    import numpy as np

    return np.pad(block, (0, -len(block) % BYTES)) if len(block) % BYTES else block


def _places(*arrays: np.ndarray[Any, Any]) -> list[int]:
    """Where their memory begins."""
    return [array.ctypes.data for array in arrays]
