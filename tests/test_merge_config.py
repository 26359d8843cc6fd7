"""`micota merge CONFIG.yml OUT`: mergekit's YAML, what of it is refused, and what the folder says of itself."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_checkpoints import build, edit, everything, same, weights
from typer.testing import CliRunner

from micota.cli.main import app
from micota.cli.merge_config import merge_config
from micota.errors import MicotaError
from micota.merging import Settings
from micota.merging.folders import merge_folders
from micota.merging.mergekit import read

DARE = """
merge_method: dare_ties
base_model: ./base
models:
  - model: ./base
  - model: ./tuned
    parameters: {weight: 0.6, density: 0.7}
parameters: {rescale: inverse_density}
dtype: bfloat16
tokenizer_source: ./tuned
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(tmp_path / "base")
    build(tmp_path / "tuned", seed=1)
    (tmp_path / "config.yml").write_text(DARE)
    return tmp_path


def test_it_is_the_merge_of_a_recipe(folder: Path) -> None:
    result = CliRunner().invoke(app, ["merge", str(folder / "config.yml"), str(folder / "out"), "--seed", "3"])
    assert result.exit_code == 0, result.output
    assert "share kept" in result.output and "sign consensus does nothing" in result.output
    merge_folders(
        folder / "same", folder / "base", [folder / "tuned"], ["0"], Settings("dare_ties", (0.6,), 0.7, seed=3)
    )
    assert same(weights(folder / "out"), weights(folder / "same"))


@pytest.mark.parametrize("rescale", ["inverse_density", "l1", "none"])
def test_the_commonest_merge_does_not_wait_for_torch(folder: Path, rescale: str) -> None:
    (folder / "config.yml").write_text(DARE.replace("inverse_density", rescale))
    code = (
        "import sys; from micota.cli.main import app; app(sys.argv[1:], standalone_mode=False); print([*sys.modules])"
    )
    command = [sys.executable, "-c", code, "merge", str(folder / "config.yml"), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "'torch'" not in done.stdout
    assert (folder / "out" / "config.json").is_file()


def test_the_record_has_seed_configuration_and_checksums(folder: Path) -> None:
    facts = merge_config(folder / "config.yml", folder / "out", seed=3)
    record = json.loads((folder / "out" / "merge.json").read_text())
    assert record["facts"] == facts
    assert facts["seed"] == 3
    assert record["config"] == DARE
    for name, known in record["files"].items():
        data = (folder / "out" / name).read_bytes()
        assert known == {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert set(record["files"]) == {f.name for f in (folder / "out").iterdir()} - {"merge.json"}
    before = everything(folder / "out")
    merge_config(folder / "config.yml", folder / "out", seed=3)
    assert everything(folder / "out") == before


def test_checksums_are_those_of_the_files_whatever_the_threads_and_shards(folder: Path) -> None:
    merge_config(folder / "config.yml", folder / "out", threads=3, shard_bytes=8_000)
    files = json.loads((folder / "out" / "merge.json").read_text())["files"]
    assert sum(name.endswith(".safetensors") for name in files) > 3
    for name, known in files.items():
        assert known["sha256"] == hashlib.sha256((folder / "out" / name).read_bytes()).hexdigest()


def test_out_dtype_wins_and_arithmetic_is_fp32(folder: Path) -> None:
    text = DARE.replace("dtype: bfloat16", "dtype: bfloat16\nout_dtype: float32")
    (folder / "config.yml").write_text(text)
    merge_config(folder / "config.yml", folder / "out")
    name = "model.layers.0.mlp.up_proj.weight"
    value = load_file(folder / "out" / "model.safetensors")[name]
    assert value.dtype == torch.float32
    assert not torch.equal(value, value.bfloat16().float())
    assert json.loads((folder / "out" / "config.json").read_text())["dtype"] == "float32"


def test_files_come_from_the_base_unless_said_and_never_with_another_end(folder: Path) -> None:
    (folder / "config.yml").write_text(DARE.replace('./tuned\n"', "").replace("tokenizer_source: ./tuned", ""))
    facts = merge_config(folder / "config.yml", folder / "out")
    assert set(facts["sources"].values()) == {"./base"}
    edit(folder / "tuned" / "generation_config.json", eos_token_id=[7, 9])
    with pytest.raises(MicotaError, match=r"stops at \[7, 9\]: it never ends") as caught:
        merge_config(folder / "config.yml", folder / "other")
    assert caught.value.fix == f"tokenizer_source: {folder / 'tuned'}"
    assert not (folder / "other").exists()


def test_a_model_s_padded_rows_survive_the_base_s_tokenizer(tmp_path: Path) -> None:
    """Qwen2.5-14B in small: 152,064 rows of embedding, 151,665 tokens."""
    for name, seed in (("base", 0), ("tuned", 1)):
        build(tmp_path / name, seed, vocab_size=1520)
        vocabulary = {f"t{i}": i for i in range(1510)}
        (tmp_path / name / "tokenizer.json").write_text(
            json.dumps({"model": {"vocab": vocabulary}, "added_tokens": [{"id": 1510, "content": "<end>"}]})
        )
    (tmp_path / "config.yml").write_text(DARE.replace("tokenizer_source: ./tuned", "tokenizer_source: base"))
    facts = merge_config(tmp_path / "config.yml", tmp_path / "out")
    merged = weights(tmp_path / "out")
    assert merged["model.embed_tokens.weight"].shape[0] == merged["lm_head.weight"].shape[0] == 1520
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 1520
    assert any("9 rows of its embedding have no token: padding, which is kept" in line for line in facts["findings"])


def test_gradients_and_filters() -> None:
    config = read(
        {
            "merge_method": "dare_ties",
            "base_model": "a",
            "models": [{"model": "b", "parameters": {"weight": [0, 1], "density": [{"filter": "mlp", "value": 0.5}]}}],
            "parameters": {"density": 0.9, "lambda": [{"filter": "layers.1.", "value": 2}], "rescale": False},
        },
        "c.yml",
    )
    seen = [config.settings(f"model.layers.{i}.{part}.weight", 3, 0) for i in range(3) for part in ("mlp.up", "attn")]
    assert [one.weights for one in seen] == [(0.0,), (0.0,), (0.5,), (0.5,), (1.0,), (1.0,)]
    assert [one.density for one in seen] == [(0.5,), (0.9,)] * 3
    assert [one.lambda_ for one in seen] == [1.0, 1.0, 2.0, 2.0, 1.0, 1.0]
    assert {one.rescale for one in seen} == {"none"}
    assert config.settings("model.embed_tokens.weight", 3, 0).weights == (0.0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("dare_ties", "della"), "merge_method della is not supported"),
        (("dtype: bfloat16", "dtype: float64"), "dtype float64 is not supported"),
        (("tokenizer_source: ./tuned", "tokenizer_source: union"), "tokenizer_source union is not supported"),
        (("tokenizer_source", "chat_template: chatml\ntokenizer_source"), "`chat_template` is not supported"),
        (("density: 0.7", "epsilon: 0.7"), "`epsilon` is not supported"),
        (("weight: 0.6, ", ""), "no weight is given for tensor lm_head.weight"),
        (("base_model: ./base", "base_model: ./nowhere"), "there is no folder ./nowhere"),
        (("  - model: ./tuned", "  - model: ./tuned\n  - model: ./tuned"), "name each model once"),
        (("rescale: inverse_density", "rescale: l2"), "rescale: l2 is unknown"),
        (("models:", "modules:"), "`modules` is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(folder: Path, change: tuple[str, str], message: str) -> None:
    (folder / "config.yml").write_text(DARE.replace(*change))
    with pytest.raises(MicotaError) as caught:
        merge_config(folder / "config.yml", folder / "out")
    assert message in str(caught.value)
    assert not (folder / "out").exists()


def test_stacked_or_cut_slices_are_refused() -> None:
    whole = {"sources": [{"model": m, "layer_range": [0, 2]} for m in "ab"]}
    config = {"merge_method": "slerp", "base_model": "a", "parameters": {"t": 0.5}, "slices": [whole]}
    assert read(config, "c.yml").layers == 2
    for slices in ([whole, whole], [{"sources": [{"model": m, "layer_range": [1, 2]} for m in "ab"]}]):
        with pytest.raises(MicotaError, match="slice"):
            read({**config, "slices": slices}, "c.yml")
