"""What has to be known of a whole tensor before its first block can be merged: passes over all its blocks.

A pass sees every block once. `see` is what one block says, and may run on any thread; `conclude` takes these in the
order of the blocks. So the conclusion does not depend on the number of threads.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from micota.merging import vectors
from micota.merging.angles import Angles, Arc
from micota.merging.buffers import Bytes, Floats
from micota.merging.selection import Chance, Cut, Selection, spread
from micota.merging.settings import BY_SIZE, FIXED
from micota.merging.vectors import Kept

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

Pieces: TypeAlias = "Iterable[tuple[slice, Floats]]"
"""The pieces of a block as fp32 [inputs, elements], the base first; none if nothing is read."""
HIGH, LOW = 2**15, 2**16
"""Buckets of the two halves of a magnitude's 31 bits."""


class Thresholds:
    """The k-th largest magnitudes of the task vectors, or of their variance (sce), found exactly by counting bits.

    A first pass finds the upper half of the bits, a second the lower.
    """

    reads = True

    def __init__(self, selection: Selection, numel: int) -> None:
        self._selection, self._settings = selection, selection.settings
        for i in selection.dropping[: 1 if self._settings.method == "sce" else None]:
            selection.cuts[i] = self._cuts(self._settings.densities[i], numel)
        self._places = [(i, cut) for i, cuts in enumerate(selection.cuts) for cut in cuts]
        self._wanted: list[int] = []
        self._high: list[int] = []

    def _cuts(self, density: float, numel: int) -> list[Cut]:
        """What is kept, and of that what is not, as the so many largest."""
        if self._settings.method == "sce":
            return [Cut(density)]
        if self._settings.method == "ties":
            return [Cut(max(1, int(density * numel)))]
        kept = int(density * numel)
        outliers = min(int(self._settings.gamma * numel), numel - kept)
        return [Cut(outliers + kept), Cut(outliers)]

    def see(self, block: int, size: int, pieces: Pieces) -> list[Array]:
        """For each threshold how many magnitudes lie in each bucket."""
        import numpy as np

        counts = [np.zeros(LOW if self._high else HIGH, dtype=np.int64) for _ in self._places]
        for _, rows in pieces:
            for at, (i, _) in enumerate(self._places):
                high = self._high[at] if self._high else None
                if self._settings.method == "sce":
                    varied = spread(rows[1:] - rows[0])
                    varied = varied if self._high else varied[varied != 0]
                    vectors.count(np.zeros_like(varied), varied, high, counts[at])
                else:
                    vectors.count(rows[0], rows[i + 1], high, counts[at])
        return counts

    def conclude(self, seen: Iterable[list[Array]]) -> None:
        """Add up the counts and find the bucket of each threshold."""
        counts: list[Array] = []
        for each in seen:  # one after the other: of a large tensor they would fill hundreds of MiB
            counts = [whole + part for whole, part in zip(counts, each, strict=True)] if counts else each
        if not self._high:
            pairs = zip(self._places, counts, strict=True)
            self._wanted = [_whole(cut.wanted, int(each.sum())) for (_, cut), each in pairs]
            self._high = [self._find(at, each) for at, each in enumerate(counts)]
            return
        for at, (_, cut) in enumerate(self._places):
            low = self._find(at, counts[at])
            cut.threshold = (self._high[at] << 16) + low
            cut.share = self._wanted[at] / max(1, int(counts[at][low]))

    def _find(self, at: int, counts: Array) -> int:
        """The bucket in which the k-th largest lies; what lies above it is taken from what is still wanted."""
        import numpy as np

        from_top = np.cumsum(counts[::-1])
        place = int(np.searchsorted(from_top, self._wanted[at]))
        self._wanted[at] -= int(from_top[place - 1]) if place else 0
        return len(from_top) - 1 - place


def _whole(wanted: float, there: int) -> int:
    """How many of so many; a share is multiplied in fp32, as in mergekit."""
    import numpy as np

    return int(np.float32(there) * np.float32(wanted)) if 0 < wanted < 1 else int(wanted)


class Rescales:
    """The factors that make up for dropped entries, from what the masks of all blocks keep.

    A random mask costs more to make than to store: those of a tensor that needs no more than MEMORY are stored.
    """

    MEMORY = 2**27
    """Bytes."""

    def __init__(self, selection: Selection, numel: int) -> None:
        self._selection, self._settings = selection, selection.settings
        self._drawn = self._settings.method.startswith("dare_")
        self._stores = self._drawn and numel * len(selection.labels) <= 8 * self.MEMORY
        self.reads = self._settings.rescale == "l1" or not self._drawn

    def see(self, block: int, size: int, pieces: Pieces) -> Array:
        """[models, 2]: what was there and what is kept, a count or a sum of magnitudes; 0 where nothing is dropped."""
        import numpy as np

        seen = np.zeros((len(self._selection.labels), 2))
        if not self.reads:
            for i in self._selection.dropping:
                seen[i] = size, self._random(i, block, size)[1]
            return seen
        chances = [self._chance(i, block, size) for i in range(len(seen))]
        for place, rows in pieces:
            kept = self._selection.kept(chances, place.start, rows)
            seen += self._counts(kept, rows) if self._settings.rescale != "l1" else self._sizes(kept, rows)
        return seen

    def _counts(self, kept: Sequence[Kept | None], rows: Floats) -> Array:
        import numpy as np

        pairs = zip(kept, rows[1:], strict=True)
        return np.array([[row.size, each.bools(row - rows[0]).sum()] if each else [0, 0] for each, row in pairs])

    def _sizes(self, kept: Sequence[Kept | None], rows: Floats) -> Array:
        """Among fp32 tensors added up in fp32 by torch, as in mergekit; without them it makes no difference."""
        if not self._selection.fine:
            return vectors.sizes(rows, kept)
        import numpy as np
        import torch

        seen = np.zeros((len(kept), 2))
        for i, each in enumerate(kept):
            if each:
                size = np.abs(rows[i + 1] - rows[0])
                bools = each.bools(size)
                seen[i] = [float(torch.from_numpy(one).sum()) for one in (size, size * bools)]
        return seen

    def _chance(self, model: int, block: int, size: int) -> Chance:
        if self._drawn and self._settings.drops(model):
            return [self._random(model, block, size)[0]]
        return self._selection.chance(model, block, size)

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


Pass = Thresholds | Rescales | Angles | Arc


def passes(selection: Selection, numel: int) -> list[Pass]:
    """The passes that a tensor needs, in their order; none for most settings."""
    settings = selection.settings
    whole = settings.method == "slerp" or settings.whole
    if whole and selection.fine:
        return [Arc(selection)] * 2
    needed: list[Pass] = []
    if selection.dropping and settings.method in BY_SIZE:
        needed += [Thresholds(selection, numel)] * 2
    if selection.dropping and settings.rescale != "none" and settings.method not in FIXED:
        needed.append(Rescales(selection, numel))
    if settings.method in ("slerp", "nuslerp", "model_stock", "sce"):
        needed.append(Angles(selection, numel))
    return needed
