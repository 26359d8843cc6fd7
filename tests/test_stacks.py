"""Layers of models stacked in another order, and models with more rows of embedding: ordinary folders that load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from test_checkpoints import build, same, weights
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import micota as mc
from micota.cli.main import app
from micota.cli.merge_config import merge_config
from micota.errors import MicotaError
from micota.merging import Settings
from micota.merging.folders import merge_folders
from micota.merging.padding import pad_folder
from micota.merging.stacks import Part, Stack
from micota.specs import Merge, from_json, to_json

LAYERS = "model.layers."


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """Two models of four layers each."""
    for seed, name in enumerate(("a", "b")):
        build(tmp_path / name, seed, num_hidden_layers=4)
    return tmp_path


def merged(folder: Path, out: str = "out", **config: Any) -> Path:
    (folder / "c.yml").write_text(yaml.safe_dump(config))
    merge_config(folder / "c.yml", folder / out, threads=2)
    return folder / out


def layer(tensors: dict[str, torch.Tensor], i: int) -> dict[str, torch.Tensor]:
    start = f"{LAYERS}{i}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def stacked(*parts: tuple[str, int, int]) -> dict[str, Any]:
    slices = [{"sources": [{"model": f"./{m}", "layer_range": [i, j]}]} for m, i, j in parts]
    return {"merge_method": "passthrough", "slices": slices}


def test_layers_are_stacked_as_said_and_the_folder_loads(pair: Path) -> None:
    out = merged(pair, **stacked(("a", 0, 3), ("b", 1, 4), ("a", 3, 4)))
    ours, a, b = weights(out), weights(pair / "a"), weights(pair / "b")
    expected = [(a, 0), (a, 1), (a, 2), (b, 1), (b, 2), (b, 3), (a, 3)]
    for i, (tensors, at) in enumerate(expected):
        assert same(layer(ours, i), layer(tensors, at)), i
    assert not layer(ours, 7)
    assert torch.equal(ours["model.embed_tokens.weight"], a["model.embed_tokens.weight"])
    config = json.loads((out / "config.json").read_text())
    assert config["num_hidden_layers"] == len(config["layer_types"]) == 7
    model = AutoModelForCausalLM.from_pretrained(out)
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()


def test_what_is_behind_the_layers_is_from_the_last_part(pair: Path) -> None:
    ours, a, b = weights(merged(pair, **stacked(("a", 0, 2), ("b", 2, 4)))), weights(pair / "a"), weights(pair / "b")
    for name, source in (("model.embed_tokens.weight", a), ("model.norm.weight", b), ("lm_head.weight", b)):
        assert torch.equal(ours[name], source[name]), name


def test_a_stack_is_the_same_for_any_threads_and_shards_and_after_a_kill(pair: Path) -> None:
    parts = [Part(((pair / "a", 0),), 3), Part(((pair / "b", 1),), 3)]

    def stop(done: int, total: int) -> None:
        if 2 * done > total:
            raise KeyboardInterrupt

    def merge(out: str, **options: Any) -> Any:
        stack = Stack(parts)
        return merge_folders(pair / out, pair / "a", [], [], Settings("passthrough", ()), stack=stack, **options)

    facts = [merge("one"), merge("two", threads=3, shard_bytes=8_000)]
    with pytest.raises(KeyboardInterrupt):
        merge("three", shard_bytes=8_000, progress=stop)
    facts.append(merge("three", shard_bytes=8_000))
    assert same(weights(pair / "one"), weights(pair / "two")) and same(weights(pair / "one"), weights(pair / "three"))
    assert facts[1] == facts[2]


def test_slices_of_other_methods_merge_the_layers_that_they_name(pair: Path) -> None:
    """The second layer of the result is b's layer 3 over a's layer 1, with the weight of its slice."""

    def source(first: int, other: int, weight: float) -> dict[str, Any]:
        own = {"model": "./b", "layer_range": [other, other + 1], "parameters": {"weight": weight}}
        return {"sources": [{"model": "./a", "layer_range": [first, first + 1]}, own]}

    config = {"merge_method": "task_arithmetic", "base_model": "./a", "slices": [source(0, 0, 1.0), source(1, 3, 0.5)]}
    ours, a, b = weights(merged(pair, **config)), weights(pair / "a"), weights(pair / "b")
    assert same(layer(ours, 0), layer(b, 0))
    for name, value in layer(ours, 1).items():
        middle = (layer(a, 1)[name].float() + layer(b, 3)[name].float()) / 2
        assert torch.allclose(value.float(), middle, rtol=2**-8, atol=1e-7)
    assert not layer(ours, 2)


def test_one_model_is_copied_and_scaled(pair: Path) -> None:
    out = merged(pair, merge_method="passthrough", models=[{"model": "./b"}])
    assert same(weights(out), weights(pair / "b"))
    scale = [{"filter": "o_proj", "value": 0}, {"value": 2}]
    out = merged(pair, "scaled", merge_method="passthrough", models=[{"model": "./b", "parameters": {"scale": scale}}])
    for name, value in weights(out).items():
        assert torch.equal(value, weights(pair / "b")[name] * (0 if "o_proj" in name else 2)), name


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (stacked(("a", 0, 5)), "layers 0 to 5 are wanted, the model has 4"),
        (stacked(("a", 2, 2)), r"layer_range \[2, 2\]"),
        (stacked(("a", False, True)), r"layer_range \[False, True\]"),
        (
            {"merge_method": "linear", "models": [{"model": "./a", "layer_range": [0, 2]}, {"model": "./b"}]},
            "layer_range",
        ),
        ({**stacked(("a", 0, 2)), "base_model": "./nowhere"}, "there is no folder ./nowhere"),
        ({"merge_method": "passthrough", "models": [{"model": "./a"}, {"model": "./b"}]}, "each layer from one model"),
        ({"merge_method": "passthrough", "models": [{"model": "./a"}], "base_model": "./b"}, "copies one model"),
        (
            {"merge_method": "linear", "slices": stacked(("a", 0, 2), ("b", 2, 4))["slices"]},
            "slices of different models cannot be merged",
        ),
    ],
)
def test_stacks_that_make_no_sense_are_refused(pair: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(MicotaError, match=message) as caught:
        merged(pair, **config)
    assert caught.value.fix and not (pair / "out").exists()


def test_a_recipe_s_stack_is_that_of_the_configuration(pair: Path) -> None:
    a, b = mc.model(pair / "a") if hasattr(mc, "model") else str(pair / "a"), str(pair / "b")
    slices = [{"model": a, "layers": (0, 3)}, {"model": b, "layers": [1, 4]}]
    spec = mc.merge(a, method="passthrough", slices=slices)
    assert isinstance(spec, Merge) and len(spec.models) == 2
    assert from_json(to_json(spec)) == spec
    made = mc.Workspace(pair / "store").make(spec).path
    assert same(weights(made), weights(merged(pair, **stacked(("a", 0, 3), ("b", 1, 4)))))
    assert json.loads((made / "config.json").read_text())["num_hidden_layers"] == 6


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "passthrough"}, "which layers are stacked"),
        ({"method": "passthrough", "slices": [{"model": "org/x", "layers": [3, 3]}]}, "the one behind the last"),
        ({"method": "passthrough", "weight": 1.0, "slices": [{"model": "org/x", "layers": [0, 3]}]}, "has no weight"),
        ({"method": "model_stock", "weight": 1.0}, "model_stock has no weight"),
        ({"method": "model_stock"}, "needs 2 models"),
        ({"method": "nuslerp", "weight": [1.0]}, "needs 2 models"),
        ({"method": "sce", "rescale": "l1"}, "sce has no rescale"),
        ({"method": "sce", "lambda": 2.0}, "sce has no lambda"),
        ({"method": "sce", "epsilon": 0.1}, "sce has no epsilon"),
        ({"method": "della", "weight": 1.0, "rescale": "l1", "gamma": 0.1}, "della has no gamma"),
        ({"method": "della", "weight": 1.0, "rescale": "l1", "density": 0.9}, "both density - epsilon and"),
        ({"method": "dare_ties", "weight": 1.0, "rescale": "l1", "epsilon": 0.1}, "dare_ties has no epsilon"),
        ({"method": "ties", "weight": 1.0, "rescale": "none", "slices": [{"model": "org/x", "layers": [0, 1]}]},
         "ties has no slices"),
    ],
)  # fmt: skip
def test_settings_that_a_method_does_not_have_are_refused(fields: dict[str, Any], message: str) -> None:
    base, model = (from_source(name) for name in ("org/base", "org/x"))
    fields = {**fields, "slices": [{**one, "model": model} for one in fields.get("slices", ())]}
    fields = fields if fields["slices"] else {name: value for name, value in fields.items() if name != "slices"}
    with pytest.raises(MicotaError, match=message):
        mc.merge(base, [model], **fields)


def from_source(ref: str) -> Any:
    from micota.specs import Source

    return Source(ref=ref, revision="1")


@pytest.mark.parametrize("tied", [True, False])
def test_a_padded_model_is_an_ordinary_one_that_can_be_merged(tmp_path: Path, tied: bool) -> None:
    small = build(tmp_path / "small", 0, vocab_size=100, tie_word_embeddings=tied)
    build(tmp_path / "large", 1, vocab_size=128, tie_word_embeddings=tied)
    config = {"merge_method": "ties", "base_model": "./small", "models": [{"model": "./large"}], "dtype": "bfloat16"}
    config["parameters"] = {"weight": 0.5, "density": 0.5}
    with pytest.raises(MicotaError, match=r"tensor (lm_head|model\.embed_tokens)\.weight is") as caught:
        merged(tmp_path, **config)
    assert str(caught.value.fix).startswith(f"micota pad {small} small-128 --rows 128")
    command = ["pad", str(small), str(tmp_path / "small-128"), "--rows", "128"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    before, after = weights(small), weights(tmp_path / "small-128")
    grown = {"model.embed_tokens.weight"} | (set() if tied else {"lm_head.weight"})
    assert before.keys() == after.keys()
    for name, value in after.items():
        assert torch.equal(value[: len(before[name])], before[name])
        assert len(value) == (128 if name in grown else len(before[name]))
    for name in grown:
        mean = before[name].double().mean(dim=0)
        assert torch.allclose(after[name][100:].double(), mean.expand(28, -1), rtol=2**-8, atol=1e-9)
    assert json.loads((tmp_path / "small-128" / "config.json").read_text())["vocab_size"] == 128
    assert (tmp_path / "small-128" / "tokenizer.json").read_bytes() == (small / "tokenizer.json").read_bytes()
    prompt = torch.tensor([[1, 5, 9]])
    plain, padded = (
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(prompt).logits
        for folder in (small, tmp_path / "small-128")
    )
    assert torch.equal(plain, padded[..., :100])
    assert (padded[..., 100:].amax(-1) < padded[..., :100].amax(-1)).all(), "no new token is ever the likeliest"
    merged(tmp_path, **{**config, "base_model": "./small-128"})
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


def test_padding_works_with_shards_and_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    small = build(tmp_path / "small", 0, vocab_size=100, shard="10KB")
    pad_folder(small, tmp_path / "one", 109)
    pad_folder(small, tmp_path / "many", 109, shard_bytes=5_000)
    assert same(weights(tmp_path / "one"), weights(tmp_path / "many"))
    AutoModelForCausalLM.from_pretrained(tmp_path / "many")
    for rows in (100, 99):
        with pytest.raises(MicotaError, match="rows are added, never cut"):
            pad_folder(small, tmp_path / "two", rows)
    with pytest.raises(MicotaError, match="is there already"):
        pad_folder(small, tmp_path / "one", 120)
    for name in weights(small):
        if "embed_tokens" in name:
            odd = {("x" if key == name else key): value for key, value in weights(small).items()}
    (tmp_path / "odd").mkdir()
    save_file(odd, tmp_path / "odd" / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "odd" / "config.json").write_bytes((small / "config.json").read_bytes())
    with pytest.raises(MicotaError, match="which tensor is the embedding is not known"):
        pad_folder(tmp_path / "odd", tmp_path / "three", 120)


def test_only_lists_with_a_value_for_each_layer_follow_a_stack(pair: Path) -> None:
    for name in "ab":
        config = json.loads((pair / name / "config.json").read_text())
        odd = {"eos_token_id": [1, 2, 3, 4], "layer_types": ["a", "b", "c", "d"], "mlp_only_layers": []}
        (pair / name / "config.json").write_text(json.dumps(config | odd))
    config = json.loads((merged(pair, **stacked(("a", 1, 4), ("b", 1, 2))) / "config.json").read_text())
    assert (config["eos_token_id"], config["layer_types"]) == ([1, 2, 3, 4], ["b", "c", "d", "b"])
    config = json.loads((pair / "a" / "config.json").read_text())
    (pair / "a" / "config.json").write_text(json.dumps(config | {"mlp_only_layers": [1]}))
    with pytest.raises(MicotaError, match="mlp_only_layers"):
        merged(pair, "other", **stacked(("a", 1, 4), ("b", 1, 2)))


def test_padding_that_no_disk_holds_is_refused_and_one_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(tmp_path / "m")
    with pytest.raises(MicotaError, match="GB are free"):
        pad_folder(tmp_path / "m", tmp_path / "out", 2 * 10**12)
    monkeypatch.setattr("micota.merging.padding.write_index", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pad_folder(tmp_path / "m", tmp_path / "out", 1000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]
