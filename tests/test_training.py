"""`micota train` and `micota measure`: a stage alone on a user's own rows, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import World
from test_recipe import command

from micota import yaml_tree
from micota.cli import main as cli

SETS = ["--set", "precision=float32", "--set", "max_steps=2", "--set", "batch=2", "--set", "cutoff=64"]
HERE = ["--machine", "here.yaml"]


@pytest.fixture
def folder(world: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [{"question": f"{i}+1", "solution": f"{i}+1={i + 1}"} for i in range(4)]
    world.write("mine.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    world.write("here.yaml", "jobs: 1\n")  # in this process
    monkeypatch.chdir(world.folder)
    return world.folder


def micota(*words: str) -> None:
    """The command line in this process; errors come out as they are."""
    cli.app(list(words), standalone_mode=False)


def test_a_training_alone_writes_a_folder_that_loads_and_is_not_repeated(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    columns = ["--set", "data.rows.prompt=question", "--set", "data.rows.response=solution"]
    words = ["train", "./models/student", "mine.jsonl", "--out", "made/student-2.5", *SETS, *columns]
    micota(*words)
    assert "begin  train" in capsys.readouterr().out
    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(folder / "made" / "student-2.5").config.use_cache
    assert "small" not in (folder / "made" / "student-2.5" / "README.md").read_text()
    micota(*words)
    said = capsys.readouterr().out
    assert "begin" not in said and "trained: made/student-2.5" in said
    recipe = yaml_tree.read((folder / "made" / "student-2.5.yaml").read_text(), "x").value
    assert recipe["let"]["trained"]["train"]["data"]["rows"]["prompt"] == "question"
    with pytest.raises(Exception, match="is there already"):
        micota(*words, "--set", "lr=1e-3")
    assert "begin" not in capsys.readouterr().out  # before anything was made


def test_a_measurement_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["--set", "data.rows.prompt=question", "--set", "data.rows.response=solution"]
    words = ["measure", "./models/student", "mine.jsonl", *columns, "--set", "precision=float32"]
    micota(*words)
    assert "bits per character" in capsys.readouterr().out
    micota(*words, "--out", "made.jsonl")
    assert "begin" not in capsys.readouterr().out  # the same artifact under another recipe
    assert len((folder / "made.jsonl").read_text().splitlines()) == 4


def test_mistakes_end_with_a_message(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "./models/student", "mine.jsonl", "--out", "made", "--machine", "here.yaml"]
    assert command(monkeypatch, *words) == 1
    assert "mine.jsonl has no columns of training data; it has question, solution" in capsys.readouterr().err
    assert command(monkeypatch, *words, "--set", "lrr=1") == 2
    assert "unknown key 'lrr'" in capsys.readouterr().err


def test_the_system_message_is_one_for_rows_and_training(folder: Path) -> None:
    shutil.copytree(folder / "models" / "student", folder / "told")
    template = (folder / "told" / "chat_template.jinja").read_text()
    told = "{% if message['role'] == 'system' %}{{ message['content'] }}{% elif message['role'] == 'user' %}"
    (folder / "told" / "chat_template.jinja").write_text(template.replace("{% if message['role'] == 'user' %}", told))
    turns = [
        {"role": "system", "content": "7+7"},
        {"role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
    ]
    (folder / "chats.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    micota("train", "./told", "chats.jsonl", "--out", "made", "--system", "7+7", *HERE, *SETS)
    card = (folder / "made" / "README.md").read_text()
    assert "which every request needs:\n\n```text\n7+7\n```" in card and '{"role": "system", "content": "7+7"}' in card


def test_distilled_answers_are_data_that_a_training_reads(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "machine.yaml").write_text("jobs: 1\ngenerate: {engine: scripted, script: ./answers.jsonl}\n")
    asked = ["--set", 'prompt="{problem}"', "--set", "precision=float32", "--machine", "machine.yaml", "--limit", "5"]
    micota("distil", "./models/teacher", "train.jsonl", "--out", "cot", *asked)
    assert "distilled: cot" in capsys.readouterr().out
    assert len((folder / "cot" / "rows.jsonl").read_text().splitlines()) == 5
    assert "5 prompts with one response each" in (folder / "cot" / "README.md").read_text()
    micota("distil", "./models/teacher", "train.jsonl", "--out", "cot", *asked)
    assert "begin" not in capsys.readouterr().out
    micota("train", "./models/student", "cot/rows.jsonl", "--out", "from-file", *HERE, *SETS)
    micota("train", "./models/student", "cot", "--out", "from-folder", *HERE, *SETS)
    records = [json.loads((folder / name / "micota.json").read_text()) for name in ("from-file", "from-folder")]
    assert records[0]["content"] == records[1]["content"]


def test_files_of_the_users_own_are_never_overwritten(folder: Path) -> None:
    (folder / "made.yaml").write_text("name: mine\n")
    with pytest.raises(Exception, match=r"made\.yaml is a file of your own"):
        micota("train", "./models/student", "mine.jsonl", "--out", "made")
    columns = ["--set", "data.rows.prompt=question", "--set", "data.rows.response=solution"]
    with pytest.raises(Exception, match=r"mine\.jsonl is what is read"):
        micota("measure", "./models/student", "mine.jsonl", *columns, "--out", "mine.jsonl")
