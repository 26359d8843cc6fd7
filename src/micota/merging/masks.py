"""Which entries of a task vector DARE keeps: random, and the same for ever.

A tensor is cut into blocks of 2**20 elements and every block has a random stream of its own, seeded by (seed,
model label, tensor name, block number) and drawn on the CPU. So a mask does not depend on the number of
threads, the order of the tensors, the files they lie in, or the point where a merge was resumed. What this
file computes is part of a merged model's identity: it may become faster, but its values must not change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from micota.merging import kernels as compiled
from micota.merging.buffers import Bytes

if TYPE_CHECKING:
    import numpy as np
    import torch

BLOCK = 2**20
"""Elements that share a random stream."""
LEVELS = 2**16
"""An entry survives if its 16 random bits are below density * LEVELS, rounded to the nearest integer."""


def blocks(numel: int) -> Iterator[tuple[int, int, int]]:
    """(block number, start, stop) for every block of a tensor of `numel` elements; the last may be short."""
    for block, start in enumerate(range(0, numel, BLOCK)):
        yield block, start, min(start + BLOCK, numel)


def mask_bits(seed: int, model: str, tensor: str, block: int, size: int, density: float) -> tuple[Bytes, int]:
    """Which of the first `size` entries of one block survive, as bits, the first in the lowest; and how many do.

    The stream is NumPy's SFC64, seeded by the SHA-256 (as a little-endian integer) of the JSON list
    [seed, model, tensor, block]; entry i reads the i-th 16 bits of its raw 64-bit words, lowest first.
    So a lower density keeps a subset of what a higher one keeps.
    """
    import numpy as np

    key = hashlib.sha256(json.dumps([seed, model, tensor, block]).encode()).digest()
    state = np.random.SFC64(int.from_bytes(key, "little")).state["state"]["state"]
    return compiled.draw(state.tolist(), round(density * LEVELS), size)


def mask_block(seed: int, model: str, tensor: str, block: int, size: int, density: float) -> np.ndarray[Any, Any]:
    """The same mask: bool [size]."""
    return as_bools(mask_bits(seed, model, tensor, block, size, density)[0], size)


def as_bools(bits: Bytes, size: int) -> np.ndarray[Any, Any]:
    """The first `size` bits, the lowest first: bool [size]."""
    import numpy as np

    return np.unpackbits(bits, count=size, bitorder="little").view(bool)


def mask(seed: int, model: str, tensor: str, numel: int, density: float) -> torch.Tensor:
    """Which entries of a tensor survive: bool [numel], True with probability `density`.

    >>> mask(0, "tuned", "model.norm.weight", 4, 1.0)
    tensor([True, True, True, True])
    """
    import torch

    kept = torch.ones(numel, dtype=torch.bool)
    for block, start, stop in blocks(numel):
        kept[start:stop] = torch.from_numpy(mask_block(seed, model, tensor, block, stop - start, density))
    return kept
