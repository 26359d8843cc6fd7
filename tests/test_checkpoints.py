"""Merging model folders: real two-layer models, any layout of files, kills, damaged and unlike inputs."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Phi3Config,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from whole_tensor import merge_tensor, raw

from micota.errors import MicotaError
from micota.merging import Settings, kernels
from micota.merging.buffers import Bytes, typed
from micota.merging.compatibility import compare
from micota.merging.folders import merge_folders
from micota.merging.masks import BLOCK
from micota.merging.model_files import copy_model_files
from micota.merging.safetensor_files import INDEX, SINGLE, Checkpoint
from micota.merging.shards import ShardFile, lay_out
from micota.merging.streaming import merge_entries

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
DARE = Settings("dare_linear", (0.6,), density=0.7)
NORM = "model.norm.weight"


def build(folder: Path, seed: int = 0, family: str = "qwen2", shard: str = "1GB", **config: Any) -> Path:
    """A folder with a random two-layer model in bf16, as transformers saves it, and a toy tokenizer."""
    torch.manual_seed(0)
    sizes = SIZES | config
    model = Qwen2ForCausalLM(Qwen2Config(**sizes)) if family == "qwen2" else LlamaForCausalLM(LlamaConfig(**sizes))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter) * bool(seed))
    model.bfloat16().save_pretrained(folder, max_shard_size=shard)
    tokenizer = {"model": {"vocab": {"a": 0, "b": 1}}, "added_tokens": [{"id": 2, "content": "<end>"}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": f"template {seed}"}))
    return folder


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def resave(folder: Path, **changes: torch.Tensor | None) -> Path:
    """Change tensors of a single-file folder; None removes one. Dots in names are written `__`."""
    tensors = load_file(folder / SINGLE)
    for name, value in changes.items():
        tensors.pop(name.replace("__", "."), None)
        if value is not None:
            tensors[name.replace("__", ".")] = value
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: value for file in folder.glob("*.safetensors") for name, value in load_file(file).items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def everything(folder: Path) -> dict[str, bytes]:
    return {f.relative_to(folder).as_posix(): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return build(tmp_path / "base")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    return build(tmp_path / "tuned", seed=1)


@pytest.mark.parametrize("family", ["qwen2", "llama"])
@pytest.mark.parametrize("tied", [True, False])
def test_merged_folder_loads_and_the_ends_are_exact(tmp_path: Path, family: str, tied: bool) -> None:
    base = build(tmp_path / "base", 0, family, tie_word_embeddings=tied)
    tuned = build(tmp_path / "tuned", 1, family, tie_word_embeddings=tied)
    for weight, expected in ((0.0, base), (1.0, tuned)):
        merge_folders(tmp_path / f"{weight}", base, [tuned], ["tuned"], Settings("task_arithmetic", (weight,)))
        assert same(weights(tmp_path / f"{weight}"), weights(expected))
    merge_folders(tmp_path / "half", base, [tuned], ["tuned"], Settings("task_arithmetic", (0.5,)))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "half", dtype="auto").state_dict()
    for name, value in weights(tmp_path / "half").items():
        middle = (weights(base)[name].float() + weights(tuned)[name].float()) / 2
        assert torch.equal(loaded[name], value) and value.dtype == torch.bfloat16
        assert torch.allclose(value.float(), middle, rtol=2**-8, atol=1e-7)
    assert ("lm_head.weight" in weights(tmp_path / "half")) is not tied


def test_folders_are_merged_as_tensors_are(tmp_path: Path, base: Path, tuned: Path) -> None:
    settings = Settings("dare_ties", (0.6, 0.4), 0.5, 1.2, "l1", True, seed=5)
    other = build(tmp_path / "other", seed=2)
    merge_folders(tmp_path / "out", base, [tuned, other], ["tuned", "other"], settings)
    inputs = [weights(folder) for folder in (base, tuned, other)]
    for name, value in weights(tmp_path / "out").items():
        first, *models = (tensors[name] for tensors in inputs)
        assert torch.equal(value, merge_tensor(name, first, models, ["tuned", "other"], settings)), name


ALL = [
    DARE,
    Settings("dare_ties", (0.6, 0.5), density=(0.7, 0.4), rescale="l1"),
    Settings("ties", (0.6, 0.5), density=0.3, rescale="l1"),
    Settings("task_arithmetic", (0.6, -0.5), lambda_=0.8),
    Settings("linear", (0.6, 0.5)),
    Settings("slerp", (0.3,)),
    Settings("della", (0.6, 0.5), density=(0.6, 0.5), rescale="l1", epsilon=0.2),
    Settings("breadcrumbs_ties", (0.6, 0.5), density=0.5, rescale="l1", gamma=0.1),
    Settings("sce", (1.0, 1.0), density=0.4),
    Settings("model_stock", (1.0, 1.0)),
    Settings("nuslerp", (0.6, 0.5)),
]
DRAWN = ("dare_linear", "dare_ties", "della", "ties", "breadcrumbs_ties", "sce")
"""Methods of which another seed gives another model; the last three draw lots among equals."""


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: str(settings.method))
def test_threads_and_layout_of_inputs_and_output_change_no_bit(tmp_path: Path, settings: Settings) -> None:
    """A vocabulary of 40,000 makes tensors of two blocks."""
    count = len(settings.weights)
    base, *models = (build(tmp_path / f"{i}", i, vocab_size=40_000) for i in range(count + 1))
    sharded = [build(tmp_path / f"sharded{i}", i, shard="2MB", vocab_size=40_000) for i in range(count + 1)]
    assert len(list(sharded[0].glob("*.safetensors"))) > 2
    save_file(dict(reversed(load_file(base / SINGLE).items())), base / SINGLE, metadata={"format": "pt"})
    labels = [f"model{i}" for i in range(count)]
    facts = [
        merge_folders(tmp_path / "one", base, models, labels, settings),
        merge_folders(tmp_path / "two", sharded[0], models, labels, settings, threads=2, shard_bytes=100_000),
        merge_folders(tmp_path / "three", base, sharded[1:], labels, settings, threads=3, shard_bytes=1),
    ]
    assert len({json.dumps(one | {"findings": []}) for one in facts}) == 1
    assert same(weights(tmp_path / "one"), weights(tmp_path / "two"))
    assert same(weights(tmp_path / "one"), weights(tmp_path / "three"))
    AutoModelForCausalLM.from_pretrained(tmp_path / "three")
    merge_folders(tmp_path / "seed", base, models, labels, replace(settings, seed=1))
    assert same(weights(tmp_path / "one"), weights(tmp_path / "seed")) is not (settings.method in DRAWN)


@pytest.mark.parametrize("settings", ALL, ids=lambda settings: str(settings.method))
def test_every_method_merges_alike_in_numpy_and_compiled(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some entries are the same in all models: their variance is zero, and their task vectors too."""
    count = len(settings.weights)
    base, *models = (build(tmp_path / f"{i}", i) for i in range(count + 1))
    for model in models:
        mixed = load_file(model / SINGLE)
        for name, tensor in load_file(base / SINGLE).items():
            mixed[name].view(-1)[::3] = tensor.view(-1)[::3]
        save_file(mixed, model / SINGLE, metadata={"format": "pt"})
    found = []
    for name, enough in {"numpy": kernels.ENOUGH, "compiled": 1}.items():
        monkeypatch.setattr(kernels, "ENOUGH", enough)
        facts = merge_folders(tmp_path / name, base, models, [f"model{i}" for i in range(count)], settings)
        found.append(json.dumps(facts))
    kernels.prepare(0)
    assert found[0] == found[1]
    assert same(weights(tmp_path / "numpy"), weights(tmp_path / "compiled"))


def finished(out: Path, wanted: int) -> bool:
    """Whether three shards are finished; waits for as many as are wanted, since the disk is behind the merge."""
    for _ in range(200):
        there = len(list(out.glob("*.safetensors")))
        if there >= wanted:
            return there >= 3
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("settings", ALL[1:], ids=lambda settings: str(settings.method))
def test_every_method_is_the_same_after_a_kill(tmp_path: Path, settings: Settings) -> None:
    folders = [build(tmp_path / f"{i}", i) for i in range(len(settings.weights) + 1)]
    labels = [f"model{i}" for i in range(len(settings.weights))]

    def stop(done: int, total: int) -> None:
        if finished(tmp_path / "out", 3 if 2 * done > total else 0):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        merge_folders(tmp_path / "out", folders[0], folders[1:], labels, settings, shard_bytes=8_000, progress=stop)
    assert not (tmp_path / "out" / "config.json").exists()
    again = merge_folders(tmp_path / "out", folders[0], folders[1:], labels, settings, shard_bytes=8_000, threads=2)
    whole = merge_folders(tmp_path / "whole", folders[0], folders[1:], labels, settings, shard_bytes=8_000)
    assert again == whole
    assert everything(tmp_path / "out") == everything(tmp_path / "whole")


RUN = """
import os, resource, signal, sys, time
from pathlib import Path
from micota.merging.folders import merge_folders
from micota.merging import Settings
folder, mode = Path(sys.argv[1]), sys.argv[2]
def progress(done, total):
    if mode == "kill" and len(list((folder / "out").glob("*.safetensors"))) >= 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "kill" and 2 * done > total:  # the disk is behind the merge
        time.sleep(.1)
if mode == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
merge_folders(folder / "out", folder / "base", [folder / "tuned"], ["tuned"],
              Settings("dare_linear", (0.6,), density=0.7), progress=progress, shard_bytes=8_000)
"""


def run(folder: Path, mode: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", RUN, str(folder), mode], text=True, capture_output=True)


def test_a_killed_merge_goes_on_at_its_shard(tmp_path: Path, base: Path, tuned: Path) -> None:
    assert run(tmp_path, "kill").returncode == -signal.SIGKILL
    out = tmp_path / "out"
    finished = {file: file.stat().st_mtime_ns for file in out.glob("*.safetensors")}
    assert len(finished) in (3, 4) and not (out / "config.json").exists() and not (out / INDEX).exists()
    (out / f"{sorted(finished)[0].name.replace('00001', '00008', 1)}.partial").write_bytes(b"half a shard")
    (out / ".merge.json.17-4").write_bytes(b"half a record")
    facts = merge_folders(out, base, [tuned], ["tuned"], DARE, shard_bytes=8_000)
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    again = merge_folders(tmp_path / "at-once", base, [tuned], ["tuned"], DARE, shard_bytes=8_000)
    assert facts == again and everything(out) == everything(tmp_path / "at-once")
    assert merge_folders(out, base, [tuned], ["tuned"], DARE, shard_bytes=8_000) == facts


def test_an_unfinished_merge_of_something_else_is_not_continued(tmp_path: Path, base: Path, tuned: Path) -> None:
    run(tmp_path, "kill")
    merge_folders(tmp_path / "out", base, [tuned], ["tuned"], replace(DARE, seed=1))
    merge_folders(tmp_path / "fresh", base, [tuned], ["tuned"], replace(DARE, seed=1))
    assert everything(tmp_path / "out") == everything(tmp_path / "fresh")
    for taken in ("out", "tuned"):
        with pytest.raises(MicotaError, match="already holds another model"):
            merge_folders(tmp_path / taken, base, [tuned], ["tuned"], DARE)


def test_a_full_disk_is_one_message(tmp_path: Path) -> None:
    build(tmp_path / "base", vocab_size=1000), build(tmp_path / "tuned", vocab_size=1000)
    result = run(tmp_path, "full")
    assert result.returncode == 1
    assert "MicotaError: writing failed at tensor lm_head.weight" in result.stderr
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_facts(tmp_path: Path, base: Path, tuned: Path) -> None:
    other = build(tmp_path / "other", seed=2)
    settings = Settings("dare_ties", (0.6, 0.4), density=0.5)
    facts = merge_folders(tmp_path / "out", base, [tuned, other], ["tuned", "other"], settings)
    assert json.loads(json.dumps(facts)) == facts
    zero = weights(base)
    first, second = ({n: v.float() - zero[n].float() for n, v in weights(f).items()} for f in (tuned, other))
    flat = [torch.cat([delta[name].flatten() for name in sorted(delta)]) for delta in (first, second)]
    assert facts["parameters"] == flat[0].numel()
    assert facts["models"]["tuned"]["norm"] == pytest.approx(float(flat[0].norm()), rel=1e-4)
    layer = torch.cat([v.flatten() for n, v in first.items() if ".layers.1." in n])
    assert facts["models"]["tuned"]["layers"]["1"] == pytest.approx(float(layer.norm()), rel=1e-4)
    assert list(facts["models"]["tuned"]["layers"]) == ["0", "1", "other"]
    assert facts["models"]["other"]["kept"] == pytest.approx(0.5, abs=0.02)
    cosine = float(torch.cosine_similarity(flat[0], flat[1], dim=0))
    assert facts["cosines"] == [{"models": ["tuned", "other"], "cosine": pytest.approx(cosine, abs=1e-4)}]
    assert facts["sign_conflicts"] == pytest.approx(0.5 * 0.5 * 0.5, abs=0.02)
    assert facts["sources"]["config.json"] == "tuned"


def test_what_is_not_a_weight_comes_from_the_tuned_model(tmp_path: Path, base: Path, tuned: Path) -> None:
    (base / "chat_template.jinja").write_text("the base's template would win over the tuned one's")
    (base / "README.md").write_text("not part of the model")
    edit(tuned / "generation_config.json", eos_token_id=[7, 9], pad_token_id=3)
    edit(tuned / "config.json", dtype="float32", eos_token_id=7)
    findings = compare(base, [tuned])
    assert [line.split(" ")[1] for line in findings] == ["eos_token_id", "pad_token_id", "the", "125"]
    merge_folders(tmp_path / "out", base, [tuned], ["tuned"], DARE)
    written = {f.name for f in (tmp_path / "out").iterdir()}
    assert written == {f.name for f in tuned.iterdir()} | {"merge.json"}
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert (config["eos_token_id"], config["dtype"]) == (7, "bfloat16")
    for name in ("generation_config.json", "tokenizer_config.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tuned / name).read_bytes()


def test_processors_and_code_travel_with_the_model(tmp_path: Path, base: Path, tuned: Path) -> None:
    with_tokenizer = {
        "tekken.json",
        "spiece.model",
        "qwen.tiktoken",
        "processor_config.json",
        "preprocessor_config.json",
    }
    for name in with_tokenizer | {"modeling_own.py"}:
        (tuned / name).write_text(f"{name} of the tuned model")
    (base / "video_preprocessor_config.json").write_text("of a model whose tokenizer is not taken")
    (base / "tokenization_own.py").write_text("of a model whose config.json is not taken")
    merge_folders(tmp_path / "out", base, [tuned], ["tuned"], DARE)
    copy_model_files(tuned, tmp_path / "trained")
    for folder in (tmp_path / "out", tmp_path / "trained"):
        for name in with_tokenizer | {"modeling_own.py"}:
            assert (folder / name).read_text() == f"{name} of the tuned model"
        assert (
            not (folder / "video_preprocessor_config.json").exists() and not (folder / "tokenization_own.py").exists()
        )


def test_a_model_without_tokenizer_takes_the_base_s(tmp_path: Path, base: Path, tuned: Path) -> None:
    for file in (*tuned.glob("tokenizer*"), tuned / "generation_config.json"):
        file.unlink()
    (base / "chat_template.jinja").write_text("template")
    facts = merge_folders(tmp_path / "out", base, [tuned], ["tuned"], DARE)
    assert facts["sources"] == {
        "tokenizer.json": "base",
        "tokenizer_config.json": "base",
        "chat_template.jinja": "base",
        "generation_config.json": "base",
        "config.json": "tuned",
    }


def test_padded_vocabulary_rows_survive(tmp_path: Path) -> None:
    """152,064 rows for a tokenizer of 151,665, in small: 128 rows, 3 tokens."""
    folders = [build(tmp_path / name, seed) for name, seed in (("base", 0), ("tuned", 1))]
    merge_folders(tmp_path / "out", folders[0], [folders[1]], ["tuned"], Settings("task_arithmetic", (1.0,)))
    rows = Checkpoint(tmp_path / "out").read("lm_head.weight")
    assert rows.shape == (128, 32) and torch.equal(rows, Checkpoint(folders[1]).read("lm_head.weight"))
    longer = build(tmp_path / "longer", vocab_size=130)
    with pytest.raises(MicotaError, match=r"lm_head.weight is \[130, 32\], in the base \[128, 32\]"):
        compare(folders[0], [longer])


def test_a_stored_copy_of_a_tied_head_is_left_out(tmp_path: Path) -> None:
    base, tuned = (build(tmp_path / f"{s}", s, tie_word_embeddings=True) for s in (0, 1))
    embedding = load_file(tuned / SINGLE)["model.embed_tokens.weight"]
    resave(tuned, lm_head__weight=embedding.clone())
    merge_folders(tmp_path / "out", base, [tuned], ["tuned"], DARE)
    assert "lm_head.weight" not in weights(tmp_path / "out")
    resave(tuned, lm_head__weight=embedding + 1)
    with pytest.raises(MicotaError, match=r"lm_head\.weight contradicts config\.json"):
        compare(base, [tuned])


def test_other_stored_dtypes_are_merged_into_the_base_s(tmp_path: Path, base: Path, tuned: Path) -> None:
    wide = resave(tuned, **{n.replace(".", "__"): v.float() for n, v in load_file(tuned / SINGLE).items()})
    assert any("F32 where the base has BF16" in finding for finding in compare(base, [wide]))
    merge_folders(tmp_path / "out", base, [wide], ["tuned"], Settings("task_arithmetic", (1.0,)))
    assert Checkpoint(tmp_path / "out")[NORM].dtype == "BF16"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rms_norm_eps": 1e-5}, "rms_norm_eps is 1e-05, in the base 1e-06"),
        ({"architectures": ["LlamaForCausalLM"]}, "architectures is"),
        ({"rope_parameters": {"rope_theta": 1e6, "rope_type": "default"}}, "rotary positions"),
        ({"tie_word_embeddings": True}, r"contradicts config\.json"),
    ],
)
def test_dangerous_configs_stop_it(base: Path, tuned: Path, change: dict[str, Any], message: str) -> None:
    edit(tuned / "config.json", **change)
    with pytest.raises(MicotaError, match=message):
        compare(base, [tuned])


def test_rotary_settings_are_compared_across_spellings(base: Path, tuned: Path) -> None:
    config = json.loads((tuned / "config.json").read_text())
    theta = config.pop("rope_parameters")["rope_theta"]
    (tuned / "config.json").write_text(json.dumps(config | {"rope_theta": theta, "rope_scaling": None}))
    assert compare(base, [tuned])[:1] == ["tuned: the chat template is not the base's"]


OLD = {
    "phi3": (Phi3Config(**SIZES, pad_token_id=0), {"rope_theta": 1e4, "rope_scaling": None}, {"rope_theta": 1e6}),
    "gemma3_text": (
        Gemma3TextConfig(**SIZES, head_dim=8),
        {"rope_theta": 1e6, "rope_local_base_freq": 1e4, "rope_scaling": None, "sliding_window_pattern": 6},
        {"rope_local_base_freq": 1e5},
    ),
    "gpt_neox": (
        GPTNeoXConfig(**{key: size for key, size in SIZES.items() if "key_value" not in key}),
        {"rotary_emb_base": 1e4, "rotary_pct": 0.25},
        {"rotary_pct": 0.5},
    ),
}
"""A configuration, how transformers 4 spells its rotary settings, and other values there."""


@pytest.mark.parametrize("family", OLD)
def test_settings_are_compared_by_meaning(tmp_path: Path, family: str) -> None:
    config, spelling, other = OLD[family]
    for name in ("base", "tuned"):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).bfloat16().save_pretrained(tmp_path / name)
    old = json.loads((tmp_path / "base" / "config.json").read_text())
    old = {key: value for key, value in old.items() if key not in ("rope_parameters", "layer_types")}
    (tmp_path / "base" / "config.json").write_text(json.dumps(old | spelling))
    compare(tmp_path / "base", [tmp_path / "tuned"])
    (tmp_path / "base" / "config.json").write_text(json.dumps(old | spelling | other))
    with pytest.raises(MicotaError, match="rotary positions"):
        compare(tmp_path / "base", [tmp_path / "tuned"])


GEMMA = {
    "head_dim": 8,
    "query_pre_attn_scalar": 8,
    "rope_theta": 1e6,
    "rope_local_base_freq": 1e4,
    "rope_scaling": None,
}
NESTED = {
    "nothing": ({}, None),
    "the base of the rotary positions": ({"rope_theta": 1e5}, "rotary positions"),
    "heads": ({"num_attention_heads": 2}, "num_attention_heads is 2, in the base 4"),
    "an activation": ({"hidden_activation": "relu"}, "hidden_activation is relu"),
    "a cap": ({"final_logit_softcapping": 30.0}, "final_logit_softcapping is 30.0"),
    "a scale": ({"query_pre_attn_scalar": 64}, "query_pre_attn_scalar is 64"),
}


@pytest.mark.parametrize("what", NESTED)
def test_the_settings_of_a_nested_language_model_are_compared(tmp_path: Path, what: str) -> None:
    """A model that sees has them in `text_config`, which transformers 5 writes in its own way."""
    change, message = NESTED[what]
    folders = [tmp_path / name for name in ("base", "tuned")]
    for folder, text in zip(folders, (SIZES | GEMMA, SIZES | GEMMA | change), strict=True):
        folder.mkdir()
        about = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}
        (folder / "config.json").write_text(json.dumps({**about, "text_config": {"model_type": "gemma3_text", **text}}))
        save_file({"model.language_model.norm.weight": torch.ones(32)}, folder / SINGLE)
    if message is None:
        AutoConfig.from_pretrained(folders[1]).save_pretrained(folders[1])
        assert [line for line in compare(folders[0], folders[1:]) if "rope" in line or "text_config" in line] == []
        return
    with pytest.raises(MicotaError, match=message):
        compare(folders[0], folders[1:])


def test_tokens_must_keep_their_ids(base: Path, tuned: Path) -> None:
    edit(tuned / "tokenizer.json", added_tokens=[{"id": 2, "content": "<stop>"}])
    assert "special token 2 is '<stop>', in the base '<end>'" in compare(base, [tuned])[0]
    edit(tuned / "tokenizer.json", model={"vocab": {"a": 1, "b": 0}})
    with pytest.raises(MicotaError, match="other ids"):
        compare(base, [tuned])


def test_one_head_and_one_tie_cannot_be_merged(tmp_path: Path, base: Path) -> None:
    tied = build(tmp_path / "tied", tie_word_embeddings=True)
    with pytest.raises(MicotaError, match="ties its embeddings"):
        compare(base, [tied])


def refused(base: Path, tuned: Path, message: str) -> None:
    """One message, and nothing that could be taken for a model."""
    out = base.parent / "out"
    with pytest.raises(MicotaError, match=message):
        merge_folders(out, base, [tuned], ["tuned"], DARE)
    assert not out.exists() or not {f.suffix for f in out.iterdir()} & {".safetensors", ".json"}


def test_tensors_missing_misshapen_or_sick_are_named(base: Path, tuned: Path) -> None:
    intact = load_file(tuned / SINGLE)[NORM]
    refused(base, resave(tuned, model__norm__weight=None), f"tensor {NORM} is missing")
    refused(base, resave(tuned, model__norm__weight=intact[:5]), rf"{NORM} is \[5\], in the base \[32\]")
    refused(base, resave(tuned, model__norm__weight=intact * float("nan")), f"{NORM} holds NaN or infinity")


def test_truncated_files_are_named(base: Path, tuned: Path) -> None:
    data = (tuned / SINGLE).read_bytes()
    for length in (len(data) - 3, 100, 0):
        (tuned / SINGLE).write_bytes(data[:length])
        refused(base, tuned, f"cannot read {SINGLE}")


def test_folders_without_usable_weights_are_named(tmp_path: Path, base: Path, tuned: Path) -> None:
    refused(base, tmp_path / "nowhere", "no config.json")
    with pytest.raises(MicotaError, match="no such folder"):
        Checkpoint(tmp_path / "nowhere")
    (tuned / SINGLE).rename(tuned / "adapter_model.safetensors")
    with pytest.raises(MicotaError, match="found only adapter_model"):
        Checkpoint(tuned)
    shutil.copy(base / SINGLE, tuned / SINGLE)
    (tuned / INDEX).write_text("{}")
    refused(base, tuned, "two sets of weights")


def test_wrong_indexes_are_named(tmp_path: Path, base: Path) -> None:
    tuned = build(tmp_path / "sharded", 1, shard="20KB")
    index = json.loads((tuned / INDEX).read_text())
    places = index["weight_map"]
    for wrong, message in (
        ({**places, NORM: places["model.embed_tokens.weight"]}, f"wrong about tensor {NORM}"),
        ({**places, "ghost": places[NORM]}, "wrong about tensor ghost"),
        ({name: place for name, place in places.items() if name != NORM}, f"wrong about tensor {NORM}"),
        ({**places, NORM: "gone.safetensors"}, "gone.safetensors is missing"),
        (None, "holds no weight_map"),
    ):
        (tuned / INDEX).write_text(json.dumps({"weight_map": wrong}))
        refused(base, tuned, message)


def test_reading_is_lazy_and_agrees_with_safetensors(base: Path) -> None:
    checkpoint, expected = Checkpoint(base), load_file(base / SINGLE)
    assert checkpoint.entries.keys() == expected.keys()
    for name, value in expected.items():
        entry = checkpoint[name]
        assert (entry.shape, entry.dtype, entry.nbytes) == (tuple(value.shape), "BF16", value.nbytes)
        assert torch.equal(checkpoint.read(name), value)
        assert torch.equal(typed(checkpoint.block(name, 3, 16), "bfloat16"), value.flatten()[3:16])
    with pytest.raises(MicotaError, match="tensor ghost is missing"):
        checkpoint.read("ghost")


def test_the_writer_writes_what_safetensors_reads(tmp_path: Path) -> None:
    tensors = {"odd": torch.arange(3).bfloat16(), "wide": torch.rand(2, 2), "scalar": torch.tensor(True)}
    save_file(tensors, tmp_path / SINGLE)
    entries = list(Checkpoint(tmp_path).entries.values())
    (tmp_path / "out").mkdir()
    (shard,) = lay_out(tmp_path / "out", entries)
    file = ShardFile(shard)
    for entry in reversed(entries):
        flat = tensors[entry.name].reshape(-1)
        file.put(entry, flat.numel() // 2, raw(flat[flat.numel() // 2 :]))
        file.put(entry, 0, raw(flat[: flat.numel() // 2]))
    assert not shard.is_finished()
    file.finish()
    assert shard.is_finished() and same(load_file(shard.file), tensors)


def test_blocks_are_seen_in_the_order_of_the_file(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    made = {
        "ids": torch.randint(0, 256, (9 * BLOCK + 5,), generator=generator, dtype=torch.uint8),
        "w": torch.randn(9 * BLOCK + 5, generator=generator).bfloat16(),
    }
    save_file(made, tmp_path / SINGLE)
    checkpoint, seen = Checkpoint(tmp_path), list[Bytes]()
    half = dict.fromkeys(made, Settings("dare_linear", (0.5,), density=0.7))
    entries = [checkpoint[name] for name in made]
    merge_entries(entries, [checkpoint] * 2, ["m"], half, 3, lambda *_: None, lambda merged: seen.append(merged.copy()))
    for name, blocks in (("ids", seen[:10]), ("w", seen[10:])):
        assert np.array_equal(np.concatenate(blocks), raw(made[name]))
