"""Rehearsals: planted faults are found, stand-ins keep what decides whether models go together, recipes pass."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from conftest import RECIPE, World, tiny_model, with_roles
from rich.console import Console

from micota.cli import rehearse as command
from micota.errors import MicotaError
from micota.merging.compatibility import compare
from micota.recipe import recipe as recipes
from micota.rehearsal import Rehearsal, data, rehearse
from micota.rehearsal import stand_in_templates as templates
from micota.rehearsal import stand_in_tokenizer as bytewise
from micota.rehearsal import stand_ins as models
from micota.specs import Problems, SftData, Source, Train

LONG = pytest.mark.skipif("MICOTA_LONG" not in os.environ, reason="MICOTA_LONG=1 rehearses every shipped recipe")


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def rehearsed(world: World, text: str) -> Rehearsal:
    world.recipe_file.write_text(text)
    return rehearse(world.load(), world.folder / "rehearsal", Console(quiet=True))


def worded(folder: Path, template: str | None = None) -> Path:
    """A real tiny Qwen2 whose tokenizer has words, with a chat template of its own."""
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    tokenizer = bytewise.build("a/model")
    tokenizer.chat_template = template or tokenizer.chat_template
    tokenizer.save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer) + 5, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def look(folder: Path, trained: bool) -> list[templates.Finding]:
    return templates.look(f"./{folder.name}", folder, trained, trust=False)


def large(folder: Path, rows: int = 700, hidden: int = 3584) -> Source:
    """A folder that describes a large model, with a real tokenizer; its weights are nothing but their size."""
    worded(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": hidden, "intermediate_size": 18_944, "num_hidden_layers": 28, "vocab_size": rows}
    config |= {"num_attention_heads": 28, "num_key_value_heads": 4, "layer_types": ["full_attention"] * 28}
    (folder / "config.json").write_text(json.dumps(config))
    with open(folder / "model.safetensors", "wb") as file:
        file.truncate(2 * models.SMALL)
    return Source(ref=f"./{folder.name}", revision=folder.name, path=str(folder))


def test_a_sound_recipe_passes_and_every_stage_is_counted(world: World) -> None:
    done = rehearsed(world, with_roles(RECIPE))
    assert done.findings == []
    counts = {kind: len(seconds) for kind, seconds in done.seconds.items()}
    assert counts["train"] == 2 and counts["merge"] == counts["report"] == 1  # equal chains are learnt once
    assert {few.origin for _, few in done.data.values()} == {"real"}
    report = world.folder / "rehearsal" / "store" / "reports" / "small" / "report.html"
    assert "MiCoTA" in report.read_text()


def test_an_assistant_whose_vocabulary_differs_is_found(world: World, tmp_path: Path) -> None:
    other = tiny_model(tmp_path / "other", 3)
    config = json.loads((other / "config.json").read_text())
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(other)
    model.resize_token_embeddings(config["vocab_size"] + 3)
    torch.manual_seed(0)
    model.save_pretrained(other)
    done = rehearsed(world, RECIPE.replace("models: [ta-long], method", "models: [./other], method"))
    (fault,) = done.faults
    assert "merge ta-mid" in fault and "embed_tokens" in fault and "micota pad" in fault


DELETES = (
    "{% for m in messages %}{% set text = m['content'] %}"
    "{% if m['role'] == 'assistant' %}{% set text = text.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n' }}{% endif %}"
)


def test_a_template_that_deletes_the_thought_is_found_where_it_is_trained(world: World, tmp_path: Path) -> None:
    worded(tmp_path / "deleting", DELETES)
    done = rehearsed(world, RECIPE.replace("student: ./models/student", "student: ./deleting"))
    (note,) = [one.text for one in done.findings if not one.fault]
    assert note.startswith("./deleting: its chat template deletes the thought")
    (fault,) = done.faults  # the template opens a thought that this teacher's answers never close
    assert "train strong" in fault and "the thought is never closed" in fault
    assert look(tmp_path / "deleting", trained=False) == []  # a teacher only writes: no turn of it is rendered


def test_training_data_made_elsewhere_is_rehearsed_with_its_first_rows(world: World) -> None:
    rows = [{"prompt": f"{i}+1", "response": f"{i}+1={i + 1}"} for i in range(50)]
    world.write("mine.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    done = rehearsed(world, RECIPE.replace("{base: student, data: long-cot}", "{base: student, data: ./mine.jsonl}"))
    assert done.findings == []
    assert ("./mine.jsonl", data.ROWS, "real") in [
        (name, len(few.rows), few.origin) for name, few in done.data.values()
    ]
    hub = data.few_rows(
        SftData(source=Source(ref="some/chats"), messages="messages"), world.folder / "few", online=False
    )
    assert hub.origin == "stand-in" and hub.rows[0]["messages"][1]["role"] == "assistant"


def test_a_template_that_fails_is_a_fault_and_ends_nothing(world: World, tmp_path: Path) -> None:
    worded(tmp_path / "failing", "{{ bos + messages[0]['content'] }}")
    done = rehearsed(world, RECIPE.replace("student: ./models/student", "student: ./failing"))
    assert "./failing: its chat template raises an error: 'bos' is undefined" in done.faults[0]
    assert len(done.seconds["train"]) == 1  # the assistant's, which needs no student


def test_a_tokenizer_that_takes_the_end_of_a_thought_for_a_special_token_is_a_fault(tmp_path: Path) -> None:
    folder = worded(tmp_path / "special")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    token = {"id": 259, "content": "</think>", "single_word": False, "lstrip": False, "rstrip": False}
    tokenizer["added_tokens"].append({**token, "normalized": False, "special": True})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (fault,) = look(folder, trained=True)
    assert fault.fault and "does not write </think> as text" in fault.text
    assert look(worded(tmp_path / "plain"), trained=True) == []


def test_a_stand_in_keeps_what_decides_whether_models_go_together(tmp_path: Path) -> None:
    one, same, rows, wide = (
        models.stand_in_for(source, tmp_path / f"stand-in-{i}", online=False, trust=False)
        for i, source in enumerate(
            (large(tmp_path / "one"), large(tmp_path / "same"), large(tmp_path / "rows", 708),
             large(tmp_path / "wide", hidden=5120))
        )
    )  # fmt: skip
    assert (one.shape, one.tokenizer) == ("its config.json", "real")
    assert (one.folder / "model.safetensors").stat().st_size < 1_000_000
    assert compare(one.folder, [same.folder])[-1].endswith("padding, which is kept")
    with pytest.raises(MicotaError, match="only models of one shape"):
        compare(one.folder, [rows.folder])
    with pytest.raises(MicotaError, match="hidden_size is 48, in the base 32"):
        compare(one.folder, [wide.folder])


def test_models_of_the_hub_that_cannot_be_had_get_stand_ins_by_what_is_published(tmp_path: Path) -> None:
    names = ["Qwen/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-14B-Instruct", "Qwen/QwQ-32B", "endpoint:some-model"]
    cast = [models.stand_in_for(Source(ref=name), tmp_path / name, online=False, trust=False) for name in names]
    assert [one.shape for one in cast] == ["published", "published", "published", "guessed: Qwen2.5"]
    configs = [json.loads((one.folder / "config.json").read_text()) for one in cast]
    assert configs[1]["vocab_size"] - configs[0]["vocab_size"] == 152_064 - 151_936
    assert [config["tie_word_embeddings"] for config in configs] == [True, False, False, True]
    templates = [(one.folder / "chat_template.jinja").read_text() for one in cast]
    assert ["<think>" in template for template in templates] == [False, False, True, False]


def test_a_wrong_column_is_found_the_rest_is_rehearsed_and_the_command_says_what_it_had(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.recipe_file.write_text(RECIPE.replace("./test.jsonl", "./test.jsonl, answer: solution"))
    kept = world.folder / "kept"
    with pytest.raises(MicotaError, match="found 1 in a rehearsal of small") as caught:
        command.show_rehearsal(Console(width=120), str(world.recipe_file), (), kept)
    assert str(caught.value).count("has no column 'solution'; it has problem, answer") == 1
    assert "kept/store/making" in str(caught.value)
    said = capsys.readouterr().out
    assert "./models/teacher  its own weights  real" in said
    assert len(list((kept / "store" / "artifacts").glob("train-*"))) == 3  # what needs no test set was tried
    with pytest.raises(MicotaError, match="is not empty"):
        command.show_rehearsal(Console(width=120), str(world.recipe_file), (), kept)


def test_the_first_rows_of_a_data_set_of_the_hub_are_taken_where_it_answers(tmp_path: Path) -> None:
    rows = [{"question": f"{i}+1?", "answer": i + 1} for i in range(20)]
    (tmp_path / "set").mkdir()  # `datasets` reads a folder as it reads the Hub
    (tmp_path / "set" / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source(ref=str(tmp_path / "set"))
    found = data.few(Problems(source=source, problem="question", skip=3, n=100), tmp_path / "few", online=True)
    assert found.origin == "real" and len(found.rows) == data.ROWS
    assert found.rows[0] == {"problem": "3+1?", "answer": 4}
    with pytest.raises(MicotaError, match="has no column 'problem'; it has question, answer"):
        data.few(Problems(source=source), tmp_path / "few", online=True)
    offline = data.few(Problems(source=source), tmp_path / "few", online=False)
    assert offline.origin == "stand-in" and offline.fields["source"].path


def test_a_recipe_of_the_paper_is_rehearsed_offline(tmp_path: Path) -> None:
    made = recipes.load("paper/lora-24gb")
    done = rehearse(made, tmp_path, Console(quiet=True))
    assert done.findings == []
    assert len(done.seconds["train"]) >= 3 and len(done.seconds["search"]) == 1
    assert {stand_in.tokenizer for stand_in in done.stand_ins.values()} == {"stand-in"}
    assert isinstance(made.named("ta-long"), Train)


DEEP = """
name: deep
defaults:
  distil: {prompt: "{problem}", precision: float32, by: exact_match, sampling: {max_tokens: 12}}
  train: {precision: float32, batch: 4, cutoff: 64, max_steps: 2}
let:
  train-set: {problems: {source: ./train.jsonl}}
  test-set: {problems: {source: ./test.jsonl}}
  ta: BASE
  chains: {distil: {from: ./models/teacher, data: train-set}}
  tuned: {train: {base: ta, data: chains}}
  deep:
    merge:
      {method: passthrough, base: ta, slices: [{model: ta, layers: [0, FIRST]}, {model: tuned, layers: [1, LAST]}]}
  deep-cot: {distil: {from: deep, data: train-set}}
arms:
  healed: {train: {base: deep, data: chains}}
  student: {train: {base: ./models/student, data: deep-cot}}
evaluate:
  models: [arms, deep]
  data: [test-set]
  prompt: "{problem}"
  precision: float32
  by: exact_match
  sampling: {max_tokens: 12}
measure: {bpc: {models: [deep], data: [chains], precision: float32}}
"""  # fmt: skip


@pytest.mark.parametrize(("base", "first", "last"), [("./models/ta", 2, 2), ("Qwen/Qwen2.5-1.5B-Instruct", 20, 28)])
def test_a_stack_of_layers_is_rehearsed_trained_and_evaluated(world: World, base: str, first: int, last: int) -> None:
    """A stand-in of a model whose layers are named by their numbers has all of them."""
    done = rehearsed(world, DEEP.replace("BASE", base).replace("FIRST", str(first)).replace("LAST", str(last)))
    assert done.findings == []
    assert len(done.seconds["train"]) == 3 and len(done.seconds["merge"]) == 1
    (stack,) = (world.folder / "rehearsal" / "store" / "artifacts").glob("merge-*")
    assert json.loads((stack / "files" / "config.json").read_text())["num_hidden_layers"] == first + last - 1


ONE_CELL = {
    "lab-map": ["for.seed=[40]", "for.width=[64]", "for.window=[128]"]
}  # of hundreds that differ in numbers only


@LONG
@pytest.mark.parametrize("name", recipes.shipped())
def test_every_shipped_recipe_is_rehearsed(name: str, tmp_path: Path) -> None:
    done = rehearse(recipes.load(name, ONE_CELL.get(name, ())), tmp_path, Console(quiet=True))
    assert done.findings == []
