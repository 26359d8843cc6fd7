"""What has to be known of a whole tensor before its first block can be merged: passes over all its blocks.

A pass sees every block once. `see` is what one block says, and may run on any thread; `conclude` takes these in the
order of the blocks. So the conclusion does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

from micota.merging import kernels
from micota.merging.buffers import Bytes, fp32, typed
from micota.merging.masks import as_bools, mask_bits
from micota.merging.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch

Vectors = Sequence["torch.Tensor"]
"""Flat fp32 blocks, one for each task vector; for slerp the base and the model themselves; none if nothing is read."""
HIGH, LOW = 2**15, 2**16
"""Buckets of the two halves of a magnitude's 31 bits."""


class Selection:
    """Which entries of one tensor's task vectors are kept, and by how much to multiply them: what passes find out."""

    def __init__(self, settings: Settings, labels: Sequence[str], name: str) -> None:
        self.settings, self.labels, self.name = settings, labels, name
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

    def keep(self, model: int, block: int, vector: torch.Tensor) -> np.ndarray[Any, Any]:
        """Which entries of a block of one task vector, in fp32, are kept: bool [size]."""
        size = vector.numel()
        if self.settings.method != "ties":
            return as_bools(self.random(model, block, size)[0], size)
        bits, threshold, share = magnitudes(vector), self.threshold[model], self.share[model]
        mask = bits >= threshold
        if share < 1:  # many entries of the same size, as in bf16: a random part of them
            mask &= (bits > threshold) | as_bools(self._mask(model, block, size, share)[0], size)
        return mask

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

    def see(self, block: int, size: int, vectors: Vectors) -> list[np.ndarray[Any, Any]]:
        """For each model how many magnitudes lie in each bucket."""
        return [self._count(i, magnitudes(vector)) for i, vector in enumerate(vectors)]

    def _count(self, i: int, bits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        import numpy as np

        if not self._settings.drops(i):
            return np.zeros(1, dtype=np.int64)
        if self._high is None:
            return np.bincount(bits >> 16, minlength=HIGH)
        return np.bincount(bits[(bits >> 16) == self._high[i]] & 0xFFFF, minlength=LOW)

    def conclude(self, seen: Iterable[list[np.ndarray[Any, Any]]]) -> None:
        """Add up the counts and find the bucket of each model's threshold."""
        counts = reduce(lambda total, more: [a + b for a, b in zip(total, more, strict=True)], seen)
        buckets = [self._find(i, each) for i, each in enumerate(counts)]
        if self._high is None:
            self._high = buckets
            return
        for i, low in enumerate(buckets):
            if self._settings.drops(i):
                self._selection.threshold[i] = (self._high[i] << 16) + low
                self._selection.share[i] = self._wanted[i] / int(counts[i][low])

    def _find(self, i: int, counts: np.ndarray[Any, Any]) -> int:
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

    def see(self, block: int, size: int, vectors: Vectors) -> list[tuple[float, float]]:
        """For each model what was there and what is kept, a count or a sum of magnitudes; overwrites the vectors."""
        models = range(len(self._selection.labels))
        return [self._see(i, block, size, vectors[i] if self.reads else None) for i in models]

    def _see(self, model: int, block: int, size: int, vector: torch.Tensor | None) -> tuple[float, float]:
        import numpy as np

        if not self._settings.drops(model):
            return 1.0, 1.0
        if vector is None:
            return float(size), float(self._random(model, block, size)[1])
        if self._settings.method == "ties":
            mask = self._selection.keep(model, block, vector)
        else:
            mask = as_bools(self._random(model, block, size)[0], size)
        if self._settings.rescale != "l1":
            return float(size), float(np.count_nonzero(mask))
        sizes = vector.abs_()
        return float(sizes.sum()), float(masked(sizes, mask).sum())

    def see_compiled(self, block: int, base: Bytes, model: Bytes) -> list[tuple[float, float]]:
        """The same for the L1 norm of one task vector in bf16."""
        return [kernels.sizes(base, model, self._random(0, block, len(base) // 2)[0])]

    def _random(self, model: int, block: int, size: int) -> tuple[Bytes, int]:
        mask = self._selection.random(model, block, size)
        if self._stores:
            self._selection.masks[model, block] = mask
        return mask

    def conclude(self, seen: Iterable[list[tuple[float, float]]]) -> None:
        """Divide what was there by what is kept."""
        for i, pairs in enumerate(zip(*seen, strict=True)):
            whole, left = (math.fsum(side) for side in zip(*pairs, strict=True))
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
        self._lengths: list[torch.Tensor] | None = None

    def see(self, block: int, size: int, vectors: Vectors) -> list[torch.Tensor]:
        """The lengths of the two blocks, then their part of the cosine."""
        import torch

        if self._lengths is None:
            return [torch.linalg.vector_norm(vector) for vector in vectors]
        first, second = (vector / length for vector, length in zip(vectors, self._lengths, strict=True))
        return [(first * second).sum()]

    def conclude(self, seen: Iterable[list[torch.Tensor]]) -> None:
        """Put the blocks' lengths or cosines together."""
        import torch

        sides = [torch.stack(side) for side in zip(*seen, strict=True)]
        if self._lengths is None:
            norms = [torch.linalg.vector_norm(side) for side in sides]
            self._lengths = [norm if norm > self.SHORT else torch.ones(()) for norm in norms]
        else:
            self._selection.arc = self._factors(sides[0].sum().clamp(-1, 1))

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


def magnitudes(vector: torch.Tensor) -> np.ndarray[Any, Any]:
    """The bits of |x| as integers, which are in the order of the magnitudes."""
    import numpy as np

    return vector.numpy().view(np.int32) & 0x7FFFFFFF


def masked(vector: torch.Tensor, mask: np.ndarray[Any, Any]) -> torch.Tensor:
    """Set to zero, in place, what a mask does not keep."""
    return vector.mul_(fp32("mask", typed(mask.view("uint8"), "uint8")))  # by a bool takes eight times as long
