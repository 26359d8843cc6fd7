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


TINY = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": ROWS, "pad_token_id": 0}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48}
MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_n_groups": 1, "mamba_d_state": 8, "mamba_chunk_size": 16}
LINEAR = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    **{"layer_types": ["linear_attention", "full_attention"], "head_dim": 8},
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
RECURRENT: dict[str, dict[str, object]] = {
    "Qwen3NextConfig": {**HEADS, **LINEAR, **EXPERTS, "shared_expert_intermediate_size": 16},
    "Qwen3_5TextConfig": {**HEADS, **LINEAR},
    "OlmoHybridConfig": {**HEADS, **LINEAR},
    "JambaConfig": {**HEADS, "attn_layer_offset": 1, "attn_layer_period": 2, "num_experts": 2, "mamba_d_state": 8},
    "BambaConfig": {**HEADS, **MAMBA2, "attn_layer_indices": [1]},
    "FalconH1Config": {**HEADS, **MAMBA2, "mamba_d_ssm": 64, "head_dim": 8},
    "GraniteMoeHybridConfig": {**HEADS, **MAMBA2, "layer_types": ["mamba", "attention"], "num_local_experts": 0},
    "Mamba2Config": {"num_heads": 4, "head_dim": 16, "n_groups": 1, "state_size": 8, "chunk_size": 16},
    "FalconMambaConfig": {"state_size": 8},
    "RwkvConfig": {"attention_hidden_size": 32},
    "Lfm2Config": {**HEADS, "layer_types": ["conv", "full_attention"]},
    "RecurrentGemmaConfig": {**HEADS, "lru_width": 32, "attention_window_size": 16, "num_hidden_layers": 3},
    "NemotronHConfig": {
        **{**HEADS, "layers_block_type": ["mamba", "attention"], "mamba_num_heads": 4, "mamba_head_dim": 16},
        **{"n_groups": 1, "ssm_state_size": 8, "chunk_size": 16},
    },
}  # fmt: skip
"""Families with layers that carry a state along a row, and the settings of tiny ones."""


@pytest.mark.parametrize("name", RECURRENT)
def test_families_that_carry_a_state_along_a_row_are_refused_with_advice_that_helps(name: str) -> None:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, name)(**{**TINY, **RECURRENT[name]})
    leaking = AutoModelForCausalLM.from_config(config).float()
    with pytest.raises(MicotaError, match=r"examples in one row (see each other|cannot be kept apart)") as caught:
        isolation.check(leaking, "float32", None)
    assert "remove packing" in str(caught.value.fix) and "flash" not in str(caught.value.fix)


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
