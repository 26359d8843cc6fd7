"""One tensor's merge: what a block of its inputs becomes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError
from micota.merging import kernels
from micota.merging.buffers import FLOATS, Bytes, fp32, typed
from micota.merging.passes import Pass, Rescales, Selection, masked, passes
from micota.merging.safetensor_files import Entry
from micota.merging.settings import AVERAGING, ELECTING, UNSEEN, Settings
from micota.merging.tally import Tally, dot

if TYPE_CHECKING:
    import torch


@contextmanager
def single_threaded() -> Iterator[None]:
    """Torch computes on one thread inside, so that its sums are always the same, and none fights with ours."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def task_vectors(inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """A block of the base, and for each model its difference to it, all in fp32."""
    origin = fp32("base", inputs[0])
    return origin, [fp32(f"model {i}", model).sub_(origin) for i, model in enumerate(inputs[1:])]


class TensorMerge:
    """Merges a tensor block by block: first every pass sees all blocks, then each block can be merged.

    `entry` is the tensor of the result, `dtypes` are those of the inputs (torch's names). Blocks are flat, as bytes;
    `inputs` are the base's, then one for each model. Each label seeds its model's masks. A tensor that is not fp32,
    fp16 or bf16 is copied if all inputs agree on it, and an error if not. NaN or infinity, in an input or in the
    result, is a `MicotaError` that names the tensor. `see` and `block` may run on any thread.
    """

    def __init__(self, entry: Entry, labels: Sequence[str], settings: Settings, dtypes: Sequence[str]) -> None:
        self.entry, self.labels, self.settings, self._dtypes = entry, labels, settings, dtypes
        self._selection = Selection(settings, labels, entry.name)
        self._is_float = set(dtypes) <= set(FLOATS)
        self.passes: list[Pass] = passes(self._selection, entry.numel) if self._is_float else []
        plain = settings.method in UNSEEN and not settings.normalizes and self._copied() is None
        self._compiled = plain and len(labels) == 1 and {entry.torch_dtype, *dtypes} == {"bfloat16"}

    @property
    def needs_torch(self) -> bool:
        """False for the commonest merge, of one task vector in bf16, which is compiled."""
        return self._is_float and not self._compiled

    def see(self, pass_: Pass, block: int, size: int, inputs: Sequence[Bytes]) -> Any:
        """What a pass sees in a block of `size` elements; one that does not read needs no inputs."""
        if not pass_.reads:
            return pass_.see(block, size, [])
        if self._compiled and isinstance(pass_, Rescales):
            return pass_.see_compiled(block, inputs[0], inputs[1])
        tensors = self._tensors(inputs)
        slerp = self.settings.method == "slerp"
        return pass_.see(block, size, [tensor.float() for tensor in tensors] if slerp else task_vectors(tensors)[1])

    def block(self, block: int, inputs: Sequence[Bytes], into: Bytes) -> Tally:
        """Put the merged block into `into`, of its size; returns what was seen of its task vectors."""
        if not self._is_float:
            self._refuse_different(inputs)
            into[:] = inputs[0]
            return Tally()
        if self._compiled:
            tally, finite = self._merge_compiled(block, inputs, into)
        else:
            tally, finite = self._merge(block, self._tensors(inputs), typed(into, self.entry.torch_dtype))
        if not finite:
            self._refuse_not_finite(self._tensors(inputs))
        return tally

    def _tensors(self, inputs: Sequence[Bytes]) -> list[torch.Tensor]:
        return [typed(elements, dtype) for elements, dtype in zip(inputs, self._dtypes, strict=True)]

    def _merge_compiled(self, block: int, inputs: Sequence[Bytes], merged: Bytes) -> tuple[Tally, bool]:
        """Also whether all is finite."""
        size = len(merged) // 2
        mask = self._selection.random(0, block, size)[0] if self.settings.drops(0) else None
        factor = self._selection.rescale[0] * self.settings.weights[0] * self.settings.lambda_
        seen = kernels.merge(inputs[0], inputs[1], mask, factor, merged)
        return Tally(size, [seen.kept], [[seen.square]]), seen.finite

    def _merge(self, block: int, inputs: Sequence[torch.Tensor], merged: torch.Tensor) -> tuple[Tally, bool]:
        if self.settings.method in AVERAGING:
            mixed, tally, finite = self._average(inputs), Tally(), True
        else:
            mixed, tally = self._add_vectors(block, inputs)
            finite = all(math.isfinite(row[-1]) for row in tally.products)
        return tally, finite and _is_finite(merged.copy_(mixed))

    def _average(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        settings = self.settings
        if settings.method == "slerp":
            first, second = self._selection.arc
            return fp32("base", inputs[0]).mul_(first).add_(fp32("model", inputs[1]).mul_(second))
        total = fp32("base", torch.zeros(1).expand(inputs[0].numel()))
        for model, weight in zip(inputs[1:], settings.weights, strict=True):
            total.addcmul_(model.float(), torch.tensor([weight]))
        return total.div_(torch.tensor(settings.weights).sum()) if settings.normalizes else total

    def _add_vectors(self, block: int, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, Tally]:
        import numpy as np

        origin, vectors = task_vectors(inputs)
        tally = Tally(origin.numel(), [origin.numel()] * len(vectors), _products(vectors))
        for i, vector in enumerate(vectors):
            if self.settings.drops(i):
                mask = self._selection.keep(i, block, vector)
                tally.kept[i] = int(np.count_nonzero(mask))
                masked(vector, mask)
            self._scale(vector, self._selection.rescale[i], self.settings.weights[i])
        tally.conflicts = _conflicts(vectors)
        copied = self._copied()
        return inputs[copied] if copied is not None else self._mix(vectors).add_(origin), tally

    def _scale(self, vector: torch.Tensor, rescale: float, weight: float) -> None:
        """Rescale and weight; the L1 rescale is rounded on its own, as in mergekit."""
        if self.settings.rescale == "l1" and rescale != 1:
            vector.mul_(rescale).mul_(weight)
        else:
            vector.mul_(rescale * weight)

    def _mix(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Add up what was masked, rescaled and weighted: fp32, ready to be added to the base."""
        settings = self.settings
        if settings.method in ELECTING and (settings.normalizes or len(parts) > 1):  # one vector agrees with itself
            mixed = self._elected(parts)
        else:
            mixed = _sum(parts)
            if settings.normalizes:
                mixed = mixed / math.fsum(settings.weights)
        return mixed if settings.lambda_ == 1 else mixed * settings.lambda_

    def _elected(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """The sum of the entries whose sign is that of the whole sum; a tie counts as +."""
        elected = (_sum(parts) >= 0).float() * 2 - 1
        agree = [(part * elected > 0).float() for part in parts]
        mixed = _sum([part * vote for part, vote in zip(parts, agree, strict=True)])
        if not self.settings.normalizes:
            return mixed
        survivors = _sum([vote * weight for vote, weight in zip(agree, self.settings.weights, strict=True)])
        return mixed / survivors.masked_fill(survivors == 0, 1.0)

    def _copied(self) -> int | None:
        """Which input (0: the base) the settings ask for unchanged, if any: sums may miss its last bit."""
        settings = self.settings
        active = [i for i, weight in enumerate(settings.weights) if weight != 0]
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

    def _refuse_not_finite(self, inputs: Sequence[torch.Tensor]) -> None:
        name = self.entry.name
        for label, tensor in zip(("base", *self.labels), inputs, strict=True):
            if not _is_finite(tensor):
                raise MicotaError(f"tensor {name} holds NaN or infinity", where=label, fix="use an intact copy")
        why = f"the inputs are finite, but the result does not fit {self.entry.torch_dtype}"
        fix = "lower the weights or lambda, raise the density, or write another dtype"
        raise MicotaError(f"tensor {name} overflows in the merge", why=why, fix=fix)


def _sum(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return sum(parts[1:], parts[0])


def _products(vectors: Sequence[torch.Tensor]) -> list[list[float]]:
    return [[dot(a, b) for b in vectors[: i + 1]] for i, a in enumerate(vectors)]


def _conflicts(parts: Sequence[torch.Tensor]) -> int:
    if len(parts) < 2:
        return 0
    some_up, some_down = parts[0] > 0, parts[0] < 0
    for part in parts[1:]:
        some_up, some_down = some_up | (part > 0), some_down | (part < 0)
    return int((some_up & some_down).sum())


def _is_finite(tensor: torch.Tensor) -> bool:
    import torch

    return not tensor.numel() or all(math.isfinite(end) for end in torch.aminmax(tensor))  # NaN comes through
