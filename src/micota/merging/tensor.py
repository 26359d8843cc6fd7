"""One tensor's merge: what a block of its inputs becomes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError
from micota.merging.looks import Learnt, Look, keep, looks
from micota.merging.memory import fp32, own
from micota.merging.settings import AVERAGING, ELECTING, Settings
from micota.merging.tally import Tally, dot

if TYPE_CHECKING:
    import torch

ROW = 2**15
"""Elements whose squares are added up in fp32."""
SMALL = 2.0**100
"""What is added to a finite bf16 number, smaller than this, cannot make it infinite."""


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
    """Merges a tensor block by block: first every look sees all blocks, then each block can be merged.

    `inputs` are flat blocks: the base's, then one for each model. Each label seeds its model's masks. A tensor that is
    not fp32, fp16 or bf16 is copied if all inputs agree on it, and an error if not. NaN or infinity, in an input or in
    the result, is a `MicotaError` that names the tensor. `see` and `block` may run on any thread.
    """

    def __init__(self, name: str, numel: int, labels: Sequence[str], settings: Settings, dtype: torch.dtype) -> None:
        self.name, self.labels, self.settings, self.dtype = name, labels, settings, dtype
        self._learnt = Learnt(len(labels))
        self.looks: list[Look] = looks(settings, labels, name, numel, self._learnt)

    def see(self, look: Look, block: int, inputs: Sequence[torch.Tensor]) -> Any:
        """What a look sees in a block, None if there is nothing to merge; one that does not read takes any values."""
        if not self._mergeable(inputs):
            return None
        if not look.reads:
            return look.see(block, inputs[1:])
        if self.settings.method == "slerp":
            return look.see(block, [tensor.float() for tensor in inputs])
        return look.see(block, task_vectors(inputs)[1])

    def block(
        self, block: int, inputs: Sequence[torch.Tensor], into: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Tally]:
        """The merged block, flat, in `dtype`, and what was seen of its task vectors. It lies in memory of its own: in
        `into` if that is given, of `dtype` and the block's size, and if there was anything to merge.
        """
        import torch

        if not self._mergeable(inputs):
            return inputs[0].clone(), Tally()
        merged = torch.empty(inputs[0].numel(), dtype=self.dtype) if into is None else into
        if self._is_lean(inputs):
            seen, whole = self._lean(block, inputs[0], inputs[1], merged)
            if not whole:
                self._refuse_not_finite(inputs)
            return merged, seen
        if self.settings.method in AVERAGING:
            mixed, seen, whole = self._average(inputs), Tally(), True
        else:
            mixed, seen = self._add_vectors(block, inputs)
            whole = all(math.isfinite(row[-1]) for row in seen.products)
        if not (whole and _is_finite(merged.copy_(mixed))):
            self._refuse_not_finite(inputs)
        return merged, seen

    def _is_lean(self, inputs: Sequence[torch.Tensor]) -> bool:
        """Whether this is the commonest merge, of one task vector in bf16, which can do without fp32 copies."""
        import torch

        settings = self.settings
        plain = settings.method not in AVERAGING and not settings.normalizes and self._copied() is None
        return plain and len(inputs) == 2 and {self.dtype, *(one.dtype for one in inputs)} == {torch.bfloat16}

    def _lean(self, block: int, base: torch.Tensor, model: torch.Tensor, merged: torch.Tensor) -> tuple[Tally, bool]:
        """base + factor * (model - base) where an entry is kept: torch's lerp computes in fp32 and rounds once. Also
        whether all is finite."""
        import numpy as np
        import torch

        vector = own("vector", base.numel(), base.dtype)
        torch.sub(model, base, out=vector)  # of neighbouring bf16 numbers the difference is exact
        square = _square(vector)
        seen = Tally(base.numel(), [base.numel()], [[square]])
        kept = keep(self._learnt, self.settings, self.labels, self.name, 0, block, _float(vector, self.settings))
        factor = self._learnt.rescale[0] * self.settings.weights[0] * self.settings.lambda_
        torch.lerp(base, model, factor, out=merged)
        if kept is not None:
            seen.kept[0] = int(np.count_nonzero(kept))
            mask = own("mask", base.numel(), torch.int16)
            mask.copy_(torch.from_numpy(kept.view(np.int8))).neg_()  # 0, or all bits
            bits, origin = merged.view(torch.int16), base.view(torch.int16)
            bits.bitwise_xor_(origin).bitwise_and_(mask).bitwise_xor_(origin)
        small = math.sqrt(square) * (1 + abs(factor)) < SMALL
        return seen, math.isfinite(square) and (small or _is_finite(merged))

    def _average(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        import torch

        settings = self.settings
        if settings.method == "slerp":
            first, second = self._learnt.arc
            return fp32("base", inputs[0]).mul_(first).add_(fp32("model", inputs[1]).mul_(second))
        total = fp32("base", torch.zeros(1).expand(inputs[0].numel()))
        for model, weight in zip(inputs[1:], settings.weights, strict=True):
            total.addcmul_(model.float(), torch.tensor([weight]))
        return total.div_(torch.tensor(settings.weights).sum()) if settings.normalizes else total

    def _add_vectors(self, block: int, inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, Tally]:
        import numpy as np
        import torch

        origin, vectors = task_vectors(inputs)
        seen = Tally(origin.numel(), [origin.numel()] * len(vectors), _products(vectors))
        for i, vector in enumerate(vectors):
            kept = keep(self._learnt, self.settings, self.labels, self.name, i, block, vector)
            if kept is not None:
                seen.kept[i] = int(np.count_nonzero(kept))
                vector.mul_(fp32("kept", torch.from_numpy(kept.view(np.uint8))))  # by a bool takes eight times as long
            self._scale(vector, self._learnt.rescale[i], self.settings.weights[i])
        seen.conflicts = _conflicts(vectors)
        copied = self._copied()
        return inputs[copied] if copied is not None else self._mix(vectors).add_(origin), seen

    def _scale(self, vector: torch.Tensor, rescale: float, weight: float) -> None:
        """Rescale and weight; the L1 rescale is rounded on its own, as in mergekit."""
        if self.settings.rescale == "l1" and rescale != 1:
            vector.mul_(rescale).mul_(weight)
        else:
            vector.mul_(rescale * weight)

    def _mix(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        """Add up what was masked, rescaled and weighted: fp32, ready to be added to the base."""
        settings = self.settings
        electing = settings.method in ELECTING
        if electing and (settings.normalizes or len(parts) > 1):  # one vector agrees with itself
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

    def _mergeable(self, inputs: Sequence[torch.Tensor]) -> bool:
        """Whether the inputs are numbers to do arithmetic on; False means: copy, they are all the same."""
        import torch

        if all(tensor.dtype in (torch.float32, torch.float16, torch.bfloat16) for tensor in inputs):
            return True
        base = inputs[0]
        for label, tensor in zip(self.labels, inputs[1:], strict=True):
            if tensor.dtype != base.dtype or not torch.equal(tensor.view(torch.uint8), base.view(torch.uint8)):
                dtypes = f"{tensor.dtype} and, in the base, {base.dtype}"
                why = "only float32, float16 and bfloat16 are merged; anything else must be the same everywhere"
                raise MicotaError(f"tensor {self.name} cannot be merged: {dtypes}", where=label, why=why)
        return False

    def _refuse_not_finite(self, inputs: Sequence[torch.Tensor]) -> None:
        for label, tensor in zip(("base", *self.labels), inputs, strict=True):
            if not _is_finite(tensor):
                raise MicotaError(f"tensor {self.name} holds NaN or infinity", where=label, fix="use an intact copy")
        why = f"the inputs are finite, but the result does not fit {self.dtype}"
        fix = "lower the weights or lambda, raise the density, or write another dtype"
        raise MicotaError(f"tensor {self.name} overflows in the merge", why=why, fix=fix)


def _float(vector: torch.Tensor, settings: Settings) -> torch.Tensor:
    """In fp32, for a method that looks at the values."""
    return vector.float() if settings.method == "ties" else vector


def _square(vector: torch.Tensor) -> float:
    """Its inner product with itself; NaN or infinity in it comes out as NaN or infinity."""
    import torch

    rows = vector.numel() // ROW
    norms = torch.linalg.vector_norm(vector[: rows * ROW].view(rows, ROW), dim=1, dtype=torch.float32).tolist()
    norms.append(float(torch.linalg.vector_norm(vector[rows * ROW :], dtype=torch.float32)))
    return float(sum(norm * norm for norm in norms))


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
