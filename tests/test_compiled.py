"""Machine code of the merge: equal to exact arithmetic bit for bit, on every processor, from the first call on."""

from __future__ import annotations

import math
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from micota.merging import kernels as compiled
from micota.merging import kernels_llvm as llvm
from micota.merging.buffers import raw, typed
from micota.merging.masks import BLOCK

SIZES = (1, 15, 16, 17, 40_000, BLOCK - 1)
EDGES = [0.0, -0.0, 1e-40, -1e-40, 1.0, -1.0, 3e38, -3e38, 2.0**-133, 65504.0, 1e-20, 1.00390625]
"""Zeros, subnormals, the largest, and a tie of rounding."""
PROCESSORS = {"x86_64": [("x86-64", ""), ("x86-64-v2", ""), ("x86-64-v3", "")], "aarch64": [("generic", "")]}


def blocks(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A base and a model in bf16; the first 144 elements are all pairs of EDGES."""
    generator = torch.Generator().manual_seed(size)
    base = 0.02 * torch.randn(size, generator=generator)
    model = base + 0.01 * torch.randn(size, generator=generator)
    if size > 144:
        edges = torch.tensor(EDGES)
        base[:144], model[:144] = edges.repeat(12), edges.repeat_interleave(12)
    return base.bfloat16(), model.bfloat16()


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit, but that there are many NaN."""
    return torch.equal(torch.isnan(one), torch.isnan(other)) and torch.equal(
        one.nan_to_num(0).view(torch.int16), other.nan_to_num(0).view(torch.int16)
    )


def lerp(base: torch.Tensor, model: torch.Tensor, factor: float) -> torch.Tensor:
    """base + factor * (model - base) with a fused multiplication and addition, from the nearer end.

    Torch's own depends on the processor: without AVX2 it rounds the product first.
    """
    vector, step = (model.float() - base.float()).double(), np.float32(factor)
    anchor, way = (base, step) if abs(step) < 0.5 else (model, step - np.float32(1))
    product, start = vector * float(way), anchor.double()  # exact: 24 bits times 24
    total = product + start
    back = total - start
    error = (product - back) + (start - (total - back))  # what the sum lacks (Knuth's TwoSum)
    bits = total.view(torch.int64)
    inexact = (error != 0) & error.isfinite()
    toward = torch.where((error > 0) == (total > 0), bits, bits - 1)
    odd = torch.where(inexact, toward | 1, bits).view(torch.float64)  # rounded to odd, a second rounding does no harm
    return odd.float().bfloat16()


def mask(size: int, level: int = 45_875) -> tuple[np.ndarray, np.ndarray, int]:
    """As bits, as bools, and how many it keeps."""
    bits, count = compiled.draw([1, 2, 3, 4], level, size)
    return bits, np.unpackbits(bits, count=size, bitorder="little").view(bool), count


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [0.3, 0.5, 6 / 7, 1.0, 1.7, -0.2, 0.0, -3.0])
def test_it_is_one_fused_step_rounded_to_bf16_where_an_entry_is_kept(size: int, factor: float) -> None:
    base, model = blocks(size)
    bits, kept, count = mask(size)
    merged = torch.empty_like(base)
    seen = compiled.merge(raw(base), raw(model), bits, factor, raw(merged))
    expected = torch.where(torch.from_numpy(kept), lerp(base, model, factor), base)
    assert same(merged, expected)
    assert (seen.kept, seen.finite) == (count, bool(torch.isfinite(expected).all()) and math.isfinite(seen.square))
    whole = torch.empty_like(base)
    assert compiled.merge(raw(base), raw(model), None, factor, raw(whole)).kept == size
    assert same(whole, lerp(base, model, factor))


@pytest.mark.parametrize("size", SIZES)
def test_its_sums_are_those_of_the_exact_numbers(size: int) -> None:
    base, model = (one[144 if size > 144 else 0 :] for one in blocks(size))
    bits, kept, _ = mask(len(base))
    vector = (model.double() - base.double()).numpy()
    seen = compiled.merge(raw(base), raw(model), bits, 0.5, raw(torch.empty_like(base)))
    assert seen.square == pytest.approx(math.fsum(vector**2), rel=1e-6)
    assert compiled.sizes(raw(base), raw(model), bits) == pytest.approx(
        (math.fsum(abs(vector)), math.fsum(abs(vector[kept]))), rel=1e-6
    )


@pytest.mark.parametrize("sick", [math.nan, math.inf, -math.inf])
def test_a_sick_input_is_seen_though_it_is_dropped(sick: float) -> None:
    base, model = torch.ones(2).bfloat16(), torch.tensor([1.0, sick]).bfloat16()
    for pair in ((base, model), (model, base)):
        assert not finite(*pair, factor=0.5, kept=0b01)


def test_an_overflow_is_seen_where_it_is_kept() -> None:
    base, model = torch.tensor([1e18, 1.0]).bfloat16(), torch.tensor([2e18, 1.0]).bfloat16()
    assert not finite(base, model, factor=3.5e20, kept=0b01)
    assert finite(base, model, factor=3.5e20, kept=0b10)


def finite(base: torch.Tensor, model: torch.Tensor, factor: float, kept: int) -> bool:
    bits = np.array([kept, 0], dtype=np.uint8)
    return compiled.merge(raw(base), raw(model), bits, factor, raw(torch.empty_like(base))).finite


@pytest.mark.parametrize("size", [*SIZES, 0])
@pytest.mark.parametrize("level", [0, 1, 45_875, 65_535, 65_536])
def test_masks_are_the_words_of_numpy(size: int, level: int) -> None:
    stream = np.random.SFC64(12345)
    lanes = np.random.SFC64(12345).random_raw(-(-size // 4) + 1).view("<u2")[:size]
    bits, count = compiled.draw(stream.state["state"]["state"].tolist(), level, size)
    kept = np.unpackbits(bits, bitorder="little")
    assert np.array_equal(kept[:size].view(bool), lanes < level)
    assert count == kept.sum() == (lanes < level).sum(), "nothing is set behind the end"


@pytest.mark.skipif(platform.machine() not in PROCESSORS, reason=f"no list of processors for {platform.machine()}")
def test_every_processor_gives_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without fused multiplication, with it, with wide vectors: values and sums are equal, not only close."""
    base, model = blocks(100_001)

    def everything() -> list[object]:
        bits, _, count = mask(100_001)
        merged = [torch.empty_like(base) for _ in range(2)]
        seen = [compiled.merge(raw(base), raw(model), bits, f, raw(m)) for f, m in zip((0.3, 0.9), merged, strict=True)]
        near, far = raw(base[144:]), raw(model[144:])  # without those whose squares overflow
        some = mask(len(near) // 2)[0]
        sums = compiled.sizes(near, far, some), compiled.merge(near, far, some, 0.9, near.copy()).square
        return [bytes(bits), count, [bytes(raw(m)) for m in merged], [one.kept for one in seen], sums]

    here = everything()
    for cpu, features in PROCESSORS[platform.machine()]:
        code = llvm.translate(cpu, features)
        monkeypatch.setattr(compiled, "code", lambda code=code: code)
        assert everything() == here, cpu


def test_many_threads_may_be_the_first() -> None:
    code = """
import threading
from micota.merging.masks import mask_bits
gate, counts = threading.Barrier(8), []
def one():
    gate.wait()
    counts.append(mask_bits(0, "m", "w", 0, 2**20, 0.7)[1])
threads = [threading.Thread(target=one) for _ in range(8)]
[thread.start() for thread in threads], [thread.join() for thread in threads]
print(len(counts), len(set(counts)))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "8 1"


def test_bytes_and_tensors_share_their_memory() -> None:
    tensor = torch.zeros(3, dtype=torch.bfloat16)
    typed(raw(tensor), "bfloat16")[1] = 2.0
    assert tensor.tolist() == [0.0, 2.0, 0.0]
