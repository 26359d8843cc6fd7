"""One tensor's merge: what a block of its inputs becomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from micota.errors import MicotaError
from micota.merging import kernels
from micota.merging.buffers import FLOATS, Bytes, Floats, is_finite, narrow, pieces, widen, words
from micota.merging.passes import Bits, Pass, Rescales, Selection, passes
from micota.merging.safetensor_files import Entry
from micota.merging.settings import AVERAGING, ELECTING, UNSEEN, Settings
from micota.merging.tally import Tally, dot


class TensorMerge:
    """Merges a tensor block by block: first every pass sees all blocks, then each block can be merged.

    `entry` is the tensor of the result, `dtypes` are those of the inputs (torch's names). Blocks are flat, as bytes;
    `inputs` are the base's, then one for each model. Each label seeds its model's masks. A tensor that is not fp32,
    fp16 or bf16 is copied if all inputs agree on it, and an error if not. NaN or infinity, in an input or in the
    result, is a `MicotaError` that names the tensor. `see` and `block` may run on any thread.
    """

    def __init__(self, entry: Entry, labels: Sequence[str], settings: Settings, dtypes: Sequence[str]) -> None:
        self.entry, self.labels, self.settings, self._dtypes = entry, labels, settings, dtypes
        self._selection = Selection(settings, labels, entry.name, "float32" in (entry.torch_dtype, *dtypes))
        self._is_float = set(dtypes) <= set(FLOATS)
        self.passes: list[Pass] = passes(self._selection, entry.numel) if self._is_float else []
        plain = settings.method in UNSEEN and not settings.normalizes and self._copied() is None
        self._single = plain and len(labels) == 1 and {entry.torch_dtype, *dtypes} == {"bfloat16"}

    def see(self, pass_: Pass, block: int, size: int, inputs: Sequence[Bytes]) -> Any:
        """What a pass sees in a block of `size` elements; one that does not read needs no inputs."""
        import numpy as np

        with np.errstate(over="ignore", invalid="ignore"):
            if self._single and pass_.reads and isinstance(pass_, Rescales):
                return pass_.see_single(block, *(words(elements, "bfloat16") for elements in inputs))
            return pass_.see(block, size, pieces(inputs, self._dtypes) if pass_.reads else ())

    def block(self, block: int, inputs: Sequence[Bytes], into: Bytes) -> Tally:
        """Put the merged block into `into`, of its size; returns what was seen of its task vectors."""
        import numpy as np

        if not self._is_float:
            self._refuse_different(inputs)
            into[:] = inputs[0]
            return Tally()
        bits = [self._selection.bits(i, block, len(into) // self.entry.itemsize) for i in range(len(self.labels))]
        with np.errstate(over="ignore", invalid="ignore"):
            single = self._single
            tally, finite = self._interpolate(inputs, bits[0], into) if single else self._pieces(inputs, bits, into)
        if not finite:
            self._refuse_not_finite(inputs)
        return tally

    def _pieces(self, inputs: Sequence[Bytes], bits: Sequence[Bits], into: Bytes) -> tuple[Tally, bool]:
        """Any merge, piece by piece; also whether all is finite."""
        import numpy as np

        tally, finite, dtype, width = Tally(), True, self.entry.torch_dtype, self.entry.itemsize
        for place, parts, rows in pieces(inputs, self._dtypes):
            mixed, seen = self._mix(place.start, parts, rows, bits)
            finite = finite and bool(np.isfinite(mixed).all())
            narrow(mixed, dtype, into[place.start * width : place.stop * width])
            tally.add(seen)
        finite = finite and all(math.isfinite(row[-1]) for row in tally.products)
        return tally, finite and is_finite(into, dtype)

    def _interpolate(self, inputs: Sequence[Bytes], mask: Bits, into: Bytes) -> tuple[Tally, bool]:
        """One task vector in bf16; also whether all is finite."""
        base, model, merged = (words(elements, "bfloat16") for elements in (*inputs, into))
        factor = self._selection.rescale[0] * self.settings.weights[0] * self.settings.lambda_
        seen = kernels.interpolate(base, model, mask, factor, merged)
        return Tally(len(base), [seen.kept], [[seen.square]]), seen.finite

    def _mix(self, start: int, parts: Sequence[Bytes], rows: Floats, bits: Sequence[Bits]) -> tuple[Floats, Tally]:
        """A piece of the result, in fp32, from those of the inputs."""
        if self.settings.method in AVERAGING:
            return self._average(rows), Tally()
        mixed, tally = self._add_vectors(start, rows, bits)
        copied = self._copied()
        if copied is not None:
            widen(parts[copied], self._dtypes[copied], mixed)
        return mixed, tally

    def _average(self, rows: Floats) -> Floats:
        import numpy as np

        settings = self.settings
        total: Floats = rows[0]
        if settings.method == "slerp":
            rows *= np.array(self._selection.arc, dtype=np.float32)[:, None]
            total += rows[1]
            return total
        total.fill(0)  # the base is no part of it
        for row, weight in zip(rows[1:], np.array(settings.weights, dtype=np.float32), strict=True):
            kernels.add(row, weight, total)
        if settings.normalizes:
            total /= np.array(settings.weights, dtype=np.float32).sum()
        return total

    def _add_vectors(self, start: int, rows: Floats, bits: Sequence[Bits]) -> tuple[Floats, Tally]:
        import numpy as np

        origin, vectors = rows[0], rows[1:]
        vectors -= origin
        tally = Tally(len(origin), [len(origin)] * len(vectors), _products(vectors))
        for i, vector in enumerate(vectors):
            if self.settings.drops(i):
                keep = self._selection.keep(i, bits[i], start, vector)
                tally.kept[i] = int(np.count_nonzero(keep))
                vector *= keep
            self._scale(vector, self._selection.rescale[i], self.settings.weights[i])
        tally.conflicts = _conflicts(vectors)
        return self._sum(vectors) + origin, tally

    def _scale(self, vector: Floats, rescale: float, weight: float) -> None:
        """Rescale and weight; the L1 rescale is rounded on its own, as in mergekit."""
        if self.settings.rescale == "l1" and rescale != 1:
            vector *= rescale
            vector *= weight
        else:
            vector *= rescale * weight

    def _sum(self, parts: Floats) -> Floats:
        """Add up what was masked, rescaled and weighted, ready to be added to the base."""
        settings = self.settings
        if settings.method in ELECTING and (settings.normalizes or len(parts) > 1):  # one vector agrees with itself
            mixed = self._elected(parts)
        else:
            mixed = parts.sum(axis=0)
            if settings.normalizes:
                mixed /= math.fsum(settings.weights)
        return mixed if settings.lambda_ == 1 else mixed * settings.lambda_

    def _elected(self, parts: Floats) -> Floats:
        """The sum of the entries whose sign is that of the whole sum; a tie counts as +."""
        import numpy as np

        down = np.sum(parts, axis=0) < 0
        votes = ((parts > 0) != down) & (parts != 0)  # np.where takes ten times as long
        parts *= votes
        mixed: Floats = parts.sum(axis=0)
        if self.settings.normalizes:
            survivors = (votes * np.array(self.settings.weights, dtype=np.float32)[:, None]).sum(axis=0)
            mixed /= np.where(survivors == 0, 1, survivors)
        return mixed

    def _copied(self) -> int | None:
        """Which input (0: the base) the settings ask for unchanged, if any: sums may miss its last bit."""
        settings = self.settings
        active = [i for i, weight in enumerate(settings.weights) if weight != 0]
        if settings.method in AVERAGING:
            return None
        if not active or settings.lambda_ == 0:
            return 0
        weight = 1.0 if settings.normalizes else settings.weights[active[0]]
        alone = len(active) == 1 and not settings.drops(active[0])
        return active[0] + 1 if alone and weight * settings.lambda_ == 1 else None

    def _refuse_different(self, inputs: Sequence[Bytes]) -> None:
        """What is no number to do arithmetic on is copied, if it is the same everywhere."""
        import numpy as np

        for label, dtype, elements in zip(self.labels, self._dtypes[1:], inputs[1:], strict=True):
            if dtype != self._dtypes[0] or not np.array_equal(elements, inputs[0]):
                what = f"cannot be merged: torch.{dtype} and, in the base, torch.{self._dtypes[0]}"
                why = "only float32, float16 and bfloat16 are merged; anything else must be the same everywhere"
                raise MicotaError(f"tensor {self.entry.name} {what}", where=label, why=why)

    def _refuse_not_finite(self, inputs: Sequence[Bytes]) -> None:
        name = self.entry.name
        for label, elements, dtype in zip(("base", *self.labels), inputs, self._dtypes, strict=True):
            if not is_finite(elements, dtype):
                raise MicotaError(f"tensor {name} holds NaN or infinity", where=label, fix="use an intact copy")
        why = f"the inputs are finite, but the result does not fit {self.entry.torch_dtype}"
        fix = "lower the weights or lambda, raise the density, or write another dtype"
        raise MicotaError(f"tensor {name} overflows in the merge", why=why, fix=fix)


def _products(vectors: Floats) -> list[list[float]]:
    return [[dot(a, b) for b in vectors[: i + 1]] for i, a in enumerate(vectors)]


def _conflicts(parts: Floats) -> int:
    import numpy as np

    if len(parts) < 2:
        return 0
    return int(np.count_nonzero((parts > 0).any(axis=0) & (parts < 0).any(axis=0)))
