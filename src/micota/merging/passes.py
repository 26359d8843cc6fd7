"""What has to be known of a whole tensor before its first block can be merged: passes over all its blocks.

A pass sees every block once. `see` is what one block says, and may run on any thread; `conclude` takes these in the
order of the blocks. So the conclusion does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from micota.merging import kernels
from micota.merging.buffers import Bytes, Floats
from micota.merging.masks import as_bools, mask_bits
from micota.merging.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

Pieces: TypeAlias = "Iterable[tuple[slice, Sequence[Bytes], Floats]]"
"""The pieces of a block as fp32 [inputs, elements], the base first; none if nothing is read."""
Bits: TypeAlias = "Bytes | None"
"""A random mask of a block, the first element in the lowest bit; None where chance has no part."""
HIGH, LOW = 2**15, 2**16
"""Buckets of the two halves of a magnitude's 31 bits."""


class Selection:
    """Which entries of one tensor's task vectors are kept, and by how much to multiply them: what passes find out."""

    def __init__(self, settings: Settings, labels: Sequence[str], name: str, fine: bool) -> None:
        self.settings, self.labels, self.name = settings, labels, name
        self.fine = fine
        """Whether fp32 tensors take part."""
        self.rescale = [1.0] * len(labels)
        """Per model: what makes up for dropped entries; 0 where none was kept."""
        self.threshold = [-1] * len(labels)
        """Per model, for ties: entries whose magnitude's bits are above it are kept."""
        self.share = [1.0] * len(labels)
        """Per model, for ties: which share of the entries exactly at the threshold is kept."""
        self.arc = (0.0, 0.0)
        """For slerp: what the base and the model are multiplied with."""
        self.masks: dict[tuple[int, int], tuple[Bytes, int]] = {}
        """(model, block) -> its random mask, from a pass until it is used."""

    def keep(self, model: int, bits: Bits, start: int, vector: Floats) -> Array:
        """Which entries of a piece of one task vector are kept: bool [size]. `start`: where in its block it begins."""
        import numpy as np

        size = len(vector)
        chance: Array = np.ones(size, dtype=bool) if bits is None else as_bools(bits[start // 8 :], size)
        if self.settings.method != "ties":
            return chance
        above, threshold = magnitudes(vector), self.threshold[model]
        chance &= above == threshold  # many are of the same size, as in bf16
        chance |= above > threshold
        return chance

    def bits(self, model: int, block: int, size: int) -> Bits:
        """The random mask of a block that `keep` wants."""
        if self.settings.method == "ties":
            share = self.share[model]
            return self._mask(model, block, size, share)[0] if share < 1 else None
        return self.random(model, block, size)[0] if self.settings.drops(model) else None

    def random(self, model: int, block: int, size: int) -> tuple[Bytes, int]:
        """A random mask as bits, the first in the lowest, and how many are set; one in `masks` is taken from there."""
        if (mask := self.masks.pop((model, block), None)) is not None:
            return mask
        return self._mask(model, block, size, self.settings.densities[model])

    def _mask(self, model: int, block: int, size: int, density: float) -> tuple[Bytes, int]:
        return mask_bits(self.settings.seed, self.labels[model], self.name, block, size, density)


class Thresholds:
    """For ties: the k-th largest magnitude of each task vector, found exactly by counting bits.

    A first pass finds the upper half of its bits, a second the lower.
    """

    reads = True

    def __init__(self, selection: Selection, numel: int) -> None:
        self._selection, self._settings = selection, selection.settings
        self._wanted = [max(1, int(density * numel)) for density in selection.settings.densities]
        self._high: list[int] | None = None

    def see(self, block: int, size: int, pieces: Pieces) -> list[Array]:
        """For each model how many magnitudes lie in each bucket."""
        import numpy as np

        bits = np.empty((len(self._wanted), size), dtype=np.int32)
        for place, _, rows in pieces:
            bits[:, place] = magnitudes(rows[1:] - rows[0])
        return [self._count(i, row) for i, row in enumerate(bits)]

    def _count(self, i: int, bits: Array) -> Array:
        import numpy as np

        if not self._settings.drops(i):
            return np.zeros(1, dtype=np.int64)
        if self._high is None:
            return np.bincount(bits >> 16, minlength=HIGH)
        return np.bincount(bits[(bits >> 16) == self._high[i]] & 0xFFFF, minlength=LOW)

    def conclude(self, seen: Iterable[list[Array]]) -> None:
        """Add up the counts and find the bucket of each model's threshold."""
        counts = [sum(side) for side in zip(*seen, strict=True)]
        buckets = [self._find(i, each) for i, each in enumerate(counts)]
        if self._high is None:
            self._high = buckets
            return
        for i, low in enumerate(buckets):
            if self._settings.drops(i):
                self._selection.threshold[i] = (self._high[i] << 16) + low
                self._selection.share[i] = self._wanted[i] / int(counts[i][low])

    def _find(self, i: int, counts: Array) -> int:
        """The bucket in which the k-th largest lies; what lies above it is taken from what is still wanted."""
        import numpy as np

        if not self._settings.drops(i):
            return 0
        from_top = np.cumsum(counts[::-1])
        at = int(np.searchsorted(from_top, self._wanted[i]))
        self._wanted[i] -= int(from_top[at - 1]) if at else 0
        return len(from_top) - 1 - at


class Rescales:
    """The factors that make up for dropped entries, from what the masks of all blocks keep.

    A random mask costs more to make than to store: those of a tensor that needs no more than MEMORY are stored.
    """

    MEMORY = 2**27
    """Bytes."""

    def __init__(self, selection: Selection, numel: int) -> None:
        self._selection, self._settings = selection, selection.settings
        self._stores = self._settings.method != "ties" and numel * len(selection.labels) <= 8 * self.MEMORY
        self.reads = self._settings.rescale == "l1" or self._settings.method == "ties"

    def see(self, block: int, size: int, pieces: Pieces) -> Array:
        """[models, 2]: what was there and what is kept, a count or a sum of magnitudes; 0 where nothing is dropped."""
        import numpy as np

        seen = np.zeros((len(self._selection.labels), 2))
        dropping = [i for i in range(len(seen)) if self._settings.drops(i)]
        if not self.reads:
            for i in dropping:
                seen[i] = size, self._random(i, block, size)[1]
            return seen
        ties = self._settings.method == "ties"
        bits = {i: self._selection.bits(i, block, size) if ties else self._random(i, block, size)[0] for i in dropping}
        for place, _, rows in pieces:
            for i in dropping:
                seen[i] += self._sizes(i, bits[i], place.start, rows[i + 1] - rows[0])
        return seen

    def see_single(self, block: int, base: Array, model: Array) -> Array:
        """The same for the L1 norm of one task vector in bf16."""
        import numpy as np

        return np.array([kernels.sizes(base, model, self._random(0, block, len(base))[0])])

    def _sizes(self, model: int, bits: Bits, start: int, vector: Floats) -> tuple[float, float]:
        import numpy as np

        keep = self._selection.keep(model, bits, start, vector)
        if self._settings.rescale != "l1":
            return float(len(vector)), float(np.count_nonzero(keep))
        sizes = np.abs(vector, out=vector)
        return self._sum(sizes), self._sum(np.multiply(sizes, keep, out=sizes))

    def _sum(self, sizes: Floats) -> float:
        """In fp32 as torch adds them up, and so mergekit; without fp32 tensors it makes no difference."""
        if not self._selection.fine:
            return float(sizes.sum(dtype="float64"))
        import torch

        return float(torch.from_numpy(sizes).sum())

    def _random(self, model: int, block: int, size: int) -> tuple[Bytes, int]:
        mask = self._selection.random(model, block, size)
        if self._stores:
            self._selection.masks[model, block] = mask
        return mask

    def conclude(self, seen: Iterable[Array]) -> None:
        """Divide what was there by what is kept."""
        for i, pairs in enumerate(zip(*seen, strict=True)):
            whole, left = (math.fsum(side) for side in zip(*pairs, strict=True))
            if self._settings.drops(i):
                self._selection.rescale[i] = whole / left if left else 0.0


class Arc:
    """For slerp: the angle between two whole tensors (Shoemake 1985), and the two factors that follow from it.

    A first pass finds the two lengths, a second the cosine. All of it is fp32, step by step as in mergekit.
    """

    reads = True
    STRAIGHT, SHORT = 0.9995, 1e-8
    """From this cosine on, in either direction, an arc is taken for a line; what is shorter has no direction."""

    def __init__(self, selection: Selection) -> None:
        self._selection, self._t = selection, selection.settings.weights[0]
        self._lengths: Sequence[torch.Tensor] = ()

    def see(self, block: int, size: int, pieces: Pieces) -> list[list[torch.Tensor]]:
        """For each piece the lengths of base and model, then their part of the cosine."""
        import torch

        if not self._lengths:
            return [[torch.linalg.vector_norm(torch.from_numpy(row)) for row in rows] for _, _, rows in pieces]
        return [
            [(torch.from_numpy(a) / self._lengths[0] * (torch.from_numpy(b) / self._lengths[1])).sum()]
            for _, _, (a, b) in pieces
        ]

    def conclude(self, seen: Iterable[list[list[torch.Tensor]]]) -> None:
        """Put the pieces' lengths or cosines together."""
        import torch

        sides = [torch.stack(side) for side in zip(*(piece for block in seen for piece in block), strict=True)]
        if self._lengths:
            self._selection.arc = self._factors(sides[0].sum().clamp(-1, 1))
        else:
            norms = [torch.linalg.vector_norm(side) for side in sides]
            self._lengths = [norm if norm > self.SHORT else torch.ones(()) for norm in norms]

    def _factors(self, cosine: torch.Tensor) -> tuple[float, float]:
        import torch

        t = torch.tensor(self._t)
        if not abs(cosine) <= self.STRAIGHT:  # so is NaN, which is named when its block is merged
            return float(1 - t), float(t)
        angle = torch.acos(cosine)
        return float(torch.sin((1 - t) * angle) / torch.sin(angle)), float(torch.sin(t * angle) / torch.sin(angle))


Pass = Thresholds | Rescales | Arc


def passes(selection: Selection, numel: int) -> list[Pass]:
    """The passes that a tensor needs, in their order; none for most settings."""
    settings = selection.settings
    if settings.method == "slerp":
        return [Arc(selection)] * 2
    dropping = any(settings.drops(i) for i in range(len(selection.labels)))
    needed: list[Pass] = []
    if dropping and settings.method == "ties":
        needed += [Thresholds(selection, numel)] * 2
    if dropping and settings.rescale != "none":
        needed.append(Rescales(selection, numel))
    return needed


def magnitudes(vectors: Floats) -> Array:
    """The bits of |x| as integers, which are in the order of the magnitudes."""
    bits: Array = vectors.view("int32") & 0x7FFFFFFF
    return bits
