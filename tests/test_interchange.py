"""Results, data and merges in the formats of other programs: read back here, and by their own readers where they are.

MICOTA_INSPECT and MICOTA_LM_EVAL name Pythons that have inspect_ai and lm-eval (`make families`); without them their
parts are skipped.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from by_hand import LET, NEUTRAL, put, results, row
from conftest import LAB, World
from test_recipe import command

from micota.errors import MicotaError
from micota.export import result_formats
from micota.merging import mergekit
from micota.merging.settings import settings_of
from micota.report.results import Results
from micota.specs import Merge
from micota.training.adapters import merge_adapter


def outside(variable: str) -> str:
    """The Python of an environment of its own, as the variable says."""
    python = os.environ.get(variable)
    if not python:
        pytest.skip(f"no environment in {variable}: `make families` sets one up")
    return python


@pytest.fixture
def exported(made: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    """A world whose real run is exported in every format of results, below `tmp_path`."""
    asked = [part for one in LAB for part in ("--set", one)]
    for form in ("inspect", "lm-eval", "hub"):
        arguments = [str(made.recipe_file), str(tmp_path / form), "--format", form, *asked]
        assert command(monkeypatch, "export", *arguments, "--store", str(made.folder / "store")) == 0
    return made


def test_lm_evals_files_are_read_back(exported: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = Results(exported.load(*LAB), exported.store)
    table = found.table().set_index("arm")
    folders = sorted(path.name for path in (tmp_path / "lm-eval").iterdir())
    assert folders == ["instruct", "micota", "strong"]
    (whole,) = (tmp_path / "lm-eval" / "micota").glob("results_*.json")
    figures = json.loads(whole.read_text())["results"]["test-set"]
    assert figures["exact_match,exact_match"] == pytest.approx(table.loc["micota", "accuracy"])
    (samples,) = (tmp_path / "lm-eval" / "micota").glob("samples_test-set_*.jsonl")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    assert [line["resps"] for line in lines] == [[[text]] for text in found.responses("micota").response]
    graded = tmp_path / "graded.jsonl"
    assert command(monkeypatch, "grade", str(samples), "--out", str(graded)) == 0
    right = [json.loads(line)["exact_match"] for line in graded.read_text().splitlines()]
    assert right == [line["exact_match"] for line in lines]


def test_the_hubs_metadata_has_every_accuracy(exported: World, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    table = Results(exported.load(*LAB), exported.store).table().set_index("arm")
    card = ModelCard.load(tmp_path / "hub" / "micota.md")
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type) == ("test-set", "accuracy")
    assert result.metric_value == pytest.approx(100 * table.loc["micota", "accuracy"], abs=1e-3)


def test_inspects_logs_hold_every_sample(exported: World, tmp_path: Path) -> None:
    (path,) = (tmp_path / "inspect").glob("*_micota_*.json")
    log = json.loads(path.read_text())
    frame = Results(exported.load(*LAB), exported.store).responses("micota")
    assert [one["output"]["choices"][0]["message"]["content"] for one in log["samples"]] == frame.response.tolist()
    assert [one["scores"]["exact_match"]["value"] == "C" for one in log["samples"]] == (
        frame.verdict == "correct"
    ).tolist()
    shown = [sum(use["output_tokens"] for use in one["model_usage"].values()) for one in log["samples"]]
    assert shown == frame.tokens.tolist()


READ = """
import json, sys
from pathlib import Path
from inspect_ai.log import read_eval_log
from inspect_ai.scorer import accuracy
found = {}
for path in Path(sys.argv[1]).glob("*.json"):
    log = read_eval_log(str(path))
    letters = [sample.scores[log.results.scores[0].name].value for sample in log.samples]
    share = sum(letter == "C" for letter in letters) / len(letters)
    found[log.eval.model] = [log.results.scores[0].metrics["accuracy"].value, share]
print(json.dumps(found))
"""


def test_the_real_inspect_reads_the_logs(exported: World, tmp_path: Path) -> None:
    python = outside("MICOTA_INSPECT")
    read = subprocess.run([python, "-c", READ, str(tmp_path / "inspect")], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr
    table = Results(exported.load(*LAB), exported.store).table().set_index("arm").accuracy
    found = json.loads(read.stdout.splitlines()[-1])
    assert set(found) == {f"micota/{arm}" for arm in table.index}
    assert all(both == pytest.approx([table[name.partition("/")[2]]] * 2) for name, both in found.items())


LOAD = """
import sys
from pathlib import Path
from lm_eval.utils import get_latest_filename, get_results_filenames, get_sample_results_filenames
names = [str(path) for path in Path(sys.argv[1]).rglob("*.json*")]
assert len(get_results_filenames(names)) == 1 and len(get_sample_results_filenames(names)) == 1, names
print(get_latest_filename(get_results_filenames(names)))
"""


def test_the_real_lm_eval_finds_the_files(exported: World, tmp_path: Path) -> None:
    python = outside("MICOTA_LM_EVAL")
    read = subprocess.run([python, "-c", LOAD, str(tmp_path / "lm-eval" / "micota")], capture_output=True, text=True)
    assert read.returncode == 0, read.stderr


@pytest.mark.parametrize("form", ["trl", "chat", "sharegpt"])
def test_training_data_is_read_back(form: str, made: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    store = ["--store", str(made.folder / "store")]
    assert command(monkeypatch, "export", "small/long-cot", str(out), "--format", form, *store) == 0
    assert command(monkeypatch, "export", "small/long-cot", str(tmp_path / "rows"), *store) == 0
    plain = [json.loads(line) for line in (tmp_path / "rows" / "rows.jsonl").read_text().splitlines()]
    lines = [json.loads(line) for line in (out / "data.jsonl").read_text().splitlines()]
    texts = {
        "trl": lambda row: (row["prompt"][-1]["content"], row["completion"][0]["content"]),
        "chat": lambda row: (row["messages"][0]["content"], row["messages"][1]["content"]),
        "sharegpt": lambda row: (row["conversations"][0]["value"], row["conversations"][1]["value"]),
    }[form]
    assert [texts(row) for row in lines] == [(row["prompt"], row["response"]) for row in plain] and len(lines) == 8
    again = (
        f"arms: {{a: {{train: {{base: lab:student, data: d}}}}}}\nlet: {{d: {{rows: {{source: {out}/data.jsonl}}}}}}\n"
    )
    (tmp_path / "again.yaml").write_text(again)
    if form != "trl":
        made.run(only="d", name=str(tmp_path / "again.yaml"))  # micota reads its own
    if form == "sharegpt":
        index = json.loads((out / "dataset_info.json").read_text())["mine"]
        assert (index["file_name"], index["formatting"]) == ("data.jsonl", "sharegpt")
        assert index["columns"]["messages"] == "conversations" and index["tags"]["assistant_tag"] == "gpt"
    if form == "trl":
        from trl.data_utils import is_conversational

        assert all(map(is_conversational, lines))


METHODS = [
    "method: dare_ties, density: 0.7, weight: 0.5, rescale: inverse_density",
    "method: ties, density: 0.5, weights: [0.6, 0.4], rescale: none",
    "method: task_arithmetic, weights: [0.6, 0.4], lambda: 0.8",
    "method: dare_linear, density: 0.5, weight: 0.5, rescale: l1",
    "method: linear, weights: [0.6, 0.4], normalize: false",
    "method: slerp, weight: 0.3",
]


@pytest.mark.parametrize("fields", METHODS)
def test_a_merge_is_the_same_as_mergekits_yaml(
    fields: str, made: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The YAML read by our reader has the settings of the recipe; tests/test_parity.py compares that with mergekit."""
    models = "[ta-long, ta]" if "weights" in fields else "[ta-long]"
    base = "teacher" if "weights" in fields else "ta"
    changed = f"let.ta-mid={{merge: {{base: {base}, models: {models}, {fields}}}}}"
    recipe = made.load(*LAB, changed)
    made.run(*LAB, changed, only="ta-mid")
    merge = recipe.named("ta-mid")
    assert isinstance(merge, Merge)
    made.store.name("small", "merged", merge)
    monkeypatch.chdir(made.folder)  # a local folder stands there as the recipe has it
    out = tmp_path / "out"
    given = ["--format", "mergekit", "--store", str(made.folder / "store")]
    assert command(monkeypatch, "export", "small/merged", str(out), *given) == 0
    config = mergekit.read(yaml.safe_load((out / "merge.yml").read_text()), "merge.yml")
    found, wanted = config.settings("model.norm.weight", 2, merge.seed), settings_of(merge)
    assert all(Path(model).is_dir() for model in (config.base, *config.models))
    assert (found.method, found.weights, found.normalizes) == (wanted.method, wanted.weights, wanted.normalizes)
    assert all(found.densities[i] == wanted.densities[i] for i in range(len(config.models)))
    factor = 1 / 0.7 if "inverse_density" in fields else 1
    assert found.lambda_ == pytest.approx(wanted.lambda_ * factor)
    assert "rescale" not in fields or found.rescale == ("none" if "inverse_density" in fields else wanted.rescale)
    made_again = tmp_path / "again"
    assert command(monkeypatch, "merge", str(out / "merge.yml"), str(made_again)) == 0
    from safetensors.numpy import load_file

    ours, theirs = (load_file(path / "model.safetensors") for path in (made.files_of(merge), made_again))
    assert ours.keys() == theirs.keys()
    assert all(abs(ours[name] - theirs[name]).max() < 1e-6 for name in ours)


def test_a_format_that_does_not_fit_is_refused(
    made: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = ["--store", str(made.folder / "store")]
    for name, form, message in (
        ("small/long-cot", "sharegtp", "did you mean 'sharegpt'"),
        ("small/ta-long", "chat", "is no training data"),
        ("small/ta-long", "mergekit", "is no merge"),
        (str(made.recipe_file), "inspect", "has no results yet"),
    ):
        assert command(monkeypatch, "export", name, str(tmp_path / "x"), "--format", form, *store) == 2
        assert message in capsys.readouterr().err


def test_invented_answers_do_not_leave_for_other_programs(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    found = results(world, NEUTRAL)
    put(found.store, found.recipe.evaluations[0].spec, [row(0, "c", 10)], {"fake": ["scripted"]})
    assert Results(found.recipe, world.fresh()).frame.fake.any()
    given = ["--format", "lm-eval", "--store", str(world.folder / "store")]
    assert command(monkeypatch, "export", str(world.recipe_file), str(tmp_path / "x"), *given) == 2
    assert "answers are invented" in capsys.readouterr().err


TEXTLESS = pytest.mark.filterwarnings("ignore:.* was removed, so its texts")


def sized(world: World, said: dict[str, str], arms: str, evaluate: str = "test-set") -> Results:
    """Results of two sizes and two seeds, by the labels of the models; each with a verdict a letter."""
    text = "name: small\nfor: {seed: [0, 1], size: [2, 4]}\n" + LET + arms
    text += f"evaluate: {{models: [arms], data: [{evaluate}], prompt: '{{problem}}', by: [exact_match]}}\n"
    found = results(world, text)
    assert {one.model for one in found.recipe.evaluations} == set(said)
    for one in found.recipe.evaluations:
        rows = [row(i, letter, 10) for i, letter in enumerate(said[one.model])]
        put(found.store, one.spec, rows, {"rows": len(rows)})
    return Results(found.recipe, world.fresh())


TUNED = "arms: {a: {train: {base: student, data: long-cot, seed: $seed, max_steps: $size}}}\n"
SAID = {"a[seed=0,size=2]": "cccw", "a[seed=0,size=4]": "cwww", "a[seed=1,size=2]": "cccc", "a[seed=1,size=4]": "ccww"}
FIGURES = {"a[seed=0,size=2]": (0.75, 0.25), "a[seed=0,size=4]": (0.25, 0.25), "a[seed=1,size=2]": (1.0, 0.2)}
FIGURES |= {"a[seed=1,size=4]": (0.5, math.sqrt(0.25 / 3))}
"""Accuracy and sqrt(p (1 - p) / (n - 1)) of n = 4; where all are right 1 / (n + 1)."""


@TEXTLESS
def test_every_model_has_the_error_of_its_own_rows(world: World, tmp_path: Path) -> None:
    found = sized(world, SAID, TUNED)
    result_formats.write(found, tmp_path / "lm-eval", "lm-eval")
    result_formats.write(found, tmp_path / "inspect", "inspect")
    wanted = {name: pytest.approx(both) for name, both in FIGURES.items()}
    wholes = [json.loads(path.read_text()) for path in (tmp_path / "lm-eval").glob("*/results_*.json")]
    figures = {one["model_name"]: one["results"]["test-set"] for one in wholes}
    kinds = ("exact_match,exact_match", "exact_match_stderr,exact_match")
    assert {name: tuple(one[kind] for kind in kinds) for name, one in figures.items()} == wanted
    logs = [json.loads(path.read_text()) for path in (tmp_path / "inspect").glob("*.json")]
    metrics = {one["eval"]["model"].partition("/")[2]: one["results"]["scores"][0]["metrics"] for one in logs}
    assert {name: (one["accuracy"]["value"], one["stderr"]["value"]) for name, one in metrics.items()} == wanted


def test_two_sizes_of_an_arm_are_two_results_with_their_sizes(world: World, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    result_formats.write(sized(world, SAID, TUNED), tmp_path / "hub", "hub")
    entries = ModelCard.load(tmp_path / "hub" / "a.md").data.eval_results
    wanted = {"accuracy (exact_match, size=2)": (87.5, "2"), "accuracy (exact_match, size=4)": (37.5, "4")}
    assert {one.metric_name: (one.metric_value, one.metric_args["variables"]["size"]) for one in entries} == wanted


@TEXTLESS
def test_one_problem_has_no_standard_error(world: World, tmp_path: Path) -> None:
    found = sized(world, dict.fromkeys(SAID, "c"), TUNED)
    result_formats.write(found, tmp_path / "lm-eval", "lm-eval")
    whole = json.loads(next((tmp_path / "lm-eval").glob("*/results_*.json")).read_text())
    figures = whole["results"]["test-set"]
    assert (figures["exact_match,exact_match"], figures["exact_match_stderr,exact_match"]) == (1, "N/A")


ALIKE = ("mix_long", "mix-long", "mix long", "实验", "模型", "x" * 90, "x" * 89 + "y")


@TEXTLESS
def test_names_that_are_alike_have_files_of_their_own(world: World, tmp_path: Path) -> None:
    arms = "arms:\n" + "".join(f'  "{name}": student\n' for name in ALIKE)
    text = "name: small\n" + LET.replace("more-set:", "test_set:") + arms
    text += "evaluate: {models: [arms], data: [test-set, test_set], prompt: '{problem}', by: [exact_match]}\n"
    found = results(world, text)
    for one in {one.spec.digest: one for one in found.recipe.evaluations}.values():
        put(found.store, one.spec, [row(0, "c" if one.data == "test_set" else "w", 10)], {"rows": 1})
    found = Results(found.recipe, world.fresh())
    for form, files in (("inspect", 14), ("lm-eval", 21), ("hub", 7)):
        assert result_formats.write(found, tmp_path / form, form) == files
        assert len([path for path in (tmp_path / form).rglob("*") if path.is_file()]) == files
    wholes = [json.loads(path.read_text()) for path in (tmp_path / "lm-eval").glob("*/results_*.json")]
    assert {one["model_name"] for one in wholes} == set(ALIKE)
    for one in wholes:
        figures = {name: of["exact_match,exact_match"] for name, of in one["results"].items()}
        assert figures == {"test-set": 0, "test_set": 1}


@TEXTLESS
def test_two_files_of_one_name_are_refused_before_any_is_written(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = sized(world, SAID, TUNED)
    monkeypatch.setattr(result_formats, "piece", lambda name: "same")
    for form in ("inspect", "lm-eval"):
        with pytest.raises(MicotaError, match="would be written twice"):
            result_formats.write(found, tmp_path / "out", form)
        assert not (tmp_path / "out").exists()


@pytest.fixture
def adapter(models: Path, tmp_path: Path) -> Path:
    """A LoRA adapter of a tiny model, as peft saves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = models / "student"
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=2, target_modules=["q_proj"]))
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_folder_becomes_a_model(
    adapter: Path, models: Path, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from peft import PeftModel
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    out = world.folder / "merged"
    assert command(monkeypatch, "export", str(adapter), str(out)) == 0
    both = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(models / "student"), adapter)
    wanted = both.merge_and_unload().state_dict()
    found = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert all(abs(wanted[name] - found[name]).max() < 1e-6 for name in wanted) and wanted.keys() == found.keys()
    assert world.load(f"let.student={out}").named("micota")  # a model of a recipe
    tensors = load_file(adapter / "adapter_model.safetensors")
    stray = {name.replace("q_proj", "r_proj"): tensor.clone() for name, tensor in tensors.items()}
    save_file({**tensors, **stray}, adapter / "adapter_model.safetensors")
    assert command(monkeypatch, "export", str(adapter), str(out) + "2") == 2
    assert "does not fit its base" in capsys.readouterr().err
    about = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(about | {"base_model_name_or_path": "./gone"}))
    assert command(monkeypatch, "export", str(adapter), str(out) + "2") == 2
    assert "the base './gone' of the adapter is not there" in capsys.readouterr().err


def stored(folder: Path) -> set[str]:
    """The dtypes of a model's weights, with that of its config, by torch's names."""
    from safetensors.torch import load_file

    weights = {str(tensor.dtype) for tensor in load_file(folder / "model.safetensors").values()}
    return {name.removeprefix("torch.") for name in weights} | {
        json.loads((folder / "config.json").read_text())["dtype"]
    }


def based(adapter: Path, base: Path, **config: object) -> Path:
    """A base of its own for an adapter, with some changes to its config."""
    shutil.copytree(json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"], base)
    about = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": str(base)}
    (adapter / "adapter_config.json").write_text(json.dumps(about))
    (base / "config.json").write_text(json.dumps(json.loads((base / "config.json").read_text()) | config))
    return base


DTYPES = {"bfloat16": "bfloat16", "float16": "float16", "torch.bfloat16": "bfloat16"}
DTYPES |= dict.fromkeys(("auto", "load", "int8", "float64", "nothing", "float8_e4m3fn"), "float32")


@pytest.mark.parametrize("said", DTYPES)
def test_a_merged_adapter_has_the_floats_of_its_base(said: str, adapter: Path, tmp_path: Path) -> None:
    based(adapter, tmp_path / "base", dtype=said)
    merge_adapter(adapter, tmp_path / "out")
    assert stored(tmp_path / "out") == {DTYPES[said]}


def test_without_a_word_of_the_config_the_weights_say_their_floats(adapter: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = based(adapter, tmp_path / "base", dtype="auto")
    weights = load_file(base / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    merge_adapter(adapter, tmp_path / "out")
    assert stored(tmp_path / "out") == {"float16"}
    save_file({name: tensor.char() for name, tensor in weights.items()}, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(MicotaError, match="not of float32, float16, bfloat16"):
        merge_adapter(adapter, tmp_path / "integers")
    assert not (tmp_path / "integers").exists()


def test_the_tokenizer_and_template_of_an_adapter_travel(adapter: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    base = based(adapter, tmp_path / "base")
    (base / "chat_template.jinja").write_text("of the base")
    merge_adapter(adapter, tmp_path / "none")
    assert AutoTokenizer.from_pretrained(tmp_path / "none").chat_template == "of the base"
    (adapter / "chat_template.jinja").write_text("of the adapter")
    merge_adapter(adapter, tmp_path / "template")
    assert AutoTokenizer.from_pretrained(tmp_path / "template").chat_template == "of the adapter"
    (adapter / "chat_template.jinja").unlink()
    (adapter / "tokenizer_config.json").write_text(
        json.dumps(json.loads((base / "tokenizer_config.json").read_text()) | {"chat_template": "of its settings"})
    )
    merge_adapter(adapter, tmp_path / "settings")
    found = AutoTokenizer.from_pretrained(tmp_path / "settings")
    assert found.chat_template == "of its settings" and found("1+2").input_ids == whole(base)("1+2").input_ids
    tokenizer = whole(base)
    tokenizer.chat_template = None
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(5)
    tokenizer.save_pretrained(adapter)
    merge_adapter(adapter, tmp_path / "whole")
    found = AutoTokenizer.from_pretrained(tmp_path / "whole")
    assert (found.chat_template, found.eos_token_id) == (None, 5)


@pytest.mark.parametrize("resized", [True, False])
def test_a_token_that_the_base_has_no_row_for_is_refused(resized: bool, models: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(models / "student"), whole(models / "student")
    tokenizer.add_tokens(["<new>"])
    if resized:
        model.resize_token_embeddings(len(tokenizer))
    tuned = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"]))
    tuned.save_pretrained(tmp_path / "adapter", save_embedding_layers=resized)
    tokenizer.save_pretrained(tmp_path / "adapter")
    with pytest.raises(
        MicotaError, match="does not fit its base" if resized else "has ids up to 28, its embedding 28 rows"
    ):
        merge_adapter(tmp_path / "adapter", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def whole(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
