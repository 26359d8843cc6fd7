"""Task vectors added up: what NumPy says and what the compiled walk does, bit for bit, and exact numbers by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from micota.merging import kernels, vectors
from micota.merging.vectors import LARGEST, Addition, Kept

FORMS = (0, kernels.ENOUGH)
SIZES = (1, 9, 4_095, 4_097, 20_011)


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    yield
    kernels.prepare(0)


def models(count: int, size: int) -> np.ndarray:
    """A base and models near it in fp32 [count + 1, size], as bf16 rounds them: with zeros and equal magnitudes."""
    dice = np.random.default_rng(size)
    base = dice.normal(0, 0.02, size)
    values = np.stack([base, *(base + dice.normal(0, 0.001, size) * (dice.random(size) < 0.9) for _ in range(count))])
    return (values.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)


def kept(size: int, threshold: int) -> list[Kept | None]:
    """By a mask, by size with a mask for those at the threshold, and all."""
    bits = np.random.default_rng(1).integers(0, 256, -(-size // 8)).astype(np.uint8)
    return [Kept(bits), Kept(bits[::-1].copy(), threshold, threshold), None]


def in_both(call: Any) -> list[Any]:
    """What a function returns in NumPy and compiled."""
    results = []
    for elements in FORMS:
        kernels.prepare(elements)
        results.append(call())
    return results


@pytest.mark.parametrize("elects", ["no", "weighted", "plain"])
@pytest.mark.parametrize("divides", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_compiled_walk_has_the_bits_of_numpy(size: int, divides: bool, elects: Any) -> None:
    for count, least, scale in ((1, 0.0, 1.0), (2, 1e-6, 0.7), (3, 0.0, 1.0)):
        values = models(count, size)
        threshold = int(np.median(vectors.magnitudes(values[-1] - values[0])))
        keep = kept(size, threshold)[:count]
        how = Addition(
            [(1.4, 0.6), (0.9, 1.0), (1.0, -0.3)][:count], (0.6, 0.5, -0.3)[:count], elects, divides, least, scale
        )

        def added(values: Any = values, how: Any = how, keep: Any = keep) -> tuple[Any, ...]:
            mixed = np.full(values.shape[1], 7, np.float32)
            tally = how.add(values.copy(), keep, mixed)
            return tally.elements, tally.kept, tally.products, tally.conflicts, mixed.tobytes()

        numpy, compiled = in_both(added)
        assert numpy == compiled
        whole, halves = in_both(lambda values=values, keep=keep: vectors.sizes(values, keep).tolist())
        assert whole == halves


@pytest.mark.parametrize("elements", FORMS)
def test_one_row_by_hand(elements: int) -> None:
    """Entries: both up, against each other, one dropped, one without a sign."""
    kernels.prepare(elements)
    values = np.array([[1, 1, 1, 1], [2, 3, 3, 1], [3, 0, 2, 3]], np.float32)
    keep = [Kept(np.array([0b1011], np.uint8)), None]
    mixed = np.empty(4, np.float32)
    tally = Addition([(1, 1), (1, 1)], (0.5, 0.25), "weighted").add(values.copy(), keep, mixed)
    assert mixed.tolist() == [1 + 1 + 2, 1 + 2, 1 + 1, 1 + 2]
    assert (tally.kept, tally.conflicts, tally.products) == ([3, 4], 1, [[9], [2 - 2 + 2 + 0, 4 + 1 + 1 + 4]])
    Addition([(1, 1), (1, 1)], (0.5, 0.25), "weighted", divides=True).add(values.copy(), keep, mixed)
    assert mixed.tolist() == [1 + 3 / 0.75, 1 + 2 / 0.5, 1 + 1 / 0.25, 1 + 2 / 0.25]
    assert vectors.sizes(values, keep).tolist() == [[5, 3], [0, 0]]


@pytest.mark.parametrize("size", SIZES)
def test_magnitudes_are_counted_by_both_halves_of_their_bits(size: int) -> None:
    base, model = models(1, size)
    bits = (model - base).view(np.int32) & LARGEST
    high = int(bits[size // 2] >> 16)
    for of, number in ((None, 2**15), (high, 2**16)):

        def counted(of: Any = of, number: int = number) -> list[int]:
            counts = np.ones(number, np.int64)
            vectors.count(base, model, of, counts)
            return list(counts)

        expected = bits >> 16 if of is None else bits[bits >> 16 == of] & 0xFFFF
        assert in_both(counted) == [list(1 + np.bincount(expected, minlength=number))] * 2


@pytest.mark.parametrize("size", SIZES)
def test_a_weighted_sum_of_rows_has_one_value_in_both_forms(size: int) -> None:
    values = models(1, size)

    def mixed() -> bytes:
        into = np.empty(size, np.float32)
        vectors.weighted(values.copy(), (0.3, 0.8), into)
        return into.tobytes()

    assert in_both(mixed) == [(values[0] * np.float32(0.3) + values[1] * np.float32(0.8)).tobytes()] * 2
