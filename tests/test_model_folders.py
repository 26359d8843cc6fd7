"""Model folders whose weights are not those of their architecture, and what a folder ships that nobody asked for."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from conftest import World
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import micota
from micota import pretrained
from micota.checks import recipes as inspection
from micota.cli import main as cli
from micota.errors import MicotaError
from micota.generation.transformers import Transformers
from micota.machine import EngineConfig
from micota.merging.safetensor_files import Checkpoint
from micota.specs import Generate, Problems, Prompt, Sampling, Source
from micota.store.records import Request

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
import folders as fuzz

Tensors = dict[str, Any]
LAB = Path(micota.__file__).parent / "lab" / "models"
FIRST = "model.layers.0.self_attn.q_proj.weight"
INV_FREQ = "model.layers.0.self_attn.rotary_emb.inv_freq"
UP = "model.layers.0.mlp.up_proj.weight"
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def change(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps((json.loads(path.read_text()) if path.is_file() else {}) | values))


def weights(edit: Callable[[Tensors], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        edit(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def untie(folder: Path) -> None:
    change(folder, "config.json", tie_word_embeddings=False)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a projection is missing": (weights(lambda t: t.pop(FIRST)), f"{FIRST}: missing"),
    "the last norm is missing": (weights(lambda t: t.pop("model.norm.weight")), "model.norm.weight: missing"),
    "the embedding is missing": (weights(lambda t: t.pop(EMBEDDING)), "missing"),
    "a bias is missing": (weights(lambda t: t.pop(FIRST.replace("weight", "bias"))), "q_proj.bias: missing"),
    "one has another name": (
        weights(lambda t: t.update(x=t.pop("model.layers.1.mlp.up_proj.weight"))),
        "up_proj.weight: missing.*instead",
    ),
    "all have a prefix": (
        weights(lambda t: [t.update({f"net.{name}": t.pop(name)}) for name in list(t)]),
        "missing.*the files hold net.model",
    ),
    "one is transposed": (
        weights(lambda t: t.update({UP: t[UP].T.contiguous()})),
        "up_proj.weight .*of another shape",
    ),
    "one has a row more": (
        weights(lambda t: t.update({EMBEDDING: torch.zeros(len(t[EMBEDDING]) + 1, t[EMBEDDING].shape[1])})),
        "of another shape",
    ),
    "an untied head is missing": (untie, "lm_head.weight: missing"),
    "one holds integers": (weights(lambda t: t.update({FIRST: t[FIRST].to(torch.int8)})), "I8.*floating-point"),
    "one is in eight bits": (
        weights(lambda t: t.update({FIRST: t[FIRST].to(torch.float8_e4m3fn)})),
        "F8_E4M3.*floating-point",
    ),
    "a layer is missing": (lambda f: change(f, "config.json", num_hidden_layers=3), "num_hidden_layers"),
    "layers without end": (lambda f: change(f, "config.json", num_hidden_layers=10**9), "num_hidden_layers: 10{9}"),
    "an end of many digits": (
        lambda f: change(f, "generation_config.json", eos_token_id=10**29),
        "eos_token_id of the model",
    ),
    "an adapter": (lambda f: change(f, "adapter_config.json", base_model_name_or_path="a/b"), "LoRA adapter.*a/b"),
}  # fmt: skip
RIGHT: dict[str, tuple[Callable[[Path], object], str]] = {
    "as it is": (lambda folder: None, ""),
    "heads for other tasks": (weights(lambda t: t.update({"mtp.fc.weight": torch.zeros(2, 2)})), "mtp.fc.weight"),
    "rotary buffers": (weights(lambda t: t.update({INV_FREQ: torch.ones(4)})), ""),
    "a copy of the tied head": (weights(lambda t: t.update({HEAD: t[EMBEDDING].clone()})), ""),
    "another precision": (weights(lambda t: t.update({n: v.to(torch.bfloat16) for n, v in t.items()})), ""),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the lab's student, two layers with tied embeddings."""
    return Path(shutil.copytree(LAB / "student", tmp_path / "model"))


def check(folder: Path) -> tuple[bool, str]:
    """Whether `micota check --model` passes, and what it says."""
    result = CliRunner().invoke(cli.app, ["check", "--model", str(folder)])
    assert result.exception is None or isinstance(result.exception, MicotaError)
    return result.exception is None, f"{result.output}{result.exception or ''}"


@pytest.mark.parametrize("name", FAULTS)
def test_weights_that_are_not_the_architectures_are_refused_before_they_are_loaded(name: str, folder: Path) -> None:
    damage, says = FAULTS[name]
    damage(folder)
    right, said = check(folder)
    assert not right and re.search(says, said, re.S), said
    if "eos" not in says:
        with pytest.raises(MicotaError, match=re.compile(says, re.S)):
            pretrained.inspect(folder).refuse()


def test_a_folder_without_weights_is_checked_for_what_it_has(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    right, said = check(folder)
    assert right and "no weights are here" in said
    with pytest.raises(MicotaError, match=r"no model\.safetensors"):
        pretrained.inspect(folder)


LATER = """
let:
  p: {problems: {source: "lab:arithmetic", split: train, n: 4}}
  cot: {distill: {from: lab:ta, data: p, prompt: "{problem}"}}
  long: {train: {base: FOLDER, data: cot, cutoff: 400}}
arms: {mid: {merge: {base: FOLDER, models: [long], method: dare_ties, density: 0.7, weight: 0.5, rescale: l1}}}
"""


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("value_head.weight", False), ("visual.patch.weight", False), ("model.layers.0.mlp.up_proj.bias", False),
        ("classifier.weight", False), ("model.layers.0.extra.weight", False),
        ("mtp.fc.weight", True), (INV_FREQ, True), ("model.layers.9.mlp.up_proj.weight", True), ("v_head.x", True),
    ],
)  # fmt: skip
def test_a_merge_with_what_no_training_keeps_is_refused_before_the_training(
    name: str, kept: bool, folder: Path, tmp_path: Path
) -> None:
    weights(lambda t: t.update({name: torch.zeros(2)}))(folder)
    (tmp_path / "later.yaml").write_text(LATER.replace("FOLDER", str(folder)))
    result = CliRunner().invoke(cli.app, ["check", str(tmp_path / "later.yaml")])
    assert (result.exception is None) == kept, result.output
    assert kept or f"no training keeps {name}" in result.output


@pytest.mark.parametrize("left", [True, False])
def test_an_adapter_alone_is_named_by_what_it_is(left: bool, folder: Path) -> None:
    """With and without the tokenizer and configuration that peft may save beside it."""
    for path in [] if left else list(folder.iterdir()):
        path.unlink()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/x"}')
    right, said = check(folder)
    assert not right and "a LoRA adapter, not a model" in said and "micota export" in said and "Qwen/x" in said


@pytest.mark.parametrize("name", RIGHT)
def test_what_loads_nothing_wrong_is_no_fault_and_extra_tensors_are_said(name: str, folder: Path) -> None:
    edit, says = RIGHT[name]
    edit(folder)
    right, said = check(folder)
    assert right and says in said
    pretrained.load(folder, dtype=torch.float32)


@pytest.mark.parametrize("name", ["a projection is missing", "one is transposed", "an untied head is missing"])
def test_a_load_itself_refuses_what_it_would_fill_with_random_numbers(name: str, folder: Path) -> None:
    FAULTS[name][0](folder)
    with pytest.raises(MicotaError, match=r"missing|another shape"):
        pretrained.load(folder, dtype=torch.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_named_when_a_model_is_loaded(value: float, folder: Path) -> None:
    weights(lambda t: t[FIRST].view(-1)[5:6].fill_(value))(folder)
    with pytest.raises(MicotaError, match=f"tensor {FIRST} holds NaN or infinite numbers"):
        pretrained.load(folder, dtype=torch.float32)


def test_one_function_loads_every_model() -> None:
    files = Path(micota.__file__).parent.rglob("*.py")
    loading = {f.name for f in files if re.search(r"^[^>\n]*(LM|\(model\))\.from_pretrained\(", f.read_text(), re.M)}
    assert loading == {"pretrained.py"}


def test_a_run_refuses_a_model_that_lacks_a_tensor_and_makes_nothing(world: World) -> None:
    models = (world.folder / "models").resolve()
    (world.folder / "models").unlink()
    shutil.copytree(models, world.folder / "models")
    weights(lambda t: t.pop(FIRST))(world.folder / "models" / "student")
    result = CliRunner().invoke(cli.app, ["run", str(world.recipe_file), "--store", str(world.folder / "store")])
    assert isinstance(result.exception, MicotaError) and f"{FIRST}: missing" in str(result.exception)
    assert not list((world.folder / "store").rglob("manifest.json"))


@pytest.mark.parametrize("name", ["a projection is missing", "one is transposed"])
@pytest.mark.parametrize("word", ["generate", "distill", "train", "measure", "rehearse", "check"])
def test_every_command_that_loads_a_model_refuses_it(name: str, word: str, folder: Path, tmp_path: Path) -> None:
    FAULTS[name][0](folder)
    problems, rows, recipe = (tmp_path / file for file in ("problems.jsonl", "rows.jsonl", "recipe.yaml"))
    problems.write_text('{"problem": "2+2", "answer": "4"}\n')
    rows.write_text('{"prompt": "2+2", "response": "4"}\n')
    recipe.write_text(
        f"let: {{p: {{problems: {{source: {problems}}}}}}}\n"
        f"evaluate: {{models: [{folder}], data: [p], prompt: '{{problem}}', sampling: {{max_tokens: 8}}}}\n"
    )
    store, out = ["--store", str(tmp_path / "store")], ["--out", str(tmp_path / "out")]
    given = {
        "generate": [str(folder), str(problems), *out, *store],
        "distill": [str(folder), str(problems), *out, *store],
        "train": [str(folder), str(rows), "--set", "cutoff=200", *out, *store],
        "measure": [str(folder), str(rows), *store],
    }.get(word, [str(recipe)])
    result = CliRunner().invoke(cli.app, [word, *given])
    said = f"{result.output}{result.exception}"
    assert isinstance(result.exception, MicotaError) and re.search(FAULTS[name][1], said, re.S), said
    assert not (tmp_path / "out").exists()


def test_a_merge_refuses_it_in_the_base_and_in_a_model(folder: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(LAB / "student", tmp_path / "whole")
    weights(lambda t: t.pop(FIRST))(folder)
    for base, model in ((folder, folder), (whole, folder), (folder, whole)):
        config = tmp_path / "merge.yml"
        config.write_text(
            f"merge_method: linear\nbase_model: {base}\nmodels: [{{model: {model}, parameters: {{weight: 1}}}}]"
        )
        result = CliRunner().invoke(cli.app, ["merge", str(config), str(tmp_path / "out")])
        assert isinstance(result.exception, MicotaError) and "missing" in str(result.exception)
        assert not (tmp_path / "out").exists()


SHIPPED: list[dict[str, Any]] = [
    {"repetition_penalty": 1.3, "no_repeat_ngram_size": 2, "encoder_repetition_penalty": 2.0, "use_cache": False},
    {"min_new_tokens": 60, "min_length": 90, "exponential_decay_length_penalty": [2, 1.9], "stop_strings": ["1"]},
    {"bad_words_ids": [[10], [11]], "suppress_tokens": [5, 6], "begin_suppress_tokens": [4], "forced_bos_token_id": 5},
    {"forced_eos_token_id": 7, "sequence_bias": [[[5], -9.0]], "guidance_scale": 1.5, "max_time": 0.0001},
    {"num_beams": 3, "num_return_sequences": 2, "output_scores": True, "max_new_tokens": 3, "max_length": 4},
    {"return_dict_in_generate": True, "penalty_alpha": 0.6, "top_k": 4, "watermarking_config": {"bias": 5.0}},
    {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "min_p": 0.3, "typical_p": 0.4, "epsilon_cutoff": 0.3},
    {"prompt_lookup_num_tokens": 3, "num_assistant_tokens": 2, "cache_implementation": "quantized"},
]
"""Generation settings of model folders; no recipe asks for them."""
PROBLEMS = ("12+7=?", "3*4=?", "90-8=?")


def answers(folder: Path, sampling: Sampling, problems: tuple[str, ...] = PROBLEMS) -> list[tuple[str, str]]:
    spec = Generate(
        model=Source(ref="m", revision="1", path=str(folder)),
        problems=Problems(source=Source(ref="lab:arithmetic", revision="1")),
        prompt=Prompt(template="{problem}"),
        sampling=sampling,
        precision="float32",
    )
    engine = Transformers(spec, folder, EngineConfig(), 1, Event())
    done = [one for group in engine.answer([Request(p, 0, p) for p in problems]) for one in group]
    return [(one.text, one.finish_reason) for one in sorted(done, key=lambda one: one.key)]


@pytest.fixture(scope="module")
def plain() -> dict[float, list[tuple[str, str]]]:
    """The lab's student at two temperatures, with nothing in its folder's generation config but its end."""
    return {t: answers(LAB / "student", Sampling(max_tokens=80, temperature=t)) for t in (0.0, 0.8)}


@pytest.mark.parametrize("shipped", SHIPPED, ids=lambda one: "-".join(one))
def test_a_folders_own_generation_settings_change_nothing(
    shipped: dict[str, Any], folder: Path, plain: dict[float, list[tuple[str, str]]]
) -> None:
    change(folder, "generation_config.json", **shipped)
    for temperature, texts in plain.items():
        assert answers(folder, Sampling(max_tokens=80, temperature=temperature)) == texts


def test_a_check_says_which_settings_are_not_used(folder: Path) -> None:
    change(folder, "generation_config.json", repetition_penalty=1.05, top_k=20, temperature=1.0, no_repeat_ngram_size=0)
    right, said = check(folder)
    assert right and "not used of its generation_config.json: repetition_penalty 1.05, top_k 20 (" in said


def test_a_recipe_can_ask_for_a_repetition_penalty_which_counts_prompt_and_response_but_no_padding() -> None:
    alone = [
        answers(LAB / "student", Sampling(max_tokens=40, repetition_penalty=1.4), (p,))[0] for p in sorted(PROBLEMS)
    ]
    together = answers(LAB / "student", Sampling(max_tokens=40, repetition_penalty=1.4))
    assert together == alone
    assert together != answers(LAB / "student", Sampling(max_tokens=40))
    assert Sampling(repetition_penalty=1.0) == Sampling()


def test_the_penalty_is_that_of_transformers() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(LAB / "student")
    model = AutoModelForCausalLM.from_pretrained(LAB / "student", dtype=torch.float32)
    turns = [{"role": "user", "content": PROBLEMS[0]}]
    inputs = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    out = model.generate(**inputs, max_new_tokens=40, do_sample=False, repetition_penalty=1.4)[0]
    text = tokenizer.decode(out[inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    sampling = Sampling(max_tokens=40, repetition_penalty=1.4)
    assert answers(LAB / "student", sampling, PROBLEMS[:1])[0][0] == text


@pytest.mark.parametrize(
    "targets",
    ["[nothing]", "[q_proj, nothing]", "[proj]", "[layers.9.self_attn.q_proj]", "[norm]", "[mlp]", "['']",
     "[model]", "[act_fn]", "[q_proj, layers.0]", "[rotary_emb]"],
)  # fmt: skip
def test_adapters_for_modules_that_a_model_lacks_are_refused_before_anything_is_made(
    world: World, targets: str
) -> None:
    result = CliRunner().invoke(
        cli.app, ["check", str(world.recipe_file), "--set", f"defaults.train.lora={{rank: 2, targets: {targets}}}"]
    )
    assert isinstance(result.exception, MicotaError) and "has no module" in result.output


def test_adapters_for_layers_of_weights_are_right(world: World) -> None:
    right = "defaults.train.lora={rank: 2, targets: [q_proj, layers.0.mlp.up_proj, embed_tokens]}"
    assert CliRunner().invoke(cli.app, ["check", str(world.recipe_file), "--set", right]).exit_code == 0


def entry(**change: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} | change


HEADERS: dict[str, tuple[object, str]] = {
    "negative offsets": ({"a": entry(data_offsets=[-16, 0])}, "tensor a is"),
    "offsets with a point": ({"a": entry(data_offsets=[0.0, 16.0])}, "tensor a is"),
    "offsets that are turned": ({"a": entry(data_offsets=[16, 0])}, "tensor a is"),
    "an offset too few": ({"a": entry(data_offsets=[0])}, "tensor a is"),
    "a negative side": ({"a": entry(shape=[-4])}, "tensor a is"),
    "two negative sides": ({"a": entry(shape=[-2, -2])}, "tensor a is"),
    "a side with a point": ({"a": entry(shape=[4.0])}, "tensor a is"),
    "a side that is true": ({"a": entry(shape=[True])}, "tensor a is"),
    "too large": ({"a": entry(shape=[2**62, 2**62])}, "tensor a is"),
    "longer than its bytes": ({"a": entry(shape=[5])}, "tensor a is"),
    "beyond the file": ({"a": entry(shape=[8], data_offsets=[0, 32])}, "tensor a is"),
    "no dtype": ({"a": {"shape": [4], "data_offsets": [0, 16]}}, "tensor a is"),
    "another dtype": ({"a": entry(dtype="X")}, "tensor a is"),
    "no entry": ({"a": 3}, "tensor a is 3"),
    "bytes of two": ({"a": entry(), "b": entry()}, "tensor `[ab]`"),
    "a hole": ({"a": entry(shape=[2], data_offsets=[8, 16])}, "tensor `a`"),
    "a list": ([], "sequence"),
    "a number": (3, "integer"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_cannot_be_right_names_file_and_tensor(name: str, tmp_path: Path) -> None:
    header, says = HEADERS[name]
    text = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(MicotaError, match=says) as caught:
        Checkpoint(tmp_path)
    assert "cannot read model.safetensors" in str(caught.value)


@pytest.mark.parametrize("text", [b"[" * 10**5, b'{"a":' * 10**4, b"\xff", b"", b'{"__metadata__": {"a": [1]}}'])
@pytest.mark.parametrize("length", [None, 0, 2**27, 2**40, 2**63])
def test_a_header_that_is_none_names_the_file(text: bytes, length: int | None, tmp_path: Path) -> None:
    size = (len(text) if length is None else length).to_bytes(8, "little")
    (tmp_path / "model.safetensors").write_bytes(size + text + bytes(16))
    with pytest.raises(MicotaError, match=r"cannot read model.safetensors"):
        Checkpoint(tmp_path)


def test_a_name_that_stands_twice_in_a_header_is_refused(tmp_path: Path) -> None:
    text = json.dumps({"a": entry(), "b": entry()}).replace('"b"', '"a"').encode()
    (tmp_path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
    with pytest.raises(MicotaError, match="twice"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("place", ["/etc/passwd", "../x.safetensors", ".", "", 3, None, ["x"], {}])
def test_an_index_names_files_of_its_own_folder(place: object, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": place}}))
    with pytest.raises(MicotaError, match="holds no weight_map"):
        Checkpoint(tmp_path)


def test_hostile_folders_end_with_words(tmp_path: Path) -> None:
    """The short form of `make fuzz`: other seeds, in this process."""
    for seed in range(5000, 5025):
        what = fuzz.make(seed, tmp_path / str(seed))
        try:
            inspection.inspect_folder(str(tmp_path / str(seed)))
        except MicotaError as error:
            assert str(error).strip(), what
