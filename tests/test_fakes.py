"""Invented answers, as of a dry run, never pass for a model's: neither in the store nor in anything that is shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from micota.cli import console
from micota.errors import StageFailed
from micota.export import folder as exports
from micota.generation.fake_server import FakeServer
from micota.machine import EngineConfig, GenerateConfig, MachineProfile, ServerConfig
from micota.recipe import recipe as recipes
from micota.report import files
from micota.report.results import Results
from micota.specs import walk
from micota.store.artifacts import Store
from micota.workspace import Workspace

RECIPE = """
name: dry
defaults: {distil: {prompt: "{problem}", precision: float32, by: exact_match, keep: all, sampling: {max_tokens: 150}}}
let:
  train-set: {problems: {source: "lab:arithmetic", split: train, n: 8}}
  test-set: {problems: {source: "lab:arithmetic", split: test, n: 4}}
  cot: {distil: {from: "lab:student", data: train-set}}
arms: {instruct: "lab:student"}
evaluate: {models: [arms], data: [test-set], prompt: "{problem}", precision: float32, by: exact_match,
           sampling: {max_tokens: 150}}
"""
REAL = MachineProfile(name="real")


def scripted(folder: Path) -> MachineProfile:
    script = folder / "answers.jsonl"
    script.write_text(json.dumps({"problem": "*", "text": "\\boxed{7}"}) + "\n")
    return MachineProfile(name="dry", generate=GenerateConfig(engine="scripted", script=str(script)))


def recipe(folder: Path) -> recipes.Recipe:
    (folder / "dry.yaml").write_text(RECIPE)
    return recipes.load(str(folder / "dry.yaml"), ())


def run(folder: Path, machine: MachineProfile, store: str = "store") -> tuple[Workspace, list[str]]:
    ws = Workspace(folder / store, machine)
    made = recipe(folder)
    _, outcome = ws.run(made, lambda one: [*one.targets, one.named("cot")])
    return ws, outcome.executed


def contents(store: Store, made: recipes.Recipe) -> dict[str, str]:
    specs = [spec for spec in walk(*made.targets, made.named("cot")) if not spec.made_elsewhere]
    return {spec.id: manifest.content for spec in specs if (manifest := store.manifest(spec))}


def test_after_a_dry_run_a_real_one_makes_all_of_it_anew(tmp_path: Path) -> None:
    ws, _ = run(tmp_path, scripted(tmp_path))
    fakes = [one for one in ws.store.all() if one.fake]
    assert {one.kind for one in fakes} == {"generate", "verify", "select"}
    assert all(pool.name.startswith("fake-") for pool in (tmp_path / "store" / "pools").iterdir())
    assert run(tmp_path, scripted(tmp_path))[1] == []
    after, again = run(tmp_path, REAL)
    assert sorted(again) == sorted(one.id for one in fakes)
    assert not [one for one in Store(tmp_path / "store").all() if one.fake]
    clean, _ = run(tmp_path, REAL, "clean")
    assert contents(after.store, recipe(tmp_path)) == contents(clean.store, recipe(tmp_path))
    assert run(tmp_path, scripted(tmp_path))[1] == []  # what is real serves a dry run too


def test_a_fake_server_is_found_out_and_one_elsewhere_can_be_named(tmp_path: Path) -> None:
    with FakeServer(lambda message: "\\boxed{7}", model="small", key="k") as server:
        place = {"engine": "openai", "url": server.url, "served": "small"}
        assert EngineConfig(**place).invents
        assert not EngineConfig(**place, fake=False).invents
    assert not EngineConfig(**place).invents  # nobody is there any more
    assert EngineConfig(**{**place, "url": "https://example.org/v1"}, fake=True).invents
    assert not EngineConfig(engine="scripted", fake=False).invents  # answers of a model, written down
    assert ServerConfig(engine="rehearsed").invents and not GenerateConfig(engine="vllm").invents


def test_answers_of_a_fake_server_are_kept_apart(tmp_path: Path) -> None:
    with FakeServer(lambda message: "\\boxed{7}", model="small") as server:
        ids = GenerateConfig(engine="openai", url=server.url, served="small")
        machine = MachineProfile(
            name="dry", servers={"endpoint:small": ServerConfig(**ids.model_dump(exclude_unset=True))}
        )
        ws = Workspace(tmp_path / "store", machine)
        text = RECIPE.replace("lab:student", "endpoint:small")
        (tmp_path / "dry.yaml").write_text(text)
        ws.run(recipes.load(str(tmp_path / "dry.yaml"), ()))
    assert [one.fake for one in ws.store.all() if one.kind == "generate"] == [["openai"]]
    assert all(pool.name.startswith("fake-") for pool in (tmp_path / "store" / "pools").iterdir())


def test_everything_that_shows_a_fake_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ws, _ = run(tmp_path, scripted(tmp_path))
    results = Results(recipe(tmp_path), ws.store)
    assert results.frame["fake"].all() and results.table()["fake"].all() and "FAKE" in repr(results)
    console.write_report(console.console(), recipe(tmp_path), Store(tmp_path / "store"), lambda here, page: None)
    out = files.folder(recipe(tmp_path), ws.store)
    shown = {path.name: path.read_text() for path in out.rglob("*") if path.suffix in (".html", ".md", ".tex", ".csv")}
    assert len(shown) > 4
    assert not [name for name, text in shown.items() if "fake" not in text]
    exports.export(ws.store, ws.store.find("dry/cot"), "dry/cot", tmp_path / "out", "out", lambda done, total: None)
    assert "**Not real.**" in (tmp_path / "out" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "micota.json").read_text())["fake"] == ["scripted"]


def test_what_is_real_is_not_replaced_by_a_fake(tmp_path: Path) -> None:
    ws, _ = run(tmp_path, REAL)
    real = contents(ws.store, recipe(tmp_path))
    generated = ws.store.manifest(recipe(tmp_path).targets[0].completions)
    shutil.rmtree(tmp_path / "store" / "pools" / generated.pools[0])
    ws = Workspace(tmp_path / "store", scripted(tmp_path))
    ws.store.remove(ws.store.manifest(recipe(tmp_path).targets[0]))
    with pytest.raises(StageFailed, match="invented answers do not replace it"):
        ws.run(recipe(tmp_path))
    kept = contents(Store(tmp_path / "store"), recipe(tmp_path))
    assert kept.items() <= real.items()
