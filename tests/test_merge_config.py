"""`micota merge CONFIG.yml OUT`: mergekit's YAML, what of it is refused, and what the folder says of itself."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_checkpoints import build, edit, everything, same, weights
from typer.testing import CliRunner

from micota.cli.main import app
from micota.cli.merge_config import merge_config
from micota.errors import MicotaError
from micota.merging import Settings
from micota.merging.folders import merge_folders
from micota.merging.mergekit import read
from micota.merging.mergekit_values import layer_counts

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
        (("dare_ties", "karcher"), "merge_method karcher is not supported"),
        (("dtype: bfloat16", "dtype: float64"), "dtype float64 is not supported"),
        (("tokenizer_source: ./tuned", "tokenizer_source: union"), "tokenizer_source union is not supported"),
        (("tokenizer_source", "chat_template: chatml\ntokenizer_source"), "`chat_template` is not supported"),
        (("density: 0.7", "epsilon: 0.7"), "epsilon does nothing: dare_ties knows only weight, density"),
        (("density: 0.7", "filter_wise: true"), "`filter_wise` is not supported"),
        (("density: 0.7", "gamma: 0.1, t: 2"), "`t` is not supported"),
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


TWO = {"merge_method": "linear", "models": [{"model": m, "parameters": {"weight": 1}} for m in "ab"]}
TIES = {"merge_method": "ties", "base_model": "a", "models": [{"model": "b", "parameters": {"weight": 1}}]}
SLERP = {"merge_method": "slerp", "base_model": "a", "models": [{"model": "b"}], "parameters": {"t": 0.5}}
WRONG: list[tuple[dict[str, object], str]] = [
    ({**TWO, "models": []}, "`models` is a list of models"),
    ({**TWO, "models": None}, "`models` is a list of models"),
    ({**TWO, "models": {"a": 1}}, "`models` is a list of models"),
    ({**TWO, "models": ["a", "b"]}, "`models` is a list of models"),
    ({**TWO, "models": [{"model": {"path": "a"}}]}, "`models` is a list of models"),
    ({**TWO, "models": [{"model": "a", "parameters": [1]}]}, "a mapping is expected"),
    ({**TIES, "base_model": {"model": {"path": "a"}}}, "is no reference"),
    ({**TIES, "base_model": ["a"]}, "is no reference"),
    ({**TIES, "merge_method": ["ties"]}, "is not supported"),
    ({**TIES, "parameters": [1]}, "a mapping is expected"),
    ({**TIES, "dtype": ["float32"]}, "is not supported"),
    ({**TIES, "tokenizer": "union"}, "tokenizer_source union is not supported"),
    ({**TIES, "tokenizer": ["union"]}, "is not supported"),
    ({**TIES, "tokenizer": {"source": "union"}}, "tokenizer_source union is not supported"),
    ({**TIES, "tokenizer": {"tokens": {}}}, "`tokens` is not supported"),
    ({**SLERP, "parameters": {"t": 0.5, "weight": 0.3}}, "weight does nothing: slerp knows only t"),
    ({**SLERP, "models": [{"model": "b", "parameters": {"density": 0.3}}]}, "density does nothing"),
    *(
        ({"merge_method": "linear", "slices": slices}, "slice")
        for slices in (4, [], [4], [{}], [{"sources": []}, {}], [[]])
    ),
    *(
        (
            {"merge_method": "linear", "slices": [{"sources": [{"model": m, "layer_range": span} for m in "ab"]}]},
            "slice",
        )
        for span in (4, None, [], [4], [4, 4], [-1, 2], [0, "4"], {"a": 1}, "04")
    ),
]


NEW = {
    "della": {"weight": 0.6, "density": 0.5, "epsilon": 0.2, "lambda": 0.9, "normalize": False, "rescale": True},
    "breadcrumbs": {"weight": 0.6, "density": 0.5, "gamma": 0.02, "lambda": 2, "normalize": 1, "rescale": 0},
    "sce": {"select_topk": 0.5, "int8_mask": True},
    "model_stock": {"filter_wise": False},
    "nuslerp": {"weight": 0.5, "nuslerp_flatten": True, "nuslerp_row_wise": False},
    "passthrough": {"scale": 0.5},
}
OTHERS = {
    **{"t": 0.5, "weight": 0.5, "density": 0.5, "lambda": 0.5, "epsilon": 0.1, "gamma": 0.1, "scale": 2},
    **{"rescale": 1, "normalize": True, "select_topk": 0.5, "filter_wise": False, "nuslerp_flatten": True},
}


@pytest.mark.parametrize("method", NEW)
def test_each_method_takes_its_own_parameters_and_refuses_all_others(method: str) -> None:
    models = ["b"] if method == "passthrough" else ["b", "c"]
    config = {"merge_method": method, "models": [{"model": m} for m in models]}
    config |= {} if method == "passthrough" else {"base_model": "a"}
    assert read({**config, "parameters": NEW[method]}, "c").settings("x", 1, 0).method == method
    for name, value in OTHERS.items():
        if name in NEW[method]:
            continue
        with pytest.raises(MicotaError, match=f"{name} does nothing: {method} knows only"):
            read({**config, "parameters": {name: value}}, "c")


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("model_stock", {"filter_wise": True}, "filter_wise is not supported"),
        ("nuslerp", {"weight": 1, "nuslerp_flatten": False}, "nuslerp_flatten is not supported"),
        ("nuslerp", {"weight": 1, "nuslerp_row_wise": "yes"}, "nuslerp_row_wise is not supported"),
        ("della", {"weight": 1, "epsilon": [0.1, "x"]}, "epsilon '0.1'|epsilon 'x'|epsilon"),
    ],
)
def test_what_is_not_whole_tensors_is_refused(method: str, parameters: dict[str, object], message: str) -> None:
    config = {"merge_method": method, "base_model": "a", "models": [{"model": "b"}, {"model": "c"}]}
    with pytest.raises(MicotaError, match=message):
        read({**config, "parameters": parameters}, "c").settings("model.layers.1.x", 2, 0)


@pytest.mark.parametrize("method", ["karcher", "multislerp", "ram", "ramplus_tl", "arcee_fusion", "nearswap"])
def test_methods_that_are_missing_name_the_nearest_that_is_there(method: str) -> None:
    with pytest.raises(MicotaError, match=f"merge_method {method} is not supported") as caught:
        read({**TIES, "merge_method": method}, "c.yml")
    assert caught.value.fix and caught.value.fix.startswith("merge_method: ")


@pytest.mark.parametrize(("config", "message"), WRONG)
def test_values_of_another_kind_are_refused_with_words(config: dict[str, object], message: str) -> None:
    with pytest.raises(MicotaError, match=message):
        read(config, "c.yml")


@pytest.mark.parametrize("key", ["weight", "density", "lambda", "normalize", "rescale"])
@pytest.mark.parametrize(
    "value", ["half", "", [0.1, "x"], [{"filter": "mlp", "value": {}}], {"filter": "mlp"}, [], [[1]]]
)
def test_a_parameter_that_is_no_number_is_refused_with_words(key: str, value: object) -> None:
    config = read({**TIES, "parameters": {key: value}} | ({} if key != "weight" else {"models": [{"model": "b"}]}), "c")
    try:
        settings = config.settings("model.layers.3.mlp.up", 4, 0)
    except MicotaError as error:
        assert key in str(error)
    else:
        assert value in ({"filter": "mlp"}, [0.1, "x"], [{"filter": "mlp", "value": {}}]) and settings


@pytest.mark.parametrize("word", ["no", "off", "n", "false", "False", "0", "NO", False])
def test_normalize_is_a_truth_value_in_any_spelling_of_mergekits_yaml(word: object) -> None:
    assert read({**TIES, "parameters": {"normalize": word}}, "c").settings("x", 1, 0).normalize is False
    yes = {
        "no": "yes",
        "off": "on",
        "n": "y",
        "false": "true",
        "False": "True",
        "0": "1",
        "NO": "YES",
        False: True,
    }
    assert read({**TIES, "parameters": {"normalize": yes[word]}}, "c").settings("x", 1, 0).normalize is True
    assert read({**TIES, "parameters": {"rescale": word}}, "c").settings("x", 1, 0).rescale == "none"


@pytest.mark.parametrize(
    "stack",
    ["h", "transformer.h", "model.layers", "model.language_model.layers", "transformer.blocks", "gpt_neox.layers"],
)
def test_a_gradient_runs_over_the_layers_that_the_names_tell(stack: str) -> None:
    names = [f"{stack}.{i}.{part}.weight" for i in (2, 0, 3, 1) for part in ("mlp.experts.7", "attn")]
    others = ["visual.blocks.11.x", "visual.blocks.0.x", "wte.weight", "model.norm.weight"]
    layers = layer_counts([*names, *others])
    config = read({**TWO, "models": [{"model": "a", "parameters": {"weight": [0, 1]}}, TWO["models"][1]]}, "c")  # type: ignore[index]
    weights = {name: config.settings(name, layers[name], 0).weights[0] for name in (*names, *others)}
    assert [weights[f"{stack}.{i}.attn.weight"] for i in range(4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [weights[name] for name in others] == [1.0, 0.0, 0.0, 0.0]


EXTRA = {
    "mtp.fc.weight": torch.arange(6.0).reshape(2, 3),
    "model.layers.0.self_attn.rotary_emb.inv_freq": torch.tensor([1.0, 0.1]),
    "model.layers.9.mlp.up_proj.weight": torch.ones(3),
    "model.layers.1.attn.masked_bias": torch.tensor(-1e4),
    "v_head.summary.weight": torch.ones(1, 4),
}


@pytest.mark.parametrize("method", ["linear", "task_arithmetic", "ties", "dare_ties", "dare_linear", "slerp"])
def test_what_only_the_base_has_and_no_language_model_needs_is_taken_from_it(folder: Path, method: str) -> None:
    file = folder / "base" / "model.safetensors"
    save_file(weights(folder / "base") | EXTRA, file, metadata={"format": "pt"})
    how = {"slerp": "{t: 0.4}", "linear": "{weight: 0.5}"}.get(method, "{weight: 0.5, density: 0.5}")
    how = f"parameters: {how}"
    config = f"merge_method: {method}\nbase_model: ./base\nmodels: [{{model: ./tuned}}]\n{how}\n"
    (folder / "config.yml").write_text(config + ("dtype: float32\n" if method == "dare_ties" else ""))
    facts = merge_config(folder / "config.yml", folder / "out")
    assert any(f"{len(EXTRA)} tensors that only the base has" in line for line in facts["findings"])
    merged = weights(folder / "out")
    assert all(torch.equal(merged[name], value) for name, value in EXTRA.items())
    (folder / "config.yml").write_text(
        config.replace("./tuned", "x").replace("./base", "./tuned").replace("x}", "./base}")
    )
    facts = merge_config(folder / "config.yml", folder / "other")
    assert any(f"{len(EXTRA)} tensors that are left out" in line for line in facts["findings"])
    assert not weights(folder / "other").keys() & EXTRA.keys()


def test_a_head_that_one_folder_stores_and_the_other_ties_without_a_word_is_one(folder: Path) -> None:
    """GPT-2's configuration need not say that it is tied, and its embedding has another name."""
    for name in ("base", "tuned"):
        tensors = {"wte.weight": torch.rand(8, 4), "h.0.mlp.weight": torch.rand(4, 4)}
        save_file(tensors | ({"lm_head.weight": tensors["wte.weight"].clone()} if name == "base" else {}),
                  folder / name / "model.safetensors", metadata={"format": "pt"})  # fmt: skip
        config = json.loads((folder / name / "config.json").read_text()) | {"model_type": "gpt2"}
        config.pop("tie_word_embeddings", None)
        (folder / name / "config.json").write_text(json.dumps(config))
    (folder / "config.yml").write_text(DARE)
    merge_config(folder / "config.yml", folder / "out")
    assert set(weights(folder / "out")) == {"wte.weight", "h.0.mlp.weight"}
