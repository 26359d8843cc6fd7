"""The arithmetic of merging: hand-computed cases, exact ends, masks that never change, refusals."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from whole_tensor import merge_tensor

from micota.errors import MicotaError
from micota.merging import Settings, Tally, check, settings_of
from micota.merging.masks import BLOCK, as_bools, blocks, mask_bits
from micota.specs import Merge, Source

FIRST, LONG = "01011111110111111110111111101111", "08af61c7af52b8e0"
ODD = BLOCK + 12_345  # two blocks, the second short


def pair(numel: int, dtype: torch.dtype, models: int = 1) -> tuple[torch.Tensor, list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(7)
    base = torch.randn(numel, generator=generator)
    tuned = [base + 0.1 * torch.randn(numel, generator=generator) for _ in range(models)]
    return base.to(dtype), [model.to(dtype) for model in tuned]


def mask(seed: int, model: str, tensor: str, numel: int, density: float) -> torch.Tensor:
    """Which entries of a whole tensor survive: bool [numel]."""
    sizes = [(block, stop - start) for block, start, stop in blocks(numel)]
    parts = [as_bools(mask_bits(seed, model, tensor, b, size, density)[0], size) for b, size in sizes]
    return torch.from_numpy(np.concatenate(parts))


def bits(tensor: torch.Tensor) -> bytes:
    return bytes(tensor.contiguous().view(torch.uint8).numpy())


DARE = Settings("dare_linear", (1.0,), density=0.7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", ["task_arithmetic", "dare_linear", "dare_ties"])
def test_weight_0_is_the_base_and_weight_1_the_model_bit_for_bit(method: str, dtype: torch.dtype) -> None:
    base, (model,) = pair(5000, dtype)
    base[:3] = torch.tensor([1.0, -0.0, 6e4])
    model[:3] = torch.tensor([1e-7, 0.0, -6e4])  # far apart: base + (model - base) would not give the model
    settings = Settings(method, (0.0,))  # type: ignore[arg-type]
    assert bits(merge_tensor("w", base, [model], ["m"], settings)) == bits(base)
    for one in (replace(settings, weights=(1.0,)), replace(settings, weights=(0.5,), lambda_=2.0)):
        assert bits(merge_tensor("w", base, [model], ["m"], one)) == bits(model)


def test_linear_goes_the_stated_part_of_the_way() -> None:
    base, first, second = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0]), torch.tensor([1.0, 6.0])
    settings = Settings("task_arithmetic", (0.5, 0.25), lambda_=2.0)
    merged = merge_tensor("w", base, [first, second], ["a", "b"], settings)
    assert merged.tolist() == [3.0, 4.0]
    average = replace(settings, normalize=True, lambda_=1.0)
    merged = merge_tensor("w", base, [first, second], ["a", "b"], average)
    assert merged.tolist() == pytest.approx([1 + 2 * 2 / 3, 2 + 4 / 3])


def test_ties_by_hand() -> None:
    """Weighted task vectors 1 -2 3 0 2 -1 and 1.5 2 -1.5 -0.5 0.5 0 elect + + + - + -: a tie counts as +."""
    base = torch.ones(6)
    models = [base + torch.tensor([1.0, -2, 3, 0, 2, -1]), base + torch.tensor([3.0, 4, -3, -1, 1, 0])]
    settings, tally = Settings("dare_ties", (1.0, 0.5), lambda_=2.0), Tally()
    merged = merge_tensor("w", base, models, ["a", "b"], settings, tally)
    assert merged.tolist() == [6, 5, 7, 0, 6, -1]
    divided = merge_tensor("w", base, models, ["a", "b"], replace(settings, normalize=True))
    assert divided.tolist() == pytest.approx([1 + 10 / 3, 9, 7, -1, 1 + 10 / 3, -1])
    assert (tally.elements, tally.kept, tally.conflicts) == (6, [6, 6], 2)
    assert tally.products == [[19.0], [-12.0, 36.0]]


@pytest.mark.parametrize("rescale", ["inverse_density", "l1", "none"])
def test_dare_ties_equals_a_plain_loop(rescale: str) -> None:
    """Order: delta, mask, rescale, weight, election, sum of those that agree, division, lambda, base."""
    deltas = [[1.0, -2, 3, 4, 2, -1], [3.0, 4, -3, -1, 1, 8]]
    weights, labels = (1.0, 0.5), ["a", "b"]
    settings = Settings("dare_ties", weights, 0.6, 1.5, rescale, True, seed=3)  # type: ignore[arg-type]
    parts = []
    for delta, weight, label in zip(deltas, weights, labels, strict=True):
        kept = [d * k for d, k in zip(delta, mask(3, label, "w", 6, 0.6).tolist(), strict=True)]
        survivors, l1 = 6 / sum(k != 0 for k in kept), sum(map(abs, delta)) / sum(map(abs, kept))
        factor = {"inverse_density": survivors, "l1": l1, "none": 1.0}[rescale] * weight
        parts.append([k * factor for k in kept])
    expected = []
    for column in zip(*parts, strict=True):
        sign = 1 if sum(column) >= 0 else -1
        agree = [(part, weight) for part, weight in zip(column, weights, strict=True) if part * sign > 0]
        expected.append(10 + 1.5 * sum(p for p, _ in agree) / (sum(w for _, w in agree) or 1))
    base = torch.full((6,), 10.0)
    merged = merge_tensor("w", base, [base + torch.tensor(d) for d in deltas], labels, settings)
    assert merged.tolist() == pytest.approx(expected, rel=1e-6)
    assert any(0 in column for column in zip(*parts, strict=True)), "the case drops something"


def test_bf16_is_rounded_once() -> None:
    base, models = pair(20_000, torch.bfloat16, models=3)
    settings = Settings("task_arithmetic", (0.3, 0.3, 0.3), lambda_=1.1)
    merged = merge_tensor("w", base, models, ["a", "b", "c"], settings)
    exact = base.double() + 1.1 * sum(0.3 * (model.double() - base.double()) for model in models)
    assert merged.dtype == torch.bfloat16
    assert (merged != exact.bfloat16()).float().mean() < 1e-3  # fp32 sums next to a rounding boundary


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "dare_linear", "dare_ties"])
@pytest.mark.parametrize("rescale", ["inverse_density", "l1"])
def test_one_task_vector_in_bf16_is_what_it_is_in_fp32_rounded_once(method: str, rescale: str) -> None:
    base, (model,) = pair(ODD, torch.bfloat16)
    density = 0.6 if method != "task_arithmetic" else 1.0
    settings = Settings(method, (0.7,), density, 0.9, rescale, False)  # type: ignore[arg-type]
    lean, wide = Tally(), Tally()
    merged = merge_tensor("w", base, [model], ["m"], settings, lean)
    exact = merge_tensor("w", base.float(), [model.float()], ["m"], settings, wide)
    assert (merged != exact.bfloat16()).float().mean() < 1e-4  # fp32 sums next to a rounding boundary
    assert ((merged == base) != (exact.bfloat16() == base)).float().mean() < 1e-4
    assert lean.kept == pytest.approx(wide.kept, rel=1e-3)
    assert lean.norm(0) == pytest.approx(wide.norm(0), rel=1e-5)


def test_result_has_the_base_dtype() -> None:
    base, (model,) = pair(100, torch.float32)
    merged = merge_tensor("w", base.bfloat16(), [model], ["m"], Settings("task_arithmetic", (1.0,)))
    assert torch.equal(merged, model.bfloat16())


def test_linear_averages_and_slerp_follows_the_arc() -> None:
    base, east, north = torch.tensor([9.0, 9.0]), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    average = merge_tensor("w", base, [east, north], ["a", "b"], Settings("linear", (1.0, 3.0)))
    assert average.tolist() == [0.25, 0.75], "the base is no part of it"
    summed = merge_tensor("w", base, [east, north], ["a", "b"], Settings("linear", (1.0, 3.0), normalize=False))
    assert summed.tolist() == [1.0, 3.0]
    half = merge_tensor("w", east, [2 * north], ["b"], Settings("slerp", (0.5,)))
    assert half.tolist() == pytest.approx([0.5**0.5, 2 * 0.5**0.5])
    straight = merge_tensor("w", east, [3 * east], ["b"], Settings("slerp", (0.25,)))
    assert straight.tolist() == pytest.approx([1.5, 0.0])


def test_ties_keeps_the_largest_entries_exactly() -> None:
    base, (model,) = pair(ODD, torch.float32)
    settings = Settings("ties", (1.0,), 0.1, rescale="none")
    tally = Tally()
    merged = merge_tensor("w", base, [model], ["m"], settings, tally)
    delta = model - base
    wanted = int(0.1 * ODD)
    cut = delta.abs().sort(descending=True).values[wanted - 1]
    assert tally.kept == [wanted]
    assert torch.equal(merged != base, (delta.abs() >= cut) & (merged != base))
    assert int((delta.abs() >= cut).sum()) == wanted


def test_ties_draws_lots_among_equal_entries() -> None:
    """In bf16 thousands of entries have the size of the threshold: the share kept is the density all the same, and
    they are spread over the whole tensor."""
    base, delta = torch.zeros(4 * BLOCK), torch.ones(4 * BLOCK)
    delta[: BLOCK // 2] = 2.0
    tally = Tally()
    merged = merge_tensor("w", base, [delta], ["m"], Settings("ties", (1.0,), 0.5, rescale="none"), tally)
    assert tally.kept[0] / (4 * BLOCK) == pytest.approx(0.5, abs=0.001)
    assert (merged[: BLOCK // 2] == 2).all()
    later = (merged[BLOCK:] != 0).float().view(3, -1).mean(dim=1)
    assert later.tolist() == pytest.approx([1.5 / 3.5] * 3, abs=0.005)


def test_densities_differ_by_model() -> None:
    base, models = pair(ODD, torch.float32, models=2)
    tally = Tally()
    merge_tensor("w", base, models, ["a", "b"], Settings("dare_linear", (0.5, 0.5), (0.2, 1.0)), tally)
    assert tally.kept[0] / ODD == pytest.approx(0.2, abs=0.01)
    assert tally.kept[1] == ODD


def test_masks_are_the_raw_words_of_the_stream() -> None:
    """`Generator.integers` over the full range hands the words on; if a NumPy ever changes that, masks would change."""
    key = hashlib.sha256(b'[3, "m", "w", 0]').digest()
    raw = np.random.SFC64(int.from_bytes(key, "little")).random_raw(25_000).view("<u2")
    assert torch.equal(mask(3, "m", "w", 100_000, 0.4), torch.from_numpy(raw < round(0.4 * 2**16)))


def test_share_kept_is_the_density_and_the_mean_is_kept() -> None:
    base, delta = torch.zeros(ODD), torch.ones(ODD)
    tally = Tally()
    merged = merge_tensor("w", base, [delta], ["m"], DARE, tally)
    deviation = (0.7 * 0.3 / ODD) ** 0.5
    assert tally.kept[0] / ODD == pytest.approx(0.7, abs=4 * deviation)
    assert sorted(set(merged.tolist())) == pytest.approx([0.0, ODD / tally.kept[0]])
    assert float(merged.double().sum()) == pytest.approx(ODD, rel=1e-6)  # the realised density, exactly


def test_l1_rescale_keeps_the_norm() -> None:
    base, (model,) = pair(ODD, torch.float32)
    merged = merge_tensor("w", base, [model], ["m"], replace(DARE, rescale="l1"))
    before, after = (model - base).double().abs().sum(), (merged - base).double().abs().sum()
    assert float(after) == pytest.approx(float(before), rel=1e-5)
    bare = merge_tensor("w", base, [model], ["m"], replace(DARE, rescale="none"))
    kept = mask(0, "m", "w", ODD, 0.7)
    assert torch.equal(bare[~kept], base[~kept])
    assert torch.allclose(bare[kept], model[kept], atol=1e-6)


def test_masks_are_independent_and_nested() -> None:
    masks = [mask(s, m, t, 2 * BLOCK, 0.5) for s, m, t in [(0, "m", "w"), (1, "m", "w"), (0, "n", "w"), (0, "m", "v")]]
    halves = [masks[0][:BLOCK], masks[0][BLOCK:], *(m[:BLOCK] for m in masks[1:])]
    for i, first in enumerate(halves):
        for second in halves[:i]:
            assert float((first == second).float().mean()) == pytest.approx(0.5, abs=0.003)
    assert not (mask(0, "m", "w", 5000, 0.3) & ~mask(0, "m", "w", 5000, 0.6)).any()


def test_masks_never_change() -> None:
    """These values are the identity of every model merged so far."""
    assert "".join(str(int(k)) for k in mask(0, "tuned", "w", 32, 0.7).tolist()) == FIRST
    long = mask(42, "ta-long", "model.layers.3.mlp.up_proj.weight", ODD, 0.3)
    assert hashlib.sha256(bits(long)).hexdigest()[:16] == LONG


@pytest.mark.parametrize("rescale", ["inverse_density", "l1"])
def test_the_thread_count_changes_nothing(rescale: str) -> None:
    base, models = pair(ODD, torch.bfloat16, models=2)
    settings = Settings("dare_ties", (0.6, 0.7), 0.7, 0.9, rescale, True)  # type: ignore[arg-type]
    before, results, tallies = torch.get_num_threads(), [], [Tally(), Tally()]
    try:
        for threads, tally in zip((1, 3), tallies, strict=True):
            torch.set_num_threads(threads)
            results.append(bits(merge_tensor("w", base, models, ["a", "b"], settings, tally)))
    finally:
        torch.set_num_threads(before)
    assert results[0] == results[1]
    assert tallies[0] == tallies[1]


def test_another_seed_is_another_model_and_the_same_seed_the_same() -> None:
    base, (model,) = pair(5000, torch.bfloat16)
    first, again, other = (bits(merge_tensor("w", base, [model], ["m"], replace(DARE, seed=s))) for s in (0, 0, 1))
    assert first == again != other


def test_a_tensor_of_which_nothing_is_kept_is_the_base() -> None:
    tiny = replace(DARE, density=0.001)
    base, model = torch.zeros(1), torch.ones(1)
    assert merge_tensor("w", base, [model], ["m"], tiny).tolist() == [0.0]
    assert merge_tensor("w", base[:0], [model[:0]], ["m"], tiny).shape == (0,)
    assert merge_tensor("w", base[0], [model[0]], ["m"], Settings("task_arithmetic", (0.5,))).shape == ()


@pytest.mark.parametrize("where", ["base", "tuned"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sick_input_is_named(where: str, value: float, weight: float, dtype: torch.dtype) -> None:
    base, (model,) = pair(5000, dtype)
    (base if where == "base" else model)[4321] = value
    with pytest.raises(MicotaError, match=r"model\.norm\.weight holds NaN or infinity") as caught:
        merge_tensor("model.norm.weight", base, [model], ["tuned"], Settings("task_arithmetic", (weight,)))
    assert caught.value.where == where
    with pytest.raises(MicotaError, match=r"model\.norm\.weight holds NaN or infinity"):
        merge_tensor("model.norm.weight", base, [model], ["tuned"], replace(DARE, density=0.01, rescale="l1"))


def test_overflow_is_named() -> None:
    base, model = torch.tensor([1.0]).half(), torch.tensor([6e4]).half()
    with pytest.raises(MicotaError, match=r"tensor w overflows"):
        merge_tensor("w", base, [model], ["m"], Settings("task_arithmetic", (2.0,)))
    base, model = torch.tensor([3e38, 1.0]).bfloat16(), torch.tensor([3e38, 3.0]).bfloat16()
    with pytest.raises(MicotaError, match=r"tensor w overflows"):
        merge_tensor("w", base, [model], ["m"], Settings("task_arithmetic", (3e38,)))
    assert merge_tensor("w", base, [model], ["m"], Settings("task_arithmetic", (2.0,)))[1] == 5


def test_what_is_not_a_number_to_merge_is_copied_or_refused() -> None:
    ids, settings = torch.arange(4), Settings("task_arithmetic", (0.5,))
    assert torch.equal(merge_tensor("ids", ids, [ids.clone()], ["m"], settings), ids)
    for other in (ids + 1, ids.float()):
        with pytest.raises(MicotaError, match="tensor ids cannot be merged"):
            merge_tensor("ids", ids, [other], ["m"], settings)


def test_every_model_has_a_label_of_its_own() -> None:
    for labels in (["m"], ["m", "m"]):
        with pytest.raises(MicotaError, match="2 models need as many different labels"):
            merge_tensor("w", torch.zeros(2), [torch.zeros(2)] * 2, labels, Settings("task_arithmetic", (1.0, 1.0)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings("stock", (1.0,)), "'stock' is not a merge method"),  # type: ignore[arg-type]
        (replace(DARE, rescale="l2"), "'l2' is not a way to rescale"),  # type: ignore[arg-type]
        (replace(DARE, density=0.0), "density 0 is outside"),
        (replace(DARE, density=1.2), "density 1.2 is outside"),
        (replace(DARE, density=5e-6), "too small: masks resolve 1 in 65536"),
        (replace(DARE, weights=()), "at least one model"),
        (replace(DARE, weights=(1.0, 1.0)), "2 weights for 1 models"),
        (replace(DARE, weights=(float("nan"),)), "finite"),
        (replace(DARE, weights=(0.0,), normalize=True), "sum to 0"),
    ],
)
def test_impossible_settings_are_refused(settings: Settings, message: str) -> None:
    with pytest.raises(MicotaError, match=message):
        check(settings, models=1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (DARE, []),
        (replace(DARE, density=1.0), ["drops no entry"]),
        (replace(DARE, method="task_arithmetic"), ["task_arithmetic keeps every entry"]),
        (replace(DARE, method="dare_ties"), ["one task vector agrees with itself"]),
        (replace(DARE, method="dare_ties", weights=(1.0, 1.0)), []),
        (replace(DARE, normalize=True), ["only lambda counts"]),
        (replace(DARE, weights=(0.0, 1.0), lambda_=0.0), ["model 1 takes no part", "is the base"]),
    ],
)
def test_settings_that_do_nothing_are_said(settings: Settings, words: list[str]) -> None:
    remarks = check(settings)
    assert len(remarks) == len(words)
    for remark, word in zip(remarks, words, strict=True):
        assert word in remark


def test_a_recipe_s_merge_has_settings() -> None:
    model = Source(ref="a/b", revision="c")
    fields = {"base": model, "models": (model,), "weights": (0.5,), "lambda": 0.9, "seed": 3}
    thin = Merge(method="dare_ties", density=0.7, rescale="l1", normalize=True, **fields)  # type: ignore[arg-type]
    assert settings_of(thin) == Settings("dare_ties", (0.5,), 0.7, 0.9, "l1", True, 3)
    plain = Merge(method="task_arithmetic", **fields)  # type: ignore[arg-type]
    assert settings_of(plain) == Settings("task_arithmetic", (0.5,), 1.0, 0.9, "none", None, 3)


def test_importing_and_checking_loads_no_torch() -> None:
    code = (
        "import sys, micota.merging as m, micota.merging.folders; m.check(m.Settings('task_arithmetic', (0.5,)));"
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
