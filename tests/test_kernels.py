"""The kernels of a merge, in NumPy and compiled: equal to exact arithmetic."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from whole_tensor import raw

from micota.merging import kernels
from micota.merging.buffers import typed
from micota.merging.masks import BLOCK

SIZES = (1, 15, 16, 17, 40_000, BLOCK - 1)
EDGES = [0.0, -0.0, 1e-40, -1e-40, 1.0, -1.0, 3e38, -3e38, 2.0**-133, 65504.0, 1e-20, 1.00390625]
"""Zeros, subnormals, the largest, and a tie of rounding."""


@pytest.fixture(params=["numpy", "compiled"], autouse=True)
def form(request: pytest.FixtureRequest) -> Iterator[None]:
    kernels.prepare(kernels.ENOUGH if request.param == "compiled" else 0)
    yield
    kernels.prepare(0)


def blocks(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A base and a model in bf16; the first 144 elements are all pairs of EDGES."""
    generator = torch.Generator().manual_seed(size)
    base = 0.02 * torch.randn(size, generator=generator)
    model = base + 0.01 * torch.randn(size, generator=generator)
    if size > 144:
        edges = torch.tensor(EDGES)
        base[:144], model[:144] = edges.repeat(12), edges.repeat_interleave(12)
    return base.bfloat16(), model.bfloat16()


def words(block: torch.Tensor) -> np.ndarray:
    """The bits of a block, in the same memory."""
    return raw(block).view(np.uint16)


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
    bits, count = kernels.draw([1, 2, 3, 4], level, size)
    return bits, np.unpackbits(bits, count=size, bitorder="little").view(bool), count


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [0.3, 0.5, 6 / 7, 1.0, 1.7, -0.2, 0.0, -3.0])
def test_it_is_one_fused_step_rounded_to_bf16_where_an_entry_is_kept(size: int, factor: float) -> None:
    base, model = blocks(size)
    bits, kept, count = mask(size)
    merged = torch.empty_like(base)
    seen = kernels.interpolate(words(base), words(model), bits, factor, words(merged))
    expected = torch.where(torch.from_numpy(kept), lerp(base, model, factor), base)
    assert same(merged, expected)
    assert (seen.kept, seen.finite) == (count, bool(torch.isfinite(expected).all()) and math.isfinite(seen.square))
    whole = torch.empty_like(base)
    assert kernels.interpolate(words(base), words(model), None, factor, words(whole)).kept == size
    assert same(whole, lerp(base, model, factor))


@pytest.mark.parametrize("size", SIZES)
def test_its_sums_are_those_of_the_exact_numbers(size: int) -> None:
    base, model = (one[144 if size > 144 else 0 :] for one in blocks(size))
    vector = (model.double() - base.double()).numpy()
    seen = kernels.interpolate(words(base), words(model), None, 0.5, words(torch.empty_like(base)))
    assert seen.square == pytest.approx(math.fsum(vector**2), rel=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_widening_rounding_adding_and_inner_products_are_those_of_exact_numbers(size: int) -> None:
    base, model = blocks(size)
    wide, back = np.empty(size, np.float32), np.empty(2 * size, np.uint8)
    kernels.widen(raw(model), "bfloat16", wide)
    assert np.array_equal(wide.view(np.uint32), model.float().view(torch.int32).numpy().view(np.uint32))
    odd = (base.float() + model.float() / 256).numpy()
    finite = kernels.narrow(odd, "bfloat16", back)
    assert finite == bool(torch.isfinite(torch.from_numpy(odd).bfloat16()).all())
    assert same(typed(back, "bfloat16"), torch.from_numpy(odd).bfloat16())
    for dtype in ("bfloat16", "float32"):
        total, elements = base.float().numpy().copy(), raw(model.to(getattr(torch, dtype)))
        with np.errstate(over="ignore", invalid="ignore"):
            kernels.add(elements, dtype, np.float32(0.3), total)
        exact = base.double() + model.double() * float(np.float32(0.3))
        assert np.array_equal(total, exact.float().numpy(), equal_nan=True)
    first, second = (one[144 if size > 144 else 0 :].float().numpy() for one in (base, model))
    products = [float(a) * float(b) for a, b in zip(first, second, strict=True)]
    assert kernels.inner(first, second) == pytest.approx(math.fsum(products), rel=1e-12)
    assert kernels.total(first) == pytest.approx(math.fsum(first), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_an_average_in_one_walk_is_that_of_sums_division_and_rounding(size: int) -> None:
    kernels.prepare(kernels.ENOUGH)
    base, model = blocks(size)
    weights, divisor = np.array([0.3, -0.8, 1.1], np.float32), np.float32(0.6)
    models = [words(one) for one in (base, model, base.flip(0))]
    total, merged, stepwise = np.zeros(size, np.float32), np.empty(size, np.uint16), np.empty(2 * size, np.uint8)
    finite = kernels.average(models, weights, divisor, merged)
    kernels.prepare(0)
    with np.errstate(over="ignore", invalid="ignore"):
        for one, weight in zip(models, weights, strict=True):
            kernels.add(one.view(np.uint8), "bfloat16", weight, total)
        kernels.divide(total, divisor)
        assert finite == kernels.narrow(total, "bfloat16", stepwise)
    assert same(typed(merged.view(np.uint8), "bfloat16"), typed(stepwise, "bfloat16"))


def test_inner_products_have_one_value_in_both_forms() -> None:
    first, second = (one.float().numpy() for one in blocks(40_001))
    each = set()
    for elements in (0, kernels.ENOUGH):
        kernels.prepare(elements)
        each.add(kernels.inner(first[144:], second[144:]))
    assert len(each) == 1


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
    return kernels.interpolate(words(base), words(model), bits, factor, words(torch.empty_like(base))).finite


@pytest.mark.parametrize("size", [*SIZES, 0])
@pytest.mark.parametrize("level", [0, 1, 45_875, 65_535, 65_536])
def test_masks_are_the_words_of_numpy(size: int, level: int) -> None:
    stream = np.random.SFC64(12345)
    lanes = np.random.SFC64(12345).random_raw(-(-size // 4) + 1).view("<u2")[:size]
    bits, count = kernels.draw(stream.state["state"]["state"].tolist(), level, size)
    kept = np.unpackbits(bits, bitorder="little")
    assert np.array_equal(kept[:size].view(bool), lanes < level)
    assert count == kept.sum() == (lanes < level).sum(), "nothing is set behind the end"


def test_bytes_and_tensors_share_their_memory() -> None:
    tensor = torch.zeros(3, dtype=torch.bfloat16)
    typed(raw(tensor), "bfloat16")[1] = 2.0
    assert tensor.tolist() == [0.0, 2.0, 0.0]
