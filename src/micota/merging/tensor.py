"""One tensor's merge: what a block of its inputs becomes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from micota.errors import MicotaError
from micota.merging import kernels, vectors
from micota.merging.buffers import FLOATS, Bytes, Floats, is_finite, own, words
from micota.merging.kernels import narrow, parts, rows, widen
from micota.merging.masks import BLOCK, blocks
from micota.merging.passes import Pass, passes
from micota.merging.safetensor_files import Entry
from micota.merging.selection import Chance, Selection
from micota.merging.settings import AVERAGING, ELECTING, FIXED, UNSEEN, Settings
from micota.merging.tally import Tally
from micota.merging.vectors import Addition


class TensorMerge:
    """Merges a tensor block by block: first every pass sees all blocks, then each block can be merged.

    `entry` is the tensor of the result, `dtypes` are those of the inputs (torch's names). Blocks are flat, as bytes;
    `inputs` are the base's, then one for each model. Each label seeds its model's masks. A tensor that is not fp32,
    fp16 or bf16 is copied if all inputs agree on it, and an error if not. NaN or infinity, in an input or in the
    result, is a `MicotaError` that names the tensor. `see` and `block` may run on any thread.
    """

    def __init__(self, entry: Entry, labels: Sequence[str], settings: Settings, dtypes: Sequence[str]) -> None:
        self.entry, self.labels, self.settings, self._dtypes = entry, labels, settings, dtypes
        self._is_float = set(dtypes) <= set(FLOATS)
        ranked = settings.method.startswith("della") and self._is_float and any(map(settings.drops, range(len(labels))))
        self._row = max(1, entry.shape[-1]) if ranked and entry.shape else 1
        if self._row > BLOCK:
            what = f"tensor {entry.name} has rows of {self._row} entries, more than {BLOCK} at once cannot be ranked"
            raise MicotaError(what, fix="method dare_ties or dare_linear, or density 1 for this tensor")
        fine = "float32" in (entry.torch_dtype, *dtypes)
        self._selection = Selection(settings, labels, entry.name, fine, self._row)
        self.passes: list[Pass] = passes(self._selection, entry.numel) if self._is_float else []
        plain = settings.method in UNSEEN and not settings.normalizes and self._copied() is None
        self._bf16 = {entry.torch_dtype, *dtypes} == {"bfloat16"}
        self._single = plain and len(labels) == 1 and self._bf16

    def blocks(self) -> Iterator[tuple[int, int, int]]:
        """(block number, start, stop) for every block."""
        return blocks(self.entry.numel, self._row)

    def see(self, pass_: Pass, block: int, size: int, inputs: Sequence[Bytes]) -> Any:
        """What a pass sees in a block of `size` elements; one that does not read needs no inputs."""
        import numpy as np

        with np.errstate(over="ignore", invalid="ignore"):
            pieces = ((place, rows(piece, self._dtypes)) for place, piece in parts(inputs, self._dtypes, self._row))
            return pass_.see(block, size, pieces if pass_.reads else ())

    def block(self, block: int, inputs: Sequence[Bytes], into: Bytes) -> Tally:
        """Put the merged block into `into`, of its size; returns what was seen of its task vectors."""
        import numpy as np

        if not self._is_float:
            self._refuse_different(inputs)
            into[:] = inputs[0]
            return Tally()
        chances = [self._selection.chance(i, block, len(into) // self.entry.itemsize) for i in range(len(self.labels))]
        with np.errstate(over="ignore", invalid="ignore"):
            if self._single:
                tally, finite = self._interpolate(inputs, chances[0], into)
            elif self.settings.method == "linear" and self._bf16 and kernels.is_compiled():
                models = [words(elements, "bfloat16") for elements in inputs[1:]]
                tally, finite = Tally(), kernels.average(models, *self._shares, words(into, "bfloat16"))
            else:
                tally, finite = self._pieces(inputs, chances, into)
        if not finite:
            self._refuse_not_finite(inputs)
        return tally

    def _pieces(self, inputs: Sequence[Bytes], chances: Sequence[Chance], into: Bytes) -> tuple[Tally, bool]:
        """Any merge, piece by piece; also whether all is finite."""
        tally, finite, dtype, width = Tally(), True, self.entry.torch_dtype, self.entry.itemsize
        for place, piece in parts(inputs, self._dtypes, self._row):
            mixed, seen = self._mix(place.start, piece, chances)
            finite &= narrow(mixed, dtype, into[place.start * width : place.stop * width])
            tally.add(seen)
        return tally, finite and all(math.isfinite(row[-1]) for row in tally.products)

    def _interpolate(self, inputs: Sequence[Bytes], chance: Chance, into: Bytes) -> tuple[Tally, bool]:
        """One task vector in bf16; also whether all is finite."""
        base, model, merged = (words(elements, "bfloat16") for elements in (*inputs, into))
        factor = self._selection.rescale[0] * self.settings.weights[0] * self.settings.lambda_
        seen = kernels.interpolate(base, model, chance[0] if chance else None, factor, merged)
        return Tally(len(base), [seen.kept], [[seen.square]]), seen.finite

    def _mix(self, start: int, piece: Sequence[Bytes], chances: Sequence[Chance]) -> tuple[Floats, Tally]:
        """A piece of the result, in fp32, from those of the inputs."""
        import numpy as np

        if self.settings.method == "linear":
            return self._average(piece), Tally()
        values = rows(piece, self._dtypes)
        if self.settings.method == "passthrough":
            return values[0] * np.float32(self.settings.lambda_) if self.settings.lambda_ != 1 else values[0], Tally()
        mixed = own("mixed", 4 * values.shape[1]).view(np.float32)
        if self.settings.method == "slerp" or self.settings.whole:
            vectors.weighted(values[-2:], self._selection.weights, mixed)
            return mixed, Tally()
        tally = self._addition.add(values, self._selection.kept(chances, start, values), mixed)
        copied = self._copied()
        if copied is not None:
            widen(piece[copied], self._dtypes[copied], mixed)
        return mixed, tally

    def _average(self, piece: Sequence[Bytes]) -> Floats:
        """The weighted average of the models; the base is no part of it."""
        import numpy as np

        weights, divisor = self._shares
        total = own("mixed", 4 * len(words(piece[0], self._dtypes[0]))).view(np.float32)
        total.fill(0)
        for elements, dtype, weight in zip(piece[1:], self._dtypes[1:], weights, strict=True):
            kernels.add(elements, dtype, weight, total)
        kernels.divide(total, divisor)
        return total

    @property
    def _shares(self) -> tuple[Floats, Any]:
        """The weights of an average, and by what the sum is divided."""
        import numpy as np

        weights = np.array(self.settings.weights, dtype=np.float32)
        return weights, weights.sum() if self.settings.normalizes else np.float32(1)

    @cached_property
    def _addition(self) -> Addition:
        """How the task vectors are added up, once the passes have found rescales and weights."""
        settings, weights = self.settings, self._selection.weights
        elects = settings.method in ELECTING and (settings.normalizes or len(weights) > 1)  # one agrees with itself
        apart = settings.rescale == "l1"  # then the rescale is rounded on its own, as in mergekit
        pairs = zip(self._selection.rescale, weights, strict=True)
        return Addition(
            [(rescale, weight) if apart and rescale != 1 else (rescale * weight, 1.0) for rescale, weight in pairs],
            weights,
            "plain" if settings.method == "sce" else "weighted" if elects else "no",
            settings.normalizes or settings.method == "sce",
            1e-6 if settings.method == "sce" else 0.0,
            settings.lambda_,
        )

    def _copied(self) -> int | None:
        """Which input (0: the base) the settings ask for unchanged, if any: sums may miss its last bit."""
        settings = self.settings
        active = [i for i, weight in enumerate(settings.weights) if weight != 0]
        if settings.method == "passthrough":
            return 0 if settings.lambda_ == 1 else None
        if settings.method in (*AVERAGING, *FIXED):
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
