"""Examples that share a row do not see each other: packed losses are those of each example alone; a leak is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import World
from safetensors.torch import load_file
from test_train import trained
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    Gemma2Config,
    GptOssConfig,
    LlamaConfig,
    MambaConfig,
    Qwen2Config,
    Qwen3MoeConfig,
)

from micota.errors import MicotaError
from micota.training import packing_check as isolation
from micota.training.sft_examples import packed, packs_of_a_step

ROWS = 96
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": ROWS,
}


def model(make: type, attention: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(make(**SIZES, num_key_value_heads=2), attn_implementation=attention).eval()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("make", [Qwen2Config, LlamaConfig])
def test_a_packed_forward_has_the_losses_of_each_example_alone(make: type, attention: str) -> None:
    examples = isolation.probes(ROWS)
    batch = isolation.packed_batch(examples)
    assert batch["input_ids"].shape == (1, sum(isolation.LENGTHS))
    assert isolation.largest_difference(model(make, attention), examples, batch) < 1e-5


def test_positions_that_are_not_reset_are_a_leak() -> None:
    examples = isolation.probes(ROWS)
    batch = isolation.packed_batch(examples)
    length = batch["input_ids"].shape[1]
    leaking = {"input_ids": batch["input_ids"], "position_ids": torch.arange(length)[None]}
    assert isolation.largest_difference(model(Qwen2Config, "sdpa"), examples, leaking) > isolation.TOLERANCE["float32"]


def test_a_model_that_ignores_the_borders_stops_its_training() -> None:
    """A backend that takes every row for one sequence, as one does that is given a mask of ones."""
    leaking = model(Qwen2Config, "sdpa")
    forward = leaking.forward
    leaking.forward = lambda input_ids, use_cache, **_: forward(input_ids, attention_mask=torch.ones_like(input_ids))
    with pytest.raises(MicotaError, match="examples in one row see each other"):
        isolation.check(leaking, "float32", "sdpa")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("make", [Qwen2Config, LlamaConfig, Qwen3MoeConfig, Gemma2Config])
def test_a_healthy_model_does_not_move_at_all(make: type, attention: str, precision: str) -> None:
    if make is Gemma2Config and attention == "sdpa":
        pytest.skip("Gemma 2 caps its scores, which sdpa cannot")
    healthy = model(make, attention).to(getattr(torch, precision))
    assert isolation.leak(healthy, isolation.probes(ROWS)) == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [GptOssConfig, FalconConfig, MambaConfig])
def test_families_whose_examples_see_each_other_are_refused(make: type, precision: str) -> None:
    torch.manual_seed(0)
    sizes = {name: size for name, size in SIZES.items() if make is not MambaConfig or "attention" not in name}
    leaking = AutoModelForCausalLM.from_config(make(**sizes, num_key_value_heads=2), attn_implementation="eager").to(
        getattr(torch, precision)
    )
    with pytest.raises(MicotaError, match=f"{leaking.config.model_type} with attention") as caught:
        isolation.check(leaking, precision, None)
    assert "remove packing" in str(caught.value)
    assert ("flash_attention_2" in str(caught.value)) == (make is not MambaConfig)


def test_the_models_of_the_lab_keep_examples_apart(models: Path) -> None:
    student = AutoModelForCausalLM.from_pretrained(models / "student", dtype=torch.float32)
    assert isolation.check(student, "float32", None) < 1e-5


def test_whole_examples_are_packed_and_none_is_cut() -> None:
    examples = [{"input_ids": [i] * n, "labels": [-100, *[i] * (n - 1)]} for i, n in enumerate((5, 3, 7, 2, 4), 1)]
    rows = packed(examples, 8)
    assert sorted(length for row in rows for length in row["seq_lengths"]) == [2, 3, 4, 5, 7]
    assert all(len(row["input_ids"]) == sum(row["seq_lengths"]) <= 8 for row in rows)
    assert [packs_of_a_step(32, packs, 12_000) for packs in (6_000, 1_000, 3)] == [16, 3, 1]


def test_packing_learns_from_every_example_and_says_how(world: World) -> None:
    """The World's examples have about 27 tokens, the cutoff is 64: two in a row, so two rows in a step of four."""
    weights, facts = trained(world, "defaults.train.packing=true")
    before = load_file(world.folder / "models" / "student" / "model.safetensors")
    assert [name for name in weights if torch.equal(weights[name], before[name])] == []
    assert facts["examples"] == 8
    assert (facts["rows"], facts["rows_of_a_step"]) == (4, 2)


def test_a_batch_without_padding_learns_the_same(world: World) -> None:
    from micota.machine import TrainConfig

    padded, _ = trained(world)
    (world.folder / "store").rename(world.folder / "first")
    train = TrainConfig(micro_batch=4, padding_free=True)
    world.run(only="strong", machine=world.machine.model_copy(update={"train": train}))
    without = load_file(world.files("strong") / "model.safetensors")
    for name, tensor in padded.items():
        torch.testing.assert_close(without[name], tensor, rtol=1e-4, atol=2e-5, msg=name)
