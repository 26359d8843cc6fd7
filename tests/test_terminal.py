"""What others wrote is shown with its control characters as escapes, by every command: nothing steers the terminal."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from test_recipe import command
from test_store import finished, spec

import micota
from micota.cli.console import console
from micota.cli.response_rows import show
from micota.store.artifacts import Result, Store

EVIL = "\x1b]0;t\x07\x1b[31mred\x9b31m\u202egnp\rX"
RAW = "\x1b\x07\x9b\u202e\r"
LAB = Path(micota.__file__).parent / "lab" / "models" / "student"


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.CaptureFixture[str]]:
    """Warnings are printed as a command prints them; at the end nothing raw was printed, and something as escapes."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        yield capsys


def shown(said: pytest.CaptureFixture[str]) -> str:
    out, err = said.readouterr()
    assert not set(RAW) & set(out + err), out + err
    assert "\\x1b" in out + err, out + err
    return out + err


def lines(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_store(tmp_path: Path, said: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    work = store.recover(spec(1))
    (work / "out" / "rows.jsonl").write_text("x\n")
    store.finish(spec(1), Result({"count": {EVIL: 3}}), {"host": EVIL})
    finished(store, spec(2), "two\n")
    manifest = tmp_path / "artifacts" / spec(2).id / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), EVIL: 1}))  # "a newer micota"
    left = tmp_path / "making" / spec(3).id
    left.mkdir(parents=True)
    (left / "task.json").write_text(json.dumps({"name": EVIL}))
    (left / "error.txt").write_text(EVIL)
    (left / "progress.json").write_text(
        json.dumps({"done": 1, "total": 2, "unit": EVIL, "note": EVIL, "at": 1, "began": {"at": 0, "done": 0}})
    )
    (tmp_path / "claims").mkdir(exist_ok=True)
    (tmp_path / "claims" / ".lock").touch()
    (tmp_path / "claims" / f"{spec(3).id}.json").write_text(json.dumps({"host": EVIL, "pid": EVIL}))
    for words in (["du"], ["status"], ["gc"], ["show", spec(1).id], ["show", "no"], ["verify"], ["forget", spec(1).id]):
        command(monkeypatch, *words, "--store", str(tmp_path))
        if words[0] not in ("forget", "gc"):
            shown(said)
        else:
            assert not set(RAW) & set("".join(said.readouterr()))


def test_a_file_that_is_graded_and_compared(
    tmp_path: Path, said: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"response": rf"\boxed{{{EVIL}{i}}}", "gold": EVIL, "kind": EVIL, "problem": f"{EVIL}{i}"} for i in range(4)
    ]
    out = str(tmp_path / "out.jsonl")
    assert command(monkeypatch, "grade", lines(tmp_path / "rows.jsonl", *rows), "--out", out, "--by", "kind") == 0
    shown(said)
    assert command(monkeypatch, "grade", lines(tmp_path / "bad.jsonl", {EVIL: 1}), "--out", out, "--by", "x") == 2
    shown(said)
    sides = [
        [{"arm": EVIL, "benchmark": EVIL, "problem": f"{EVIL}{i}", "level": EVIL, "verdict": i > n} for i in range(6)]
        for n in (1, 4)
    ]
    files = [lines(tmp_path / f"{name}.jsonl", *side) for name, side in zip("ab", sides, strict=True)]
    assert command(monkeypatch, "compare", *files) == 0
    shown(said)
    bad = lines(tmp_path / "c.jsonl", {"problem": EVIL, "verdict": EVIL})
    assert command(monkeypatch, "compare", files[0], bad) == 2
    shown(said)


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "config.json", "generation_config.json", "tokenizer_config.json"]
)
def test_a_model_folder(
    name: str, tmp_path: Path, said: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(LAB, tmp_path / "model"))
    if name.endswith(".jinja"):
        (folder / name).write_text("{{ raise_exception(" + json.dumps(EVIL) + ") }}")
    else:
        key = {"config.json": "model_type", "tokenizer_config.json": "eos_token"}.get(name, "stop_strings")
        (folder / name).write_text(json.dumps({**json.loads((folder / name).read_text()), key: EVIL}))
    command(monkeypatch, "check", "--model", str(folder))
    assert not set(RAW) & set("".join(said.readouterr()))
    (tmp_path / "m.yml").write_text(json.dumps({"merge_method": "linear", "models": [{"model": EVIL}]}))
    assert command(monkeypatch, "merge", str(tmp_path / "m.yml"), str(tmp_path / "out")) == 2
    shown(said)


def test_responses(said: pytest.CaptureFixture[str]) -> None:
    names = ("model", "benchmark", "verdict", "scorer", "problem", "problem_text", "gold", "answer", "response")
    row = dict.fromkeys(names, EVIL) | {"tokens": 3, "sample": 0, "truncated": True, "repetitive": False}
    show(console(), pd.DataFrame([{**row, "fake": False}]), 1)
    shown(said)
