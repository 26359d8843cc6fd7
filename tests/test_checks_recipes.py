"""The linter where users meet it: `micota check`, before a run, before a training; and how long it takes."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from conftest import World
from families import MERGES, raw_tokenizer, template
from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from micota import checks
from micota.checks import recipes as inspection
from micota.cli import main as cli
from micota.errors import MicotaError, StageFailed
from micota.recipe.recipe import load
from micota.recipe.shipped import SHIPPED


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def own(world: World) -> World:
    """A world whose student's files can be changed."""
    models = (world.folder / "models").resolve()
    (world.folder / "models").unlink()
    (world.folder / "models").mkdir()
    for one in models.iterdir():
        (world.folder / "models" / one.name).mkdir()
        for file in one.iterdir():
            (world.folder / "models" / one.name / file.name).write_bytes(file.read_bytes())
    return world


def student(world: World, name: str) -> Path:
    return world.folder / "models" / "student" / name


def run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(words))
    return (2 if isinstance(result.exception, MicotaError) else result.exit_code), f"{result.output}{result.exception}"


def test_each_model_of_a_recipe_is_looked_at_once_with_all_its_uses(world: World) -> None:
    looked, found = inspection.inspect(world.load().targets)
    assert found == []
    lines = [line for line in looked if "are right" in line]
    assert {line.split(":")[0] for line in lines} == {f"./models/{name}" for name in ("teacher", "ta", "student")}
    assert len(lines) == 3
    assert run("check", str(world.recipe_file))[0] == 0


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_passed_over_in_silence(path: Path) -> None:
    assert inspection.inspect(load(path.stem).targets)[1] == []


def test_a_model_that_never_stops_ends_a_check_and_a_run(own: World) -> None:
    change(student(own, "generation_config.json"), eos_token_id=0)
    change(student(own, "config.json"), eos_token_id=0)
    code, said = run("check", str(own.recipe_file))
    assert code == 2
    assert (
        "./models/student: generation does not stop at <eos>" in said and "generation_config.json: 2 beside [0]" in said
    )
    with pytest.raises(MicotaError, match="generation does not stop at <eos>"):
        checks.raise_first(inspection.inspect(own.load().targets)[1])
    code, said = run("check", "--model", str(student(own, "")))
    assert code == 2 and "does not stop at <eos>" in said


def test_warnings_are_shown_and_stop_nothing(own: World) -> None:
    change(student(own, "config.json"), max_position_embeddings=60)
    code, said = run("check", str(own.recipe_file))
    assert code == 0 and "warning ./models/student: cutoff is 64, but the model has 60 positions" in said


def test_system_messages_of_training_and_evaluation_are_compared(own: World) -> None:
    text = own.recipe_file.read_text().replace(
        'prompt: "{problem}"\n  precision', 'prompt: {template: "{problem}", mode: raw}\n  precision'
    )
    own.recipe_file.write_text(text)
    found = inspection.inspect(own.load().targets)[1]
    assert {(one.rule, one.severity) for one in found} == {("mode", "warning")}


def test_what_is_done_is_not_looked_at_again(world: World) -> None:
    world.run(only="strong")
    looked, _ = inspection.inspect([world.load().named("strong")], world.fresh())
    assert looked == []


def test_a_model_of_the_hub_that_is_not_here_is_said_to_be_unseen(world: World) -> None:
    world.recipe_file.write_text(world.recipe_file.read_text().replace("./models/teacher", "nobody/no-such-model"))
    looked, found = inspection.inspect(world.load().targets)
    assert found == [] and any("nobody/no-such-model: not checked" in line for line in looked)


def test_what_is_not_here_is_named_beside_no_mistake_found(own: World) -> None:
    code, said = run("check", "paper/table1")
    last = said.splitlines()[-2]  # behind it stands that there was no exception
    assert code == 0 and "no mistake found in what is here; " in last
    assert all(name in last.partition("not checked: ")[2] for name in ("HuggingFaceH4/MATH-500", "Qwen/QwQ-32B"))
    code, said = run("check", str(own.recipe_file))
    assert code == 0 and said.splitlines()[-2].endswith("no mistake found")


def test_a_training_looks_at_its_model_and_its_examples_first(own: World) -> None:
    own.run("defaults.train.max_steps=1", only="strong")
    change(student(own, "generation_config.json"), eos_token_id=[2, 0, 25])
    with pytest.raises(StageFailed, match=r"its EOS token 25 is the ordinary token"):
        own.run("defaults.train.max_steps=1", only="strong")


def test_warnings_before_a_training_go_to_its_log(own: World) -> None:
    change(student(own, "config.json"), max_position_embeddings=60)
    own.run("defaults.train.max_steps=1", only="strong")
    manifest = own.store.manifest(own.load("defaults.train.max_steps=1").named("strong"))
    assert manifest is not None
    logs = [path.read_text() for path in own.store.root.rglob("log.txt")]
    assert any("cutoff is 64, but the model has 60 positions" in log for log in logs)


def large(folder: Path, size: int) -> Path:
    """A tokenizer folder with a byte-level vocabulary of `size` entries, and Qwen's markers."""
    raw = json.loads(raw_tokenizer(["<|im_start|>", "<|im_end|>", "<|endoftext|>"]).to_str())
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab, merges = raw["model"]["vocab"], [list(pair) for pair in MERGES]
    firsts = itertools.chain(letters, map("".join, itertools.product(letters, letters)))
    pairs = ((first, second) for first in firsts for second in letters if first + second not in vocab)
    for first, second in itertools.islice(pairs, size - len(vocab)):
        vocab[first + second] = len(vocab)
        merges.append([first, second])
    raw["model"] |= {"vocab": vocab, "merges": merges}
    for at, token in enumerate(raw["added_tokens"]):
        token["id"] = len(vocab) + at
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    text = template("chatml-default")
    tok = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=text,
    )
    tok.save_pretrained(folder)
    ends = [tok.convert_tokens_to_ids(one) for one in ("<|im_end|>", "<|endoftext|>")]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    (folder / "config.json").write_text(json.dumps({"vocab_size": len(tok), "max_position_embeddings": 32768}))
    return folder


def test_a_model_with_150_thousand_tokens_is_checked(tmp_path: Path) -> None:
    folder = large(tmp_path / "model", 151_643)
    model = checks.Subject.read("large", folder)
    assert len(model.tokenizer) > 150_000
    assert checks.check_model(model) == []


MERGED = """
name: merged
let:
  data: {rows: {source: ./rows.jsonl}}
  other: {train: {base: ./models/student, data: data, max_steps: 1, precision: float32}}
  mid: {merge: {base: ./models/ta, models: [other], method: linear, weight: 1}}
arms: {micota: mid}
"""


def test_a_merge_that_would_be_refused_is_found_before_its_models_are_trained(own: World) -> None:
    own.write("rows.jsonl", json.dumps({"prompt": "1+1=", "response": "2"}) + "\n")
    own.write("merged.yaml", MERGED)
    _, found = inspection.inspect(own.load(name="merged.yaml").targets)
    assert checks.errors(found) == []
    change(student(own, "config.json"), rms_norm_eps=0.5)
    _, (found_one,) = inspection.inspect(own.load(name="merged.yaml").targets)
    assert found_one.rule == "merge" and "rms_norm_eps is 0.5" in found_one.what and "models/ta" in found_one.model


DEEP = """
name: deep
let:
  data: {rows: {source: ./rows.jsonl}}
  ta: ./models/ta
  tuned: {train: {base: ta, data: data, max_steps: 1, precision: float32}}
  deep: {merge: {method: passthrough, base: ta, slices: [{model: ta, layers: [0, 2]}, {model: tuned, layers: [1, 2]}]}}
  deeper: {train: {base: deep, data: data, max_steps: 1, precision: float32}}
  mid: {merge: {base: deep, models: [deeper], method: linear, weight: 1}}
arms: {micota: mid}
"""


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("", ""), ""),
        (("model: tuned, layers: [1, 2]", "model: tuned, layers: [1, 3]"), "layers 1 to 3 are wanted, the model has 2"),
        (("base: deep, models: [deeper]", "base: ta, models: [deeper]"), "a merge of 2 layers with 3"),
        (("base: deep, data: data", "base: {merge: {method: passthrough, base: deep, slices: [{model: deep, layers: "
          "[0, 4]}]}}, data: data"), "layers 0 to 4 are wanted, the model has 3"),
    ],
)  # fmt: skip
def test_layers_that_a_stack_or_a_merge_cannot_have_are_found_before_a_training(
    own: World, change: tuple[str, str], what: str
) -> None:
    own.write("rows.jsonl", json.dumps({"prompt": "1+1=", "response": "2"}) + "\n")
    own.write("deep.yaml", DEEP.replace(*change) if what else DEEP)
    found = checks.errors(inspection.inspect(own.load(name="deep.yaml").targets)[1])
    assert [what in one.what for one in found][:1] == [True] * bool(what), [str(one) for one in found]
