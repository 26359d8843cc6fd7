"""Task vectors thinned, weighted, elected and added up: in NumPy, and compiled for a large merge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from micota.merging import kernels
from micota.merging.buffers import LANES, Bytes, Floats
from micota.merging.masks import as_bools
from micota.merging.tally import Tally

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

LARGEST = 0x7FFFFFFF
"""No magnitude has larger bits."""


@dataclass(frozen=True)
class Kept:
    """Which entries of a task vector are kept: by a bit of each, the first in the lowest (all are set without them),
    and by size."""

    bits: Bytes | None = None
    above: int = LARGEST
    """The bits of a magnitude from which on, exclusive, an entry is kept without its bit."""
    least: int = 0
    """The same, from which on, inclusive, it is kept with its bit."""

    def bools(self, vector: Floats) -> Array:
        """Of a piece: bool [size]."""
        import numpy as np

        marked: Array = np.ones(len(vector), dtype=bool) if self.bits is None else as_bools(self.bits, len(vector))
        if self.above < LARGEST or self.least:
            sizes = magnitudes(vector)
            marked &= sizes >= self.least
            marked |= sizes > self.above
        return marked


@dataclass(frozen=True)
class Addition:
    """How task vectors become one."""

    factors: Sequence[tuple[float, float]]
    """Two for each model, one after the other: each is rounded on its own."""
    weights: Sequence[float]
    """Of each model, by which the sum is divided."""
    elects: Literal["no", "weighted", "plain"] = "no"
    """Whether entries elect a sign, and by what: what is kept, weighted or as it is."""
    divides: bool = False
    """By the weights; in an election by those of the entries that agree."""
    least: float = 0.0
    """Where a sum of weights is less, it is taken for this one; for 0, a sum of 0 for 1."""
    scale: float = 1.0
    """Of the sum."""

    def add(self, values: Floats, kept: Sequence[Kept | None], mixed: Floats) -> Tally:
        """Put base + sum of the task vectors into `mixed`: fp32 [size]. `values` are the base and the models, fp32
        [models + 1, size], and are overwritten; `kept` has None for a model that keeps all.
        """
        if kernels.is_compiled():
            return self._compiled(values, kept, mixed)
        import numpy as np

        origin, vectors = values[0], values[1:]
        vectors -= origin
        tally = Tally(len(origin), [len(origin)] * len(vectors), _products(vectors))
        for i, keep in enumerate(kept):
            if keep:
                bools = keep.bools(vectors[i])
                tally.kept[i] = int(np.count_nonzero(bools))
                vectors[i] *= bools
        votes = _votes(vectors) if self.elects == "plain" else None
        for vector, factors in zip(vectors, self.factors, strict=True):
            for factor in factors:
                vector *= factor
        tally.conflicts = int(np.count_nonzero((vectors > 0).any(axis=0) & (vectors < 0).any(axis=0)))
        if self.elects == "weighted":
            votes = _votes(vectors)
        np.add(self._sum(vectors, votes), origin, out=mixed)
        return tally

    def _sum(self, vectors: Floats, votes: Array | None) -> Floats:
        """The sum; of the entries that agree with the elected sign, where there was an election."""
        import numpy as np

        if votes is not None:
            vectors *= votes
        total: Floats = vectors.sum(axis=0)
        weights = np.array(self.weights, dtype=np.float32)
        if self.divides and votes is not None:
            whole = (votes * weights[:, None]).sum(axis=0)
            total /= np.maximum(whole, np.float32(self.least)) if self.least else np.where(whole == 0, 1, whole)
        elif self.divides:
            total /= self._whole
        return total * self.scale if self.scale != 1 else total

    @property
    def _whole(self) -> np.float32:
        import math

        import numpy as np

        return np.float32(math.fsum(self.weights))

    def _compiled(self, values: Floats, kept: Sequence[Kept | None], mixed: Floats) -> Tally:
        import numpy as np

        from micota.merging import vectors_compiled

        count, size = len(kept), values.shape[1]
        bits = _bits(kept, size)
        bounds = np.array([(each.above, each.least) if each else (-1, 0) for each in kept], dtype=np.int32)
        sums, seen = np.zeros((count, count, LANES)), np.zeros(count + 1, dtype=np.int64)
        vectors_compiled.add_vectors(
            values, bits, bounds, np.array(self.factors, dtype=np.float32), np.array(self.weights, dtype=np.float32),
            ("no", "weighted", "plain").index(self.elects), self.divides, self._whole, np.float32(self.least),
            np.float32(self.scale), sums, seen, mixed,
        )  # fmt: skip
        products = [[float(sums[i, j].sum()) for j in range(i + 1)] for i in range(count)]
        return Tally(size, [int(each) for each in seen[:-1]], products, int(seen[-1]))


def sizes(values: Floats, kept: Sequence[Kept | None]) -> Array:
    """[models, 2]: the L1 norm of each task vector and of what is kept of it, 0 where all is; `values` as in `add`."""
    import numpy as np

    found = np.zeros((len(kept), 2))
    if kernels.is_compiled():
        from micota.merging import vectors_compiled

        bits, sums = _bits(kept, values.shape[1]), np.zeros((2, LANES))
        for i, each in enumerate(kept):
            if each:
                sums[:] = 0
                vectors_compiled.sizes(values[0], values[i + 1], bits[i], each.above, each.least, sums)
                found[i] = sums.sum(axis=1)
        return found
    vectors = values[1:] - values[0]
    for i, each in enumerate(kept):
        if each:
            whole = np.abs(vectors[i])
            found[i] = kernels.total(whole), kernels.total(whole * each.bools(vectors[i]))
    return found


def count(base: Floats, model: Floats, high: int | None, counts: Array) -> None:
    """Count the magnitudes of a task vector by the upper 15 of their 31 bits; with `high`, those that have these by the
    lower 16. Adds to `counts`. Raises ValueError for rows of different lengths.
    """
    if len(base) != len(model):
        raise ValueError(f"a base of {len(base)} entries and a model of {len(model)}")
    import numpy as np

    if kernels.is_compiled():
        from micota.merging import vectors_compiled

        vectors_compiled.count(base, model, -1 if high is None else high, counts)
        return
    bits = magnitudes(model - base)
    places = bits >> 16 if high is None else bits[(bits >> 16) == high] & 0xFFFF
    counts += np.bincount(places, minlength=len(counts))


def weighted(values: Floats, factors: Sequence[float], mixed: Floats) -> None:
    """Put the sum of rows of numbers, each with its factor, into `mixed`; `values` are overwritten."""
    import numpy as np

    numbers = np.array(factors, dtype=np.float32)
    if kernels.is_compiled():
        from micota.merging import vectors_compiled

        vectors_compiled.weighted(values, numbers, mixed)
        return
    values *= numbers[:, None]
    values.sum(axis=0, out=mixed)


def magnitudes(vectors: Floats) -> Array:
    """The bits of |x| as integers, which are in the order of the magnitudes."""
    bits: Array = vectors.view("int32") & LARGEST
    return bits


def _bits(kept: Sequence[Kept | None], size: int) -> Array:
    """uint8 [models, bytes]: all are set where there are none."""
    import numpy as np

    bits = np.full((len(kept), -(-size // 8)), 255, dtype=np.uint8)
    for row, each in zip(bits, kept, strict=True):
        if each and each.bits is not None:
            row[:] = each.bits[: len(row)]
    return bits


def _products(vectors: Floats) -> list[list[float]]:
    return [[kernels.inner(a, b) for b in vectors[: i + 1]] for i, a in enumerate(vectors)]


def _votes(vectors: Floats) -> Array:
    """Whether an entry has the sign of the sum of all; where that is zero, +: bool [models, size]."""
    import numpy as np

    down = np.sum(vectors, axis=0) < 0
    votes: Array = ((vectors > 0) != down) & (vectors != 0)  # np.where takes ten times as long
    return votes
