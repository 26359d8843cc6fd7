"""Training low-rank adapters: only they learn, they end up in the weights, and the folder is a whole model."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import World, kinds
from safetensors.torch import load_file, save_file
from test_interchange import adapter
from test_recipe import command
from test_train import trained

from micota.errors import MicotaError, StageFailed
from micota.recipe.words import as_model
from micota.specs import Adapter, Merge

__all__ = ["adapter"]  # a fixture


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


def test_an_adapter_folder_is_a_model_of_a_recipe(world: World, models: Path, adapter: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    named = f"let.student={adapter}"
    recipe = world.load(named)
    spec = recipe.named("student")
    assert isinstance(spec, Adapter) and spec.base.revision == world.load().named("student").revision
    assert set(kinds(world.run(named))) >= {"adapter", "generate", "train"}
    both = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(models / "student"), adapter)
    wanted = both.merge_and_unload().state_dict()
    found = load_file(world.files_of(spec) / "model.safetensors")
    assert found and all(float((wanted[name] - found[name]).abs().max()) < 1e-6 for name in found)
    assert world.run(named).executed == []
    merge = f"let.ta-mid={{merge: {{base: {models / 'student'}, models: [student], method: linear, weight: 1}}}}"
    merged = world.load(merge, named).named("ta-mid")
    assert isinstance(merged, Merge) and merged.models == (spec,)
    other = shutil.copytree(adapter, world.folder / "copy")
    assert world.load("let.student=./copy").named("student").digest == spec.digest
    tensors = {name: tensor + 1 for name, tensor in load_file(other / "adapter_model.safetensors").items()}
    save_file(tensors, other / "adapter_model.safetensors")
    assert world.load("let.student=./copy").named("student").digest != spec.digest


def test_an_adapter_is_merged_measured_and_saved_in_a_recipe(world: World, models: Path, adapter: Path) -> None:
    import micota as mc

    ws = mc.Workspace(world.folder / "python", machine=world.machine)
    tuned = as_model(adapter)
    merge = mc.merge(str(models / "student"), [adapter], method="linear", weight=1.0)
    weights = [load_file(ws.make(one).path / "model.safetensors") for one in (merge, tuned)]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-6) for name in weights[1])
    recipe = mc.Recipe({"tuned": adapter, "instruct": models / "student"}, name="mine")
    path = recipe.save(world.folder / "mine.yaml")
    assert mc.load(path).names["tuned"].digest == tuned.digest and "tuned: ./adapter" in path.read_text()


@pytest.mark.parametrize("base", ["./gone", "gone", "nobody/no-such-model"])
def test_a_base_that_is_nowhere_is_refused_with_what_to_type(
    base: str, world: World, adapter: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": base}
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    given = [str(world.recipe_file), "--set", f"let.student={adapter}", "--store", str(world.folder / "store")]
    assert command(monkeypatch, "run", *given) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in (base, "set base_model_name_or_path", str(adapter / "adapter_config.json")))


def test_an_adapter_of_another_sort_is_refused(world: World, adapter: Path) -> None:
    about = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(about | {"peft_type": "IA3"}))
    with pytest.raises(MicotaError, match="of the kind IA3"):
        world.load(f"let.student={adapter}")
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(MicotaError, match=r"has no adapter_model\.safetensors"):
        world.load(f"let.student={adapter}")
