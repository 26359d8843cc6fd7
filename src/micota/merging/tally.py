"""What a merge saw of its task vectors: sizes, angles, disagreements, and how much DARE kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Counts and sums over a block, a tensor, or many tensors of the same models."""

    elements: int = 0
    kept: list[int] = field(default_factory=list)
    """Entries that survived, per model."""
    products: list[list[float]] = field(default_factory=list)
    """products[i][j], j <= i: inner product of task vectors i and j as they are before dropping."""
    conflicts: int = 0
    """Entries where two surviving, weighted task vectors point in opposite directions."""

    def add(self, other: Tally) -> None:
        """Count what another tally of the same models counted."""
        if not other.kept:
            return
        if not self.kept:
            self.kept, self.products = [0] * len(other.kept), [[0.0] * len(row) for row in other.products]
        self.elements += other.elements
        self.conflicts += other.conflicts
        self.kept = [a + b for a, b in zip(self.kept, other.kept, strict=True)]
        rows = zip(self.products, other.products, strict=True)
        self.products = [[a + b for a, b in zip(mine, theirs, strict=True)] for mine, theirs in rows]

    def norm(self, i: int) -> float:
        """L2 norm of task vector i."""
        return _plain(math.sqrt(self.products[i][i]))

    def cosine(self, i: int, j: int) -> float | None:
        """Cosine of the angle between task vectors i and j (j < i); None if one of them is zero."""
        lengths = math.sqrt(self.products[i][i]) * math.sqrt(self.products[j][j])
        return _plain(self.products[i][j] / lengths) if lengths else None


def facts(tallies: Mapping[str, Tally], labels: Sequence[str]) -> dict[str, Any]:
    """Facts of a merge from the tallies of its tensors (name -> tally), JSON-safe, six significant digits.

    `models` (label -> L2 `norm` of the task vector, the same per `layers`, share `kept`), `sign_conflicts` (share of
    entries where surviving, weighted task vectors disagree; None for one model), `cosines`, `parameters` (elements).
    """
    whole, layers = _sum_up(tallies)
    labels = labels if whole.kept else []  # a method without task vectors, or nothing but tensors that are copied
    pairs = [(i, j) for i in range(len(labels)) for j in range(i)]
    return {
        "parameters": whole.elements,
        "models": {
            label: {
                "norm": whole.norm(i),
                "kept": _plain(whole.kept[i] / max(1, whole.elements)),
                "layers": {layer: tally.norm(i) for layer, tally in layers.items()},
            }
            for i, label in enumerate(labels)
        },
        "sign_conflicts": _plain(whole.conflicts / max(1, whole.elements)) if pairs else None,
        "cosines": [{"models": [labels[j], labels[i]], "cosine": whole.cosine(i, j)} for i, j in pairs],
    }


def _sum_up(tallies: Mapping[str, Tally]) -> tuple[Tally, dict[str, Tally]]:
    """Over everything, and per layer: "0", "1", ..., then "other" (embeddings, head, last norm)."""
    whole, layers = Tally(), dict[str, Tally]()
    for name in sorted(tallies):
        layer = next((part for part in name.split(".") if part.isdigit()), "other")
        for total in (whole, layers.setdefault(layer, Tally())):
            total.add(tallies[name])
    order = sorted(layers, key=lambda layer: (layer == "other", int(layer) if layer.isdigit() else 0))
    return whole, {layer: layers[layer] for layer in order if layers[layer].kept}


def _plain(value: float) -> float:
    return float(f"{value:.6g}")
