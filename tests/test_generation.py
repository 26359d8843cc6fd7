"""`micota generate`: the stage alone, as rows, and as a data set on a Hub; a small server on loopback stands for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import World, problem
from local_hub import Hub, hub  # noqa: F401  (a fixture)
from test_recipe import command

from micota.store.pool import Pool, Writer
from micota.store.records import Completion


def words(folder: Path, *more: str) -> list[str]:
    """The command for answers of the scripted engine to the training problems of the world in a folder."""
    answers = {"engine": "scripted", "script": "./answers.jsonl", "fake": False}  # they stand for a model's
    (folder / "machine.yaml").write_text(f"jobs: 1\ngenerate: {json.dumps(answers)}\n")
    place = ["--out", "made/rows.jsonl", "--machine", "machine.yaml", "--set", 'prompt="{problem}"']
    return ["generate", "./models/teacher", "train.jsonl", *place, *more]


Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def micota(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    """Run a command in the world's folder: its exit code, and what it prints on both streams."""
    monkeypatch.chdir(world.folder)
    return lambda *words: (command(monkeypatch, *words), *capsys.readouterr())


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "made" / "rows.jsonl").read_text().splitlines()]


def test_rows_hold_problem_gold_and_response_and_a_second_call_makes_nothing(world: World, micota: Said) -> None:
    code, out, err = micota(*words(world.folder, "--limit", "5"))
    assert code == 0, err
    assert "5 answers: made/rows.jsonl" in out
    found = rows(world.folder)
    wanted = {problem(i)["problem"]: problem(i)["answer"] for i in range(5)}
    assert {row["problem"]: row["gold"] for row in found} == wanted
    assert all(row["response"].endswith(r"\boxed{" + row["gold"] + "}") for row in found)
    assert {row["finish_reason"] for row in found} == {"stop"}
    assert "begin" not in micota(*words(world.folder, "--limit", "5"))[1]
    code, _, err = micota(*words(world.folder, "--temperature", "1", "--n", "2", "--max-tokens", "9"))
    assert code == 0, err
    assert sorted((row["key"], row["sample"]) for row in rows(world.folder))[1][1] == 1
    assert len(rows(world.folder)) == 16


def test_the_rows_can_be_graded_and_the_recipe_beside_them_planned(world: World, micota: Said) -> None:
    assert micota(*words(world.folder))[0] == 0
    graded = world.folder / "graded.jsonl"
    assert micota("grade", "made/rows.jsonl", "--out", str(graded))[0] == 0
    assert all(json.loads(line)["exact_match"] == 1 for line in graded.read_text().splitlines())
    code, planned, _ = micota("plan", "made/rows.yaml")
    assert code == 0 and "done" in planned and "new" not in planned


def test_mistakes_are_said(world: World, micota: Said) -> None:
    code, _, err = micota(*words(world.folder, "--set", "sampling.top_q=1"))
    assert code == 2
    assert "unknown key 'top_q'" in err


def test_pushed_rows_come_with_a_card(world: World, hub: tuple[Hub, str]) -> None:  # noqa: F811
    there, address = hub
    home = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_none", "HF_HOME": str(world.folder / "hf")}
    push = [sys.executable, "-m", "micota", *words(world.folder, "--push", "me/answers")]
    place: dict[str, Any] = {"cwd": world.folder, "env": {**os.environ, **home}, "capture_output": True, "text": True}
    done = subprocess.run(push, check=False, **place)  # a process of its own: the address is read at the import
    assert done.returncode == 0, done.stderr
    assert "pushed: " in done.stdout
    assert there.files["rows.jsonl"] == (world.folder / "made" / "rows.jsonl").read_bytes()
    text = there.files["README.md"].decode()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["task_categories"] == ["text-generation"] and "synthetic" in metadata["tags"]
    assert "8 answers, 1 to each problem" in text
    assert "```text\n10" in text  # the first prompt
    assert "| `finish_reason` |" in text
    assert there.created["visibility"] == "private"
    there.refuses = True
    refused = subprocess.run(push, check=False, **place)
    assert refused.returncode == 2
    assert "cannot be pushed to me/answers" in refused.stderr
    assert "hf_none" not in refused.stderr


def test_the_first_prompt_is_known_also_where_all_answers_were_there(world: World, micota: Said) -> None:
    assert micota(*words(world.folder))[0] == 0
    assert "first_prompt: '10" in micota("show", "rows/answers")[1]
    answer = Completion("a" * 16, 0, "p", "t", "stop", 1, 1, "e")
    with Writer(world.folder / "pool", {"first_prompt": "as it was read"}) as writer:
        writer.write([answer])
    assert Pool(world.folder / "pool").about["first_prompt"] == "as it was read"


def test_a_model_of_the_store_is_named_as_the_recipe_named_it(made: World) -> None:
    from micota.cli.single_recipes import word

    assert (Path(word("small/strong", made.store.root)) / "config.json").is_file()
    assert word("small/nobody", made.store.root) == "small/nobody"
