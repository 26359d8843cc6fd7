"""Weights that follow from the lengths and angles of whole tensors: slerp, nuslerp, model_stock, sce."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from micota.merging import kernels
from micota.merging.buffers import Floats
from micota.merging.selection import Selection

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

Pieces: TypeAlias = "Iterable[tuple[slice, Floats]]"
STRAIGHT, SHORT = 0.9995, 1e-8
"""For slerp: from this cosine on, in either direction, an arc is taken for a line; what is shorter has no direction."""


class Angles:
    """All inner products of what a method weighs, in fp64 and in a fixed order, and the weights that follow."""

    reads = True

    def __init__(self, selection: Selection, numel: int) -> None:
        self._selection, self._settings, self._numel = selection, selection.settings, numel

    def see(self, block: int, size: int, pieces: Pieces) -> Array:
        """[n, n]: the inner products, of which the lower half is filled in."""
        import numpy as np

        labels = self._selection.labels
        chances = [self._selection.chance(i, block, size) for i in range(len(labels))]
        products: Array = np.zeros((max(2, len(labels)), max(2, len(labels))))
        for place, rows in pieces:
            vectors = self._weighed(rows)
            for i, each in enumerate(self._selection.kept(chances, place.start, rows)):
                if each:
                    vectors[i] *= each.bools(vectors[i])
            for i, vector in enumerate(vectors):
                for j in range(i + 1):
                    products[i, j] += kernels.inner(vector, vectors[j])
        return products

    def _weighed(self, rows: Floats) -> Floats:
        """What the weights are for: base and model, two models, or task vectors."""
        if self._settings.method == "slerp":
            return rows
        return rows[1:] if self._settings.whole else rows[1:] - rows[0]

    def conclude(self, seen: Iterable[Array]) -> None:
        """Add up the products of all blocks and find the weights."""
        import numpy as np

        products = np.sum(list(seen), axis=0)
        method = {"sce": self._shares, "model_stock": self._stock}.get(self._settings.method, self._arc)
        self._selection.weights = method(products)

    def _arc(self, products: Array) -> Sequence[float]:
        """The two factors of a spherical interpolation (Shoemake 1985)."""
        slerp = self._settings.method == "slerp"
        lengths = [math.sqrt(products[i, i]) for i in range(2)]
        if slerp:
            t, lengths = self._settings.weights[0], [length if length > SHORT else 1.0 for length in lengths]
        else:
            t, lengths = share(self._settings.weights), [max(length, 1e-7) for length in lengths]
        cosine = max(-1.0, min(1.0, products[1, 0] / (lengths[0] * lengths[1])))
        straight = not abs(cosine) <= STRAIGHT if slerp else not 1 - cosine * cosine > 1e-16
        if straight:  # so is NaN, which is named when its block is merged
            return 1 - t, t
        angle = math.acos(cosine)
        return math.sin((1 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)

    def _stock(self, products: Array) -> Sequence[float]:
        """Model Stock (Jang et al., arXiv 2403.19522, eq. 6): the way to the average that the mean cosine says."""
        count = len(products)
        cosines = [
            max(-1.0, min(1.0, products[i, j] / max(1e-6, math.sqrt(products[i, i]) * math.sqrt(products[j, j]))))
            for i in range(count)
            for j in range(i)
        ]
        cosine = math.fsum(cosines) / len(cosines)
        below = 1 + (count - 1) * cosine
        way = count * cosine / below if abs(below) >= 1e-6 else 0.0
        return (way / count,) * count

    def _shares(self, products: Array) -> Sequence[float]:
        """SCE (Wan et al., arXiv 2408.07990): mean squares of what is kept; equal where all are nearly nothing."""
        squares = [float(products[i, i]) / max(1, self._numel) for i in range(len(self._selection.labels))]
        whole = math.fsum(squares)
        return [square / whole if whole >= 1e-6 else 1 / len(squares) for square in squares]


class Arc:
    """The factors of slerp between whole tensors with fp32 among them, step by step in fp32 as in mergekit.

    A first pass finds the two lengths, a second the cosine.
    """

    reads = True

    def __init__(self, selection: Selection) -> None:
        self._selection, self._settings = selection, selection.settings
        self._lengths: Sequence[torch.Tensor] = ()

    def see(self, block: int, size: int, pieces: Pieces) -> list[list[torch.Tensor]]:
        """For each piece the lengths of both, then their part of the cosine."""
        import torch

        pairs = ([torch.from_numpy(row) for row in rows[-2:]] for _, rows in pieces)
        if not self._lengths:
            return [[torch.linalg.vector_norm(each) for each in pair] for pair in pairs]
        return [[(a / self._lengths[0] * (b / self._lengths[1])).sum()] for a, b in pairs]

    def conclude(self, seen: Iterable[list[list[torch.Tensor]]]) -> None:
        """Put the pieces' lengths or cosines together."""
        import torch

        sides = [torch.stack(side) for side in zip(*(piece for block in seen for piece in block), strict=True)]
        if self._lengths:
            self._selection.weights = self._factors(sides[0].sum().clamp(-1, 1))
            return
        norms = [torch.linalg.vector_norm(side) for side in sides]
        slerp = self._settings.method == "slerp"
        self._lengths = [(norm if norm > SHORT else torch.ones(())) if slerp else norm.clamp(1e-7) for norm in norms]

    def _factors(self, cosine: torch.Tensor) -> tuple[float, float]:
        import torch

        slerp = self._settings.method == "slerp"
        t = torch.tensor(self._settings.weights[0] if slerp else share(self._settings.weights))
        straight = not abs(cosine) <= STRAIGHT if slerp else not 1 - cosine.square() > 1e-16
        if straight:  # so is NaN, which is named when its block is merged
            return float(1 - t), float(t)
        angle = torch.acos(cosine)
        return float(torch.sin((1 - t) * angle) / torch.sin(angle)), float(torch.sin(t * angle) / torch.sin(angle))


def share(weights: Sequence[float]) -> float:
    """How far nuslerp goes from the first of two models to the second."""
    return weights[1] / sum(weights) if abs(sum(weights)) >= 1e-6 else 0.5
