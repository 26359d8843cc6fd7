"""Training low-rank adapters: only they learn, they end up in the weights, and the folder is a whole model."""

from __future__ import annotations

import importlib.util
import json
import shutil
import warnings
from pathlib import Path
from typing import Any

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
from micota.training import saving
from micota.training.adapters import merge_adapter

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


def saved(base: Path, folder: Path, **options: Any) -> Any:
    """Write an adapter that was moved at random; returns peft's model with it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    options = {"r": 2, "target_modules": ["q_proj"], **options}
    with warnings.catch_warnings(action="ignore"):  # of tied layers, and of biases as if they were broken matrices
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), LoraConfig(**options))
        torch.manual_seed(0)
        for weight in model.parameters():
            if weight.requires_grad:
                weight.data += torch.randn(weight.shape) * 0.1
        model.save_pretrained(folder)
    about = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(about))
    return model.eval()


def tied(models: Path, folder: Path, tie: bool = True, llama: bool = False) -> Path:
    """The student, or a Llama of its size, with one matrix for embeddings and head or with two."""
    from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

    shutil.copytree(models / "student", folder)
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder, tie_word_embeddings=tie)
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = LlamaConfig(**{name: getattr(config, name) for name in sizes}) if llama else config
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    return folder


def logits(folder: Path) -> tuple[torch.Tensor, bool]:
    """What the model in a folder says, and whether it has one matrix for embeddings and head."""
    from transformers import AutoModelForCausalLM

    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model(IDS).logits.detach(), model.get_output_embeddings().weight is model.get_input_embeddings().weight


IDS = torch.arange(20)[None]
ON_EMBEDDINGS: list[dict[str, Any]] = [
    {"modules_to_save": ["lm_head"]},
    {"modules_to_save": ["embed_tokens"]},
    {"modules_to_save": ["embed_tokens", "lm_head"]},
    {"target_modules": ["lm_head"]},
    {"target_modules": ["embed_tokens", "q_proj"]},
    {"target_modules": ["embed_tokens", "lm_head"]},
    {"trainable_token_indices": [5]},
]


@pytest.mark.parametrize("options", ON_EMBEDDINGS, ids=str)
@pytest.mark.parametrize("tie", [True, False])
def test_an_adapter_on_embeddings_or_head_says_what_peft_says(
    tie: bool, options: dict[str, Any], models: Path, tmp_path: Path
) -> None:
    base = tied(models, tmp_path / "base", tie)
    wanted = saved(base, tmp_path / "adapter", **options)(IDS).logits.detach()
    merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    found, is_tied = logits(tmp_path / "merged")
    assert float((found - wanted).abs().max()) < 1e-5 < float((logits(base)[0] - wanted).abs().max())
    assert is_tied == (tie and "trainable_token_indices" in options)  # which peft ties by itself


@pytest.mark.parametrize(
    "options", [{"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, {"target_modules": ["q_proj"]}]
)
def test_what_an_adapter_leaves_tied_stays_tied(options: dict[str, Any], models: Path, tmp_path: Path) -> None:
    wanted = saved(tied(models, tmp_path / "base"), tmp_path / "adapter", **options)(IDS).logits.detach()
    merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    found, is_tied = logits(tmp_path / "merged")
    assert is_tied and float((found - wanted).abs().max()) < 1e-5


def test_biases_of_adapters_are_merged_into_layers_that_have_some(models: Path, tmp_path: Path) -> None:
    wanted = saved(tied(models, tmp_path / "base"), tmp_path / "adapter", lora_bias=True)(IDS).logits.detach()
    merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    assert float((logits(tmp_path / "merged")[0] - wanted).abs().max()) < 1e-5


def test_repeated_layers_are_written_as_layers(models: Path, tmp_path: Path) -> None:
    base = tied(models, tmp_path / "base", llama=True)
    wanted = saved(base, tmp_path / "adapter", layer_replication=[[0, 2], [1, 2]])(IDS).logits.detach()
    merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["num_hidden_layers"] == 3
    assert float((logits(tmp_path / "merged")[0] - wanted).abs().max()) < 1e-5


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings:UserWarning")
@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers:UserWarning")
def test_a_training_on_the_embeddings_of_a_tied_model_parts_the_head_from_them(world: World) -> None:
    weights, _ = trained(world, "defaults.train.lora={rank: 2, targets: [embed_tokens]}", "defaults.train.lr=1e-2")
    before = load_file(world.folder / "models" / "student" / "model.safetensors")
    assert weights.keys() - before.keys() == {"lm_head.weight"}, "the student is tied"
    assert torch.equal(weights["lm_head.weight"], before["model.embed_tokens.weight"])
    assert not torch.equal(weights["model.embed_tokens.weight"], before["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("options", "change", "said"),
    [
        ({"lora_bias": True, "target_modules": ["o_proj"]}, None, "lora_bias=False"),
        ({"modules_to_save": ["lm_head"]}, "drop lm_head.weight", "lacks the tensor base_model.model.lm_head.weight"),
        ({"modules_to_save": ["norm"]}, "drop model.norm.weight", "lacks the tensor base_model.model.model.norm"),
        ({"target_modules": ["lm_head"]}, "move lm_head.base_layer.weight", "of another base"),
        ({"layer_replication": [[0, 2], [1, 2]]}, None, "must be equal to the number of `layer_types`"),
        ({}, "drop model.layers.0.self_attn.q_proj.lora_A.weight", "lacks it"),
    ],
    ids=str,
)
def test_an_adapter_that_cannot_be_merged_says_what_to_do(
    options: dict[str, Any], change: str | None, said: str, models: Path, tmp_path: Path
) -> None:
    saved(tied(models, tmp_path / "base"), tmp_path / "adapter", **options)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    if change:
        verb, name = change.split()
        tensor = tensors.pop(f"base_model.model.{name}")
        save_file(tensors | ({f"base_model.model.{name}": tensor + 1} if verb == "move" else {}), file)
    with pytest.raises(MicotaError) as caught:
        merge_adapter(tmp_path / "adapter", tmp_path / "merged")
    assert said in str(caught.value) and caught.value.fix and caught.value.where == str(tmp_path / "adapter")
    assert not (tmp_path / "merged").exists()


def test_a_merged_adapter_without_a_tensor_is_refused(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = saving.write_weights

    def lossy(model: Any, state: dict[str, Any], *rest: Any) -> None:
        del state["model.norm.weight"]
        write(model, state, *rest)

    monkeypatch.setattr(saving, "write_weights", lossy)
    with pytest.raises(MicotaError, match=r"model\.norm\.weight: missing from the weights"):
        merge_adapter(adapter, tmp_path / "merged")
