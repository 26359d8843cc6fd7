"""Which entries of one tensor's task vectors are kept, and with which weights: what passes over it find out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from micota.merging.buffers import Bytes, Floats
from micota.merging.masks import LEVELS, lanes, mask_bits
from micota.merging.settings import Settings
from micota.merging.vectors import Kept, magnitudes

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Chance: TypeAlias = "Sequence[Array | None]"
"""What is random about a block for one model: masks, the first element in the lowest bit, or 16 bits for each entry."""


@dataclass
class Cut:
    """The largest entries of a tensor, by the bits of their magnitudes: so many of them."""

    wanted: float
    """How many; below 1, a share of those that are not zero."""
    threshold: int = -1
    """Entries above it belong to them."""
    share: float = 1.0
    """Of the entries exactly at the threshold."""

    def kept(self, chance: Array | None, start: int) -> Kept:
        """Which entries of a piece belong to them. `start`: where in its block it begins."""
        return Kept(None if chance is None else chance[start // 8 :], self.threshold, self.threshold)


class Selection:
    """The kept entries and the weights of one tensor's models. `row`: how many entries della ranks together."""

    def __init__(self, settings: Settings, labels: Sequence[str], name: str, fine: bool, row: int) -> None:
        self.settings, self.labels, self.name, self.row = settings, labels, name, row
        self.fine = fine
        """Whether fp32 tensors take part."""
        self.rescale = [1.0] * len(labels)
        """Per model: what makes up for dropped entries; 0 where none was kept."""
        self.cuts: list[list[Cut]] = [[] for _ in labels]
        """Per model, where size decides: entries of the first are kept, but for those of the second."""
        self.weights: Sequence[float] = settings.weights
        """Per model, and for slerp of base and model; the methods that find them themselves put them here."""
        self.masks: dict[tuple[int, int], tuple[Bytes, int]] = {}
        """(model, block) -> its random mask, from a pass until it is used."""

    @property
    def dropping(self) -> list[int]:
        """The models that can lose entries."""
        return [i for i in range(len(self.labels)) if self.settings.drops(i)]

    def kept(self, chances: Sequence[Chance], start: int, values: Floats) -> list[Kept | None]:
        """Which entries of a piece of the task vectors are kept; None for a model that keeps all. `values` are the
        base and the models, [models + 1, size].
        """
        if self.settings.method == "sce" and self.dropping:
            keep = self.cuts[0][0].kept(chances[0][0], start).bools(spread(values[1:] - values[0]))
            return [_as_bits(keep) if self.settings.drops(i) else None for i in range(len(self.labels))]
        return [
            self._kept(i, chances[i], start, values) if self.settings.drops(i) else None
            for i in range(len(self.labels))
        ]

    def _kept(self, model: int, chance: Chance, start: int, values: Floats) -> Kept:
        if self.settings.method.startswith("della"):
            drawn, vector = chance[0], values[model + 1] - values[0]
            assert drawn is not None
            return _as_bits(drawn[start : start + len(vector)] < self._levels(model, vector))
        if not self.cuts[model]:
            assert chance[0] is not None
            return Kept(chance[0][start // 8 :])
        kept, *outliers = (cut.kept(bits, start) for cut, bits in zip(self.cuts[model], chance, strict=True))
        if not outliers:
            return kept
        vector = values[model + 1] - values[0]
        return _as_bits(kept.bools(vector) & ~outliers[0].bools(vector))

    def _levels(self, model: int, vector: Floats) -> Array:
        """For della: below which number 16 random bits keep an entry, by its place in the order of its row."""
        import numpy as np

        sizes = magnitudes(vector).reshape(-1, self.row)
        places = np.arange(self.row, dtype=np.uint64)
        order = np.sort((sizes.astype(np.uint64) << np.uint64(32)) | places, axis=1) & np.uint64(0xFFFFFFFF)
        density, epsilon = self.settings.densities[model], self.settings.epsilon
        shares = np.linspace(density - epsilon, density + epsilon, self.row) if self.row > 1 else np.array([density])
        levels = np.empty(sizes.shape, dtype=np.uint16)
        np.put_along_axis(levels, order.astype(np.int64), np.rint(shares * LEVELS).astype(np.uint16)[None], axis=1)
        return levels.ravel()

    def chance(self, model: int, block: int, size: int) -> Chance:
        """What is random about a block."""
        if not self.settings.drops(model):
            return []
        if self.settings.method.startswith("della"):
            return [lanes(self.settings.seed, self.labels[model], self.name, block, size)]
        if self.cuts[model]:
            return [self._mask(model, block, size, c.share)[0] if c.share < 1 else None for c in self.cuts[model]]
        return [self.random(model, block, size)[0]]

    def random(self, model: int, block: int, size: int) -> tuple[Bytes, int]:
        """A random mask as bits, the first in the lowest, and how many are set; one in `masks` is taken from there."""
        if (mask := self.masks.pop((model, block), None)) is not None:
            return mask
        return self._mask(model, block, size, self.settings.densities[model])

    def _mask(self, model: int, block: int, size: int, density: float) -> tuple[Bytes, int]:
        return mask_bits(self.settings.seed, self.labels[model], self.name, block, size, density)


def _as_bits(bools: Array) -> Kept:
    import numpy as np

    return Kept(np.packbits(bools, bitorder="little"))


def spread(vectors: Floats) -> Floats:
    """How much the task vectors differ at each entry: their variance, [size]."""
    import numpy as np

    mean = vectors.sum(axis=0) / np.float32(len(vectors))
    variance: Floats = np.square(vectors - mean).sum(axis=0) / np.float32(len(vectors))
    return variance
