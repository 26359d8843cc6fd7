"""What has to be known of a whole tensor before its first block can be merged: sums over all its blocks.

A look reads every block once. `see` is what one block says, and may run on any thread; `learn` takes these in the order
of the blocks; `done` draws the conclusion. So what is learnt does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from micota.merging.masks import mask_block
from micota.merging.memory import fp32
from micota.merging.settings import Settings

if TYPE_CHECKING:
    import numpy as np
    import torch

Vectors = Sequence["torch.Tensor"]
"""Flat fp32 blocks, one for each task vector; for slerp the base and the model themselves."""
HIGH, LOW = 2**15, 2**16
"""Buckets of the two halves of a magnitude's 31 bits."""


class Learnt:
    """What is known of one tensor: whom to keep, and by how much to multiply what is kept."""

    def __init__(self, models: int) -> None:
        self.rescale = [1.0] * models
        """Per model: what makes up for dropped entries; 0 where none was kept."""
        self.threshold = [-1] * models
        """Per model, for ties: entries whose magnitude's bits are above it are kept."""
        self.share = [1.0] * models
        """Per model, for ties: which share of the entries exactly at the threshold is kept."""
        self.arc = (0.0, 0.0)
        """For slerp: what the base and the model are multiplied with."""
        self.masks: dict[tuple[int, int], np.ndarray[Any, Any]] = {}
        """(model, block) -> a random mask that a look has drawn, one bit for each entry, until it is used."""


class Thresholds:
    """For ties: the k-th largest magnitude of each task vector, found exactly by counting bits, half by half."""

    reads = True

    def __init__(self, learnt: Learnt, settings: Settings, numel: int) -> None:
        self._learnt, self._settings = learnt, settings
        self._wanted = [max(1, int(density * numel)) for density in settings.densities]
        self._high: list[int] | None = None
        self._counts: list[Any] = []

    def see(self, block: int, vectors: Vectors) -> list[np.ndarray[Any, Any]]:
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

    def __init__(self, learnt: Learnt, settings: Settings, labels: Sequence[str], name: str, numel: int) -> None:
        self._learnt, self._settings, self._labels, self._name = learnt, settings, labels, name
        self._keeps = settings.method != "ties" and numel * len(labels) <= 8 * self.MEMORY
        self.reads = settings.rescale == "l1" or settings.method == "ties"
        self._sums: list[list[tuple[float, float]]] = []

    def see(self, block: int, vectors: Vectors) -> list[tuple[float, float]]:
        """For each model what was there and what is kept, a count or a sum of magnitudes; overwrites the vectors."""
        import numpy as np
        import torch

        sums = []
        for i, vector in enumerate(vectors):
            kept = keep(self._learnt, self._settings, self._labels, self._name, i, block, vector)
            if kept is not None and self._keeps:
                self._learnt.masks[i, block] = np.packbits(kept)
            if kept is None:
                sums.append((1.0, 1.0))
            elif self._settings.rescale == "l1":
                sizes = vector.abs_()
                whole = float(sizes.sum())
                sizes.mul_(fp32("kept", torch.from_numpy(kept.view(np.uint8))))  # by a bool takes eight times as long
                sums.append((whole, float(sizes.sum())))
            else:
                sums.append((float(kept.size), float(np.count_nonzero(kept))))
        return sums

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

    def __init__(self, learnt: Learnt, settings: Settings) -> None:
        self._learnt, self._t = learnt, settings.weights[0]
        self._lengths: list[torch.Tensor] | None = None
        self._parts: list[Sequence[torch.Tensor]] = []

    def see(self, block: int, vectors: Vectors) -> list[torch.Tensor]:
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


def looks(settings: Settings, labels: Sequence[str], name: str, numel: int, learnt: Learnt) -> list[Look]:
    """The looks that a tensor needs, in their order; none for most settings."""
    if settings.method == "slerp":
        return [Arc(learnt, settings)] * 2
    dropping = any(settings.drops(i) for i in range(len(labels)))
    needed: list[Look] = []
    if dropping and settings.method == "ties":
        needed += [Thresholds(learnt, settings, numel)] * 2
    if dropping and settings.rescale != "none":
        needed.append(Rescales(learnt, settings, labels, name, numel))
    return needed


def keep(
    learnt: Learnt, settings: Settings, labels: Sequence[str], name: str, model: int, block: int, vector: torch.Tensor
) -> np.ndarray[Any, Any] | None:
    """Which entries of a block of one task vector are kept: bool [size]; None is all of them."""
    import numpy as np

    if not settings.drops(model):
        return None
    size, density = vector.numel(), settings.densities[model]
    if (drawn := learnt.masks.pop((model, block), None)) is not None:
        return np.unpackbits(drawn, count=size).view(bool)
    if settings.method != "ties":
        return mask_block(settings.seed, labels[model], name, block, size, density)
    bits, threshold = magnitudes(vector), learnt.threshold[model]
    kept = bits >= threshold
    if learnt.share[model] < 1:  # many entries of the same size, as in bf16: a part of them is drawn by lot
        lot = mask_block(settings.seed, labels[model], name, block, size, learnt.share[model])
        kept &= (bits > threshold) | lot
    return kept


def magnitudes(vector: torch.Tensor) -> np.ndarray[Any, Any]:
    """The bits of |x| as integers, which are in the order of the magnitudes."""
    import numpy as np

    return vector.numpy().view(np.int32) & 0x7FFFFFFF
