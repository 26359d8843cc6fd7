"""Which entries of a task vector DARE keeps: random, and the same for ever.

A tensor is cut into blocks of 2**20 elements. Every block has a random stream of its own, seeded by (seed, model label,
tensor name, block number). So a mask does not depend on the number of threads, the order of the tensors, the files that
they lie in, or the point where a merge was resumed. What this file computes is part of a merged model's identity: it
may become faster, but its values must not change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from micota.merging import kernels
from micota.merging.buffers import Bytes, Words

if TYPE_CHECKING:
    import numpy as np

BLOCK = 2**20
"""Elements that share a random stream."""
LEVELS = 2**16
"""An entry survives if its 16 random bits are below density * LEVELS, rounded to the nearest integer."""


def blocks(numel: int, row: int = 1) -> Iterator[tuple[int, int, int]]:
    """(block number, start, stop) for every block of a tensor of `numel` elements; the last may be short.

    With a `row` they are as much shorter as it takes to hold whole rows of so many elements.
    """
    step = BLOCK // row * row
    for block, start in enumerate(range(0, numel, step)):
        yield block, start, min(start + step, numel)


def mask_bits(seed: int, model: str, tensor: str, block: int, size: int, density: float) -> tuple[Bytes, int]:
    """Which of the first `size` entries of one block survive, as bits, the first in the lowest; and how many do.

    The stream is NumPy's SFC64, seeded by the SHA-256 (as a little-endian integer) of the JSON list
    [seed, model, tensor, block]; entry i reads the i-th 16 bits of its raw 64-bit words, lowest first.
    So a lower density keeps a subset of what a higher one keeps.
    """
    return kernels.draw(_state(seed, model, tensor, block), round(density * LEVELS), size)


def lanes(seed: int, model: str, tensor: str, block: int, size: int) -> Words:
    """The 16 random bits of each of the first `size` entries of a block, which `mask_bits` compares: uint16 [size]."""
    return kernels.lanes(_state(seed, model, tensor, block), size)


def _state(seed: int, model: str, tensor: str, block: int) -> list[int]:
    import numpy as np

    key = hashlib.sha256(json.dumps([seed, model, tensor, block]).encode()).digest()
    state: list[int] = np.random.SFC64(int.from_bytes(key, "little")).state["state"]["state"].tolist()
    return state


def as_bools(bits: Bytes, size: int) -> np.ndarray[Any, Any]:
    """The first `size` bits, the lowest first: bool [size]."""
    import numpy as np

    return np.unpackbits(bits, count=size, bitorder="little").view(bool)
