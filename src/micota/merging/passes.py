"""What has to be known of a whole tensor before its first block can be merged: sums over all its blocks.

A look sees every block once. `see` is what one block says, and may run on any thread; `learn` takes these in the order
of the blocks; `done` draws the conclusion. So what is learnt does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from micota.merging import kernels as compiled
from micota.merging.buffers import Bytes, fp32, typed
from micota.merging.masks import as_bools, mask_bits, mask_block
from micota.merging.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch

Vectors = Sequence["torch.Tensor"]
"""Flat fp32 blocks, one for each task vector; for slerp the base and the model themselves; none if nothing is read."""
HIGH, LOW = 2**15, 2**16
"""Buckets of the two halves of a magnitude's 31 bits."""


class Learnt:
    """What is known of one tensor: whom to keep, and by how much to multiply what is kept."""

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
        """(model, block) -> what `drawn` says, from a look until it is used."""

    def keep(self, model: int, block: int, vector: torch.Tensor) -> np.ndarray[Any, Any]:
        """Which entries of a block of one task vector, in fp32, are kept: bool [size]."""
        if self.settings.method != "ties":
            return as_bools(self.drawn(model, block, vector.numel())[0], vector.numel())
        bits, threshold, share = magnitudes(vector), self.threshold[model], self.share[model]
        kept = bits >= threshold
        if share < 1:  # many entries of the same size, as in bf16: a part of them is drawn by lot
            settings, label = self.settings, self.labels[model]
            kept &= (bits > threshold) | mask_block(settings.seed, label, self.name, block, bits.size, share)
        return kept

    def drawn(self, model: int, block: int, size: int) -> tuple[Bytes, int]:
        """A random mask as bits, the first in the lowest, and how many are set; one that lies in `masks` is taken."""
        if (found := self.masks.pop((model, block), None)) is not None:
            return found
        settings = self.settings
        return mask_bits(settings.seed, self.labels[model], self.name, block, size, settings.densities[model])


class Thresholds:
    """For ties: the k-th largest magnitude of each task vector, found exactly by counting bits, half by half."""

    reads = True

    def __init__(self, learnt: Learnt, numel: int) -> None:
        self._learnt, self._settings = learnt, learnt.settings
        self._wanted = [max(1, int(density * numel)) for density in learnt.settings.densities]
        self._high: list[int] | None = None
        self._counts: list[Any] = []

    def see(self, block: int, size: int, vectors: Vectors) -> list[np.ndarray[Any, Any]]:
        import numpy as np

        counts = []
        for i, vector in enumerate(vectors):
            bits = magnitudes(vector)
            if not self._settings.drops(i):
                counts.append(np.zeros(1, dtype=np.int64))
            elif self._high is None:
                counts.append(np.bincount(bits >> 16, minlength=HIGH))
            else:
                inside = bits[(bits >> 16) == self._high[i]] & 0xFFFF
                counts.append(np.bincount(inside, minlength=LOW))
        return counts

    def learn(self, seen: list[np.ndarray[Any, Any]]) -> None:
        self._counts = [a + b for a, b in zip(self._counts, seen, strict=True)] if self._counts else seen

    def done(self) -> None:
        """After the first look the upper half is known, after the second the lower."""
        found = [self._find(i) for i in range(len(self._counts))]
        if self._high is None:
            self._high = found
        else:
            for i, low in enumerate(found):
                if self._settings.drops(i):
                    self._learnt.threshold[i] = (self._high[i] << 16) + low
                    self._learnt.share[i] = self._wanted[i] / int(self._counts[i][low])
        self._counts = []

    def _find(self, i: int) -> int:
        """The bucket in which the k-th largest lies; what lies above it is taken from what is still wanted."""
        import numpy as np

        if not self._settings.drops(i):
            return 0
        from_top = np.cumsum(self._counts[i][::-1])
        at = int(np.searchsorted(from_top, self._wanted[i]))
        self._wanted[i] -= int(from_top[at - 1]) if at else 0
        return len(from_top) - 1 - at


class Rescales:
    """The factors that make up for dropped entries, from what the masks of all blocks keep.

    Drawing a mask costs more than keeping it: those of a tensor that needs no more than MEMORY are not drawn again.
    """

    MEMORY = 2**27
    """Bytes."""

    def __init__(self, learnt: Learnt, numel: int) -> None:
        self._learnt, self._settings = learnt, learnt.settings
        self._keeps = self._settings.method != "ties" and numel * len(learnt.labels) <= 8 * self.MEMORY
        self.reads = self._settings.rescale == "l1" or self._settings.method == "ties"
        self._sums: list[list[tuple[float, float]]] = []

    def see(self, block: int, size: int, vectors: Vectors) -> list[tuple[float, float]]:
        """For each model what was there and what is kept, a count or a sum of magnitudes; overwrites the vectors."""
        models = range(len(self._learnt.labels))
        return [self._see(i, block, size, vectors[i] if self.reads else None) for i in models]

    def _see(self, model: int, block: int, size: int, vector: torch.Tensor | None) -> tuple[float, float]:
        import numpy as np

        if not self._settings.drops(model):
            return 1.0, 1.0
        if self._settings.method != "ties":
            drawn = self._draw(model, block, size)
            if vector is None:
                return float(size), float(drawn[1])
            kept = as_bools(drawn[0], size)
        else:
            assert vector is not None
            kept = self._learnt.keep(model, block, vector)
        if self._settings.rescale != "l1":
            return float(size), float(np.count_nonzero(kept))
        sizes = vector.abs_()
        whole = float(sizes.sum())
        sizes.mul_(fp32("kept", typed(kept.view(np.uint8), "uint8")))  # by a bool takes eight times as long
        return whole, float(sizes.sum())

    def see_lean(self, block: int, base: Bytes, model: Bytes) -> list[tuple[float, float]]:
        """The same for the L1 norm of one task vector in bf16."""
        drawn = self._draw(0, block, len(base) // 2)
        return [compiled.sizes(base, model, drawn[0])]

    def _draw(self, model: int, block: int, size: int) -> tuple[Bytes, int]:
        drawn = self._learnt.drawn(model, block, size)
        if self._keeps:
            self._learnt.masks[model, block] = drawn
        return drawn

    def learn(self, seen: list[tuple[float, float]]) -> None:
        self._sums.append(seen)

    def done(self) -> None:
        for i, pairs in enumerate(zip(*self._sums, strict=True)):
            whole, left = (math.fsum(side) for side in zip(*pairs, strict=True))
            self._learnt.rescale[i] = whole / left if left else 0.0


class Arc:
    """For slerp: the angle between two whole tensors (Shoemake 1985), and the two factors that follow from it.

    A first look finds the two lengths, a second the cosine. All of it is fp32, step by step as in mergekit.
    """

    reads = True
    STRAIGHT, SHORT = 0.9995, 1e-8
    """From this cosine on, in either direction, an arc is taken for a line; what is shorter has no direction."""

    def __init__(self, learnt: Learnt) -> None:
        self._learnt, self._t = learnt, learnt.settings.weights[0]
        self._lengths: list[torch.Tensor] | None = None
        self._parts: list[Sequence[torch.Tensor]] = []

    def see(self, block: int, size: int, vectors: Vectors) -> list[torch.Tensor]:
        import torch

        if self._lengths is None:
            return [torch.linalg.vector_norm(vector) for vector in vectors]
        first, second = (vector / length for vector, length in zip(vectors, self._lengths, strict=True))
        return [(first * second).sum()]

    def learn(self, seen: list[torch.Tensor]) -> None:
        self._parts.append(seen)

    def done(self) -> None:
        import torch

        if not self._parts:
            return
        sides = [torch.stack(side) for side in zip(*self._parts, strict=True)]
        self._parts = []
        if self._lengths is None:
            norms = [torch.linalg.vector_norm(side) for side in sides]
            self._lengths = [norm if norm > self.SHORT else torch.ones(()) for norm in norms]
        else:
            self._learnt.arc = self._factors(sides[0].sum().clamp(-1, 1))

    def _factors(self, cosine: torch.Tensor) -> tuple[float, float]:
        import torch

        t = torch.tensor(self._t)
        if not abs(cosine) <= self.STRAIGHT:  # so is NaN, which is named when its block is merged
            return float(1 - t), float(t)
        angle = torch.acos(cosine)
        return float(torch.sin((1 - t) * angle) / torch.sin(angle)), float(torch.sin(t * angle) / torch.sin(angle))


Look = Thresholds | Rescales | Arc


def looks(learnt: Learnt, numel: int) -> list[Look]:
    """The looks that a tensor needs, in their order; none for most settings."""
    settings = learnt.settings
    if settings.method == "slerp":
        return [Arc(learnt)] * 2
    dropping = any(settings.drops(i) for i in range(len(learnt.labels)))
    needed: list[Look] = []
    if dropping and settings.method == "ties":
        needed += [Thresholds(learnt, numel)] * 2
    if dropping and settings.rescale != "none":
        needed.append(Rescales(learnt, numel))
    return needed


def magnitudes(vector: torch.Tensor) -> np.ndarray[Any, Any]:
    """The bits of |x| as integers, which are in the order of the magnitudes."""
    import numpy as np

    return vector.numpy().view(np.int32) & 0x7FFFFFFF
