"""Training low-rank adapters: only they learn, they end up in the weights, and the folder is a whole model."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from conftest import World
from safetensors.torch import load_file
from test_train import trained

from micota.errors import MicotaError, StageFailed


def test_adapters_move_the_linear_layers_and_nothing_else(world: World) -> None:
    weights, facts = trained(world, "defaults.train.lora={rank: 4, alpha: 8}", "defaults.train.lr=1e-2")
    before = load_file(world.folder / "models" / "student" / "model.safetensors")
    assert weights.keys() == before.keys()
    moved = {name for name in weights if not torch.equal(weights[name], before[name])}
    assert moved == {name for name in before if "_proj.weight" in name}
    ranks = {int(torch.linalg.matrix_rank((weights[n] - before[n]).double(), rtol=1e-3)) for n in moved}
    assert max(ranks) <= 4
    assert isinstance(facts["loss"], list)


def test_targets_can_be_named(world: World) -> None:
    weights, _ = trained(world, "defaults.train.lora={rank: 2, targets: [q_proj, v_proj]}")
    before = load_file(world.folder / "models" / "student" / "model.safetensors")
    moved = {name.split(".")[-2] for name in weights if not torch.equal(weights[name], before[name])}
    assert moved == {"q_proj", "v_proj"}


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is there")
def test_four_bits_without_the_extra_say_what_to_install(world: World) -> None:
    with pytest.raises((MicotaError, StageFailed), match=r'pip install "micota\[lora\]"'):
        world.run("defaults.train.lora={rank: 2, quantize: nf4}", only="strong")


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes: micota[lora]")
def test_adapters_on_four_bits_are_added_to_the_whole_weights(world: World) -> None:
    weights, facts = trained(world, "defaults.train.lora={rank: 4, quantize: nf4}", "defaults.train.lr=1e-2")
    before = load_file(world.folder / "models" / "student" / "model.safetensors")
    moved = {name for name in weights if not torch.equal(weights[name], before[name])}
    assert moved == {name for name in before if "_proj.weight" in name}
    ranks = {int(torch.linalg.matrix_rank((weights[n] - before[n]).double(), rtol=1e-3)) for n in moved}
    assert max(ranks) <= 4, "the rounding to four bits is not in them"
    assert facts["steps"] == 2
