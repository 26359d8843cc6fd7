"""Recipes: what they mean, and that every mistake in one ends with one message and nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import RECIPE, World

from micota import yaml_tree
from micota.cli import main as cli
from micota.errors import MicotaError
from micota.recipe import recipe as recipes
from micota.run.plan import survey
from micota.specs import Train, walk
from micota.store.artifacts import Store
from micota.store.checked import StoreWarning

WRONG = yaml.safe_load((Path(__file__).parent / "data" / "wrong_recipes.yaml").read_text())


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a command of micota as its script does; the exit code."""
    monkeypatch.setattr("sys.argv", ["micota", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case["says"][0][:40])
def test_a_wrong_recipe_ends_with_one_message_and_nothing_written(
    case: dict[str, Any], world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = case["change"]
    assert old in RECIPE
    world.recipe_file.write_text(RECIPE.replace(old, new, 1))
    (world.folder / "empty").mkdir()
    (world.folder / "weightless").mkdir()
    for name in ("config.json", "tokenizer_config.json"):
        (world.folder / "weightless" / name).write_text("{}")
    before = sorted(path.name for path in world.folder.iterdir())
    code = command(monkeypatch, "run", str(world.recipe_file), "--store", str(world.folder / "store"))
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("error: ")
    assert [part for part in case["says"] if part not in said] == [], said
    assert "Traceback" not in said
    assert sorted(path.name for path in world.folder.iterdir()) == before


def test_a_missing_recipe_or_machine_names_what_there_is(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "plan", "lab-minni") == 2
    assert "did you mean 'lab-mini'" in capsys.readouterr().err
    assert command(monkeypatch, "run", str(world.recipe_file), "--machine", "laptob") == 2
    assert "did you mean 'laptop'?" in capsys.readouterr().err


def test_set_overrides_a_value_and_refuses_a_place_that_is_not_there(world: World) -> None:
    changed = world.load("let.ta-long.train.lr=2e-5").named("ta-long")
    assert isinstance(changed, Train)
    assert changed.lr == 2e-5
    with pytest.raises(MicotaError, match="has no 'ta-lung'"):
        world.load("let.ta-lung.train.lr=2e-5")
    with pytest.raises(MicotaError, match="unknown key 'lrr'"):
        world.load("let.ta-long.train.lrr=2e-5")


def test_yaml_is_read_by_the_rules_of_version_1_2() -> None:
    text = "on: 1e-5\nyes: off\nno: 0o17\nnull: ~\n1: 012\nquoted: '1e-5'\nlist: [1_000, .5, -.inf, 0x1F, True]\n"
    assert yaml_tree.read(text, "t").value == {
        "on": 1e-5,
        "yes": "off",
        "no": 15,
        "null": None,
        "1": 12,
        "quoted": "1e-5",
        "list": ["1_000", 0.5, float("-inf"), 31, True],
    }


def matrix(*values: str) -> str:
    head = f"for: {{student: [./models/student, ./models/ta], seed: [{', '.join(values)}]}}\narms:"
    text = RECIPE.replace("arms:", head, 1).replace("instruct: student", "instruct: $student")
    return text.replace("base: student", "base: $student, seed: $seed")


def test_a_matrix_makes_what_mentions_no_variable_once(world: World) -> None:
    world.recipe_file.write_text(matrix("0", "1", "2"))
    recipe = world.load()
    assert "strong[seed=2,student=./models/ta]" in recipe.names
    assert "ta-long" in recipe.names
    trainings = [spec for spec in walk(*recipe.targets) if isinstance(spec, Train)]
    assert len(trainings) == 2 * 2 * 3  # two arms, two students, three seeds; the assistant's is one of them
    assert recipe.named("ta-long").digest == recipe.named("strong[seed=0,student=./models/ta]").digest
    assert len([one for one in recipe.evaluations if one.role == "instruct"]) == 2  # no seed in it
    assert len({one.spec.digest for one in recipe.evaluations}) == len(recipe.evaluations) == 2 + 12


def test_a_variable_that_nothing_mentions_is_told(world: World) -> None:
    """Not one that chooses among a field's values."""
    world.recipe_file.write_text(matrix("0", "1").replace("seed: [", "sead: [1], seed: ["))
    with pytest.warns(StoreWarning, match="nothing mentions the variable 'sead' .*line"):
        world.load()
    head = "for: {size: [S, L], student: [{name: s, seed: {S: 1, L: 2}}]}\narms:"
    text = RECIPE.replace("arms:", head, 1).replace("base: student", "base: student, seed: $student.seed")
    world.recipe_file.write_text(text)
    world.load()


def test_a_large_matrix_is_planned(world: World) -> None:
    world.recipe_file.write_text(matrix(*map(str, range(90))))
    states = survey(Store(world.folder / "store"), world.load().targets)
    assert len(states) >= 1_000 and {state.word for state in states} == {"done", "new"}


def test_names_relative_to_the_recipe_and_the_printed_name_change_no_digest(world: World, tmp_path: Path) -> None:
    digest = world.load().named("micota").digest
    world.recipe_file.write_text(RECIPE.replace("ta-mid", "middle").replace("name: small", "name: tall"))
    assert world.load().named("micota").digest == digest
    renamed = RECIPE.replace(
        "strong: {train: {base: student, data: long-cot}}",
        "strong: {name: Long, train: {base: student, data: long-cot}}",
    )
    world.recipe_file.write_text(renamed)
    recipe = world.load()
    assert recipe.titles["strong"] == "Long" and set(recipe.titles.values()) == {"Long", ""}
    assert recipe.named("micota").digest == digest


def test_hub_ids_without_a_lock_are_unresolved_and_with_one_are_pinned(world: World) -> None:
    world.recipe_file.write_text(RECIPE.replace("./models/teacher", "some/teacher"))
    states = survey(world.store, world.load().targets)
    assert [state.note for state in states if state.word == "unresolved"] == ["some/teacher"]
    (world.folder / "recipe.lock").write_text('{"model:some/teacher": "abc"}')
    assert not [s for s in survey(world.store, world.load().targets) if s.word == "unresolved"]


@pytest.mark.parametrize("name", recipes.shipped())
def test_every_shipped_recipe_plans_offline(name: str, tmp_path: Path) -> None:
    recipe = recipes.load(name)
    assert survey(Store(tmp_path / "store"), recipe.targets)
    assert not (tmp_path / "store").exists()


def test_a_hub_id_is_resolved_only_if_a_target_needs_it(world: World) -> None:
    world.recipe_file.write_text(RECIPE.replace("data: [test-set]", "data: [test-set, aime24]"))
    recipe = world.load()
    unchanged = recipe.resolved([recipe.named("long-cot")], recipe.lock)
    assert unchanged is recipe  # nothing was asked: no network is there in the tests
    recipe.lock.revisions["dataset:HuggingFaceH4/aime_2024"] = "abc"
    again = recipes.load(str(world.recipe_file), (), recipe.lock)
    assert not [spec for spec in walk(*again.targets) if spec.kind == "source" and spec.revision is None]  # type: ignore[attr-defined]


def test_defaults_may_mention_variables_and_what_takes_them_depends_on_them(world: World) -> None:
    text = RECIPE.replace("name: small", "name: small\nfor: {seed: [1, 2]}")
    text = text.replace("train: {precision: float32,", "train: {seed: $seed, precision: float32,")
    world.recipe_file.write_text(text)
    names = world.load().names
    assert names["ta-long[seed=1]"].digest != names["ta-long[seed=2]"].digest
    assert {"long-cot", "strong[seed=1]", "micota[seed=2]"} <= set(names)
    evaluated = {(one.role, one.data_word, one.variables.get("seed")) for one in world.load().evaluations}
    assert {("instruct", "test-set", None), ("micota", "test-set", 2)} <= evaluated
