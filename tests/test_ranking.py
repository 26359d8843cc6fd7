"""What is known of data before a student is trained on it: the stages, their table, and a dial that asks a student."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from conftest import RECIPE, World, kinds
from rich.console import Console
from test_dial import DIAL, MERGE
from typer.testing import CliRunner

import micota as mc
from micota.chat import example
from micota.checks.recipes import share_rows
from micota.cli.main import app
from micota.cli.ranking_table import judge
from micota.errors import MicotaError
from micota.specs import Bpc, Choice, LengthDial, Problems, SftData, Source, Train, Verify, to_json
from micota.specs.tree import from_json
from micota.stages import bpc
from micota.workspace.ranking import candidates, shortened

MORE = (
    "\n  dev-set: {problems: {source: ./dev.jsonl}}\narms:\n  again: {train: {base: student, data: mid-cot, lr: 1e-4}}"
)
LEARNER = "rank: {student: student, precision: float32}, of: ta-long"


@pytest.fixture
def ranked(world: World) -> World:
    world.recipe_file.write_text(RECIPE.replace("\narms:", MORE).replace("max_steps: 2", "max_steps: 11"))
    world.problems("dev.jsonl", range(20, 25))
    return world


def workspace(world: World, store: str = "store") -> mc.Workspace:
    return mc.Workspace(world.folder / store, machine=world.machine)


def test_every_pair_is_measured_once_and_a_second_time_nothing_runs(ranked: World) -> None:
    ws, recipe = workspace(ranked), ranked.load()
    found = ws.rank(recipe, probe="dev-set", held_out=2)
    frame = found.frame.set_index("data")
    assert sorted(frame.index) == ["long-cot", "mid-cot"], "two arms learn from mid-cot"
    assert set(frame["student"]) == {"student"}
    assert frame.drop(columns="student").notna().all(axis=None)
    assert list(found.frame["rsr"]) == sorted(frame["rsr"])
    answers = ws.artifact("small-rank/answers:strong").facts["verdicts"]
    assert frame.loc["long-cot", "trial_accuracy"] == answers.get("correct", 0) / 5
    before = found.candidates["strong"].stages["before"]
    assert isinstance(before, Verify) and before.completions.model == recipe.arms["strong"].base
    assert set(frame["untrained"]) == {ws.artifact(before).facts["verdicts"].get("correct", 0) / 5}
    assert list(found.sorted("tokens")["tokens"]) == sorted(frame["tokens"])
    trial = ws.artifact("small-rank/trial:strong").facts
    assert (trial["steps"], trial["examples"]) == (2, 6)
    assert frame.loc["long-cot", "trial_loss"] == trial["held_out_loss"][-1][1]
    measured = ws.artifact("small-rank/measured:strong").facts
    assert frame.loc["long-cot", "tokens"] == measured["tokens"] / measured["rows"]
    assert found.costs["trial"] == pytest.approx(2 / 11)
    assert 0 < found.costs["measured"] < 1
    assert ws.run(found.recipe, lambda one: [*one.names.values()])[1].executed == []
    map_ = found.judged(ws.evaluate(recipe)).set_index("data")
    verdicts = ws.artifact(recipe.evaluations[-1].spec).facts
    assert map_.loc["mid-cot", "accuracy"] == verdicts["verdicts"].get("correct", 0) / verdicts["rows"]
    assert map_["rsr"].to_dict() == frame["rsr"].to_dict()


def test_where_trainings_were_made_the_command_says_what_each_measure_was_worth() -> None:
    index = pd.MultiIndex.from_product([["a", "b"], range(4), list("xyz")], names=["student", "seed", "data"])
    frame = pd.DataFrame({"accuracy": [0.2, 0.5, 0.8] * 8, "tokens": [1, 2, 3] * 8, "bpc": [3, 2, 1] * 8}, index)
    console = Console(width=200, record=True)
    judge(console, frame.reset_index())
    shown = console.export_text()
    assert re.search(r"bits/char +1.00 +1.00 to 1.00 +0.0 .* 30.0 ", shown)
    assert re.search(r"tokens +-1.00 +-1.00 to -1.00 +60.0 .* -30.0 ", shown)
    assert "chosen on half of the seeds: bits/char; on the other half its regret is 0.0" in shown
    judge(console, frame.reset_index().iloc[:0])
    assert console.export_text() == "", "nothing was trained"


def test_without_make_nothing_is_made_and_the_command_shows_the_plan(ranked: World) -> None:
    ws = workspace(ranked, "empty")
    found = ws.rank(ranked.load(), trials=False, make=False)
    assert found.frame.drop(columns=["student", "data"]).isna().all(axis=None)
    assert not (ranked.folder / "empty" / "artifacts").exists()
    assert all(isinstance(spec, Bpc) for spec in found.recipe.names.values())
    assert found.judged(ws.results(ranked.load())).empty, "nothing is trained yet"
    words = ["rank", str(ranked.recipe_file), "--plan", "--store", str(ranked.folder / "empty"), "--no-trials"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0
    assert "measured:strong" in shown.output


def test_a_student_and_data_sets_from_python(world: World) -> None:
    models, rows = world.folder / "models", world.write("rows.jsonl", "")
    rows.write_text("".join(f'{{"prompt": "{i}+1", "response": "{i}+1={i + 1};"}}\n' for i in range(100, 106)))
    data = {"mine": mc.rows(rows)}
    found = workspace(world).rank(models / "student", data, held_out=2, max_steps=10, precision="float32", batch=2)
    row = found.frame.iloc[0]
    assert row["data"] == "mine"
    assert row["tokens"] > 0
    assert row[["trial_accuracy", "gradient"]].isna().all(), "no probe, and nothing beside it"
    with pytest.raises(MicotaError, match="a mapping of names to training data"):
        workspace(world).rank(models / "student")
    with pytest.raises(MicotaError, match="a recipe has its own data"):
        workspace(world).rank(world.load(), data)


def test_what_cannot_be_ranked_is_refused(ranked: World) -> None:
    with pytest.raises(MicotaError, match="the arms are evaluated on"):
        workspace(ranked).rank(ranked.load(), probe="test-set")
    ranked.recipe_file.write_text(ranked.recipe_file.read_text().replace(MERGE, DIAL.replace("train-set", "test-set")))
    with pytest.raises(MicotaError, match="the arms are evaluated on"):
        workspace(ranked).rank(ranked.load(), make=False)
    with pytest.raises(MicotaError, match="the arms are trained on"):
        workspace(ranked).rank(ranked.load(), probe="train-set", make=False)
    with pytest.raises(MicotaError, match=r"unknown problem set 'dev-sets'[^$]*'dev-set'"):
        workspace(ranked).rank(ranked.load(), probe="dev-sets", make=False)
    with pytest.raises(MicotaError, match="no arm that is a `train`"):
        workspace(ranked).rank(mc.Recipe({"student": ranked.folder / "models" / "student"}))


def test_a_seed_tells_apart_only_problems_that_a_program_writes() -> None:
    def of(ref: str, seed: int) -> Problems:
        return Problems(source=Source(ref=ref, revision="1"), split="test", seed=seed, n=5)

    assert share_rows(of("a/b", 0), of("a/b", 1))
    assert not share_rows(of("lab:arithmetic", 0), of("lab:arithmetic", 1))


def test_gradients_are_compared_under_one_system_message(ranked: World) -> None:
    spec = ranked.load().named("strong")
    assert isinstance(spec, Train)
    one, other = (SftData(source=Source(ref="a/b", revision="1"), system=system) for system in ("x", "y"))
    assert Bpc(model=spec.base, data=one, gradient=one).gradient == one
    with pytest.raises(ValueError, match="several system messages"):
        Bpc(model=spec.base, data=one, gradient=other)
    recipe = mc.Recipe({str(data.system): spec.changed(data=data, system=data.system) for data in (one, other)})
    measured = [found.stages["measured"] for found in candidates(recipe, None, None, {}).values()]
    assert [getattr(found, "gradient", 0) for found in measured] == [None, None]


def test_rows_are_measured_under_the_system_message_of_their_training(
    ranked: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ranked.load()
    spec = recipe.named("strong")
    assert isinstance(spec, Train)
    asked = mc.Recipe({"strong": spec.changed(system="Count.")})
    (found,) = candidates(asked, None, None, {}).values()
    measured = found.stages["measured"]
    assert isinstance(measured, Bpc)
    assert measured.system == "Count."
    said = list[str | None]()
    monkeypatch.setattr(bpc, "example", lambda *words, **more: said.append(words[3]) or example(*words, **more))
    workspace(ranked).make(measured)
    assert set(said) == {"Count."}
    elsewhere = SftData(source=Source(ref="a/b", revision="1"), system="x")
    with pytest.raises(ValueError, match="several system messages"):
        Bpc(model=spec.base, data=elsewhere, system="y")


@pytest.mark.parametrize(
    ("full", "short"),
    [
        ({"epochs": 2.0}, {"epochs": 0.2}),
        ({"max_steps": 48}, {"max_steps": 5}),
        ({"target_tokens": 320_000}, {"target_tokens": 32_000}),
    ],
)
def test_a_trial_is_a_tenth_of_the_training(ranked: World, full: dict[str, float], short: dict[str, float]) -> None:
    spec = ranked.load().named("strong")
    assert isinstance(spec, Train)
    trial = shortened(spec.changed(**{"max_steps": None, **full}), 3)
    assert {name: getattr(trial, name) for name in short} == short
    assert (trial.held_out, trial.data, trial.lr) == (3, spec.data, spec.lr)
    assert shortened(spec.changed(held_out=7), 3).held_out == 7


@pytest.fixture
def asking(world: World) -> World:
    world.recipe_file.write_text(RECIPE.replace(MERGE, DIAL.replace("length: 0.5, of: ta-long", LEARNER)))
    return world


def dial(world: World, *sets: str) -> LengthDial:
    spec = world.load(*sets).named("ta-mid")
    assert isinstance(spec, LengthDial)
    return spec


def tried(weight: float, share: float, accuracy: float) -> dict[str, float]:
    row = {"weight": weight, "density": 0.7, "lambda": 1.0, "share": share, "tokens": 200 * share}
    return {**row, "accuracy": accuracy, "loss": 0.9 - accuracy}


def test_a_dial_takes_what_its_student_prefers_of_what_loses_little(asking: World) -> None:
    spec = dial(asking)
    rows = [tried(0.2, 0.3, 0.9), tried(0.5, 0.5, 0.89), tried(0.8, 0.8, 0.4)]
    reference = {"tokens": 200.0, "accuracy": 0.9}
    results = {spec.search.digest: {"dial": rows, "reference": reference, "target": None}}
    asked = spec.next(results)
    assert isinstance(asked, tuple)
    assert [one.kind for one in asked] == ["bpc", "bpc"], "the third loses too much"
    assert asked == spec.next(results | {asked[0].digest: {"rank_surprisal_ratio": 1.0}})
    values = ({"rank_surprisal_ratio": 3.0}, {"rank_surprisal_ratio": 2.0})
    chosen = spec.next(results | {one.digest: facts for one, facts in zip(asked, values, strict=True)})
    assert isinstance(chosen, Choice)
    assert chosen.facts["chosen"]["weight"] == 0.5
    assert (chosen.facts["target"], chosen.facts["fallback"]) == (0.5, False)
    assert [row.get("measure") for row in chosen.facts["dial"]] == [None, 3.0, 2.0]
    assert spec.warning(chosen.facts) is None
    assert from_json(to_json(spec)) == spec


def test_local_log_probability_is_preferred_high(asking: World) -> None:
    spec = dial(asking, "let.ta-mid.dial.target.rank.by=local", "let.ta-mid.dial.target.rank.local=2")
    assert spec.target.rank is not None
    assert spec.target.rank.value({"local_log_probability": -0.5}) < spec.target.rank.value(
        {"local_log_probability": -0.6}
    )
    assert spec.target.rank.value({"local_log_probability": -0.5}) == 0.5


def test_a_run_measures_the_answers_of_the_search_and_asks_nothing_again(asking: World) -> None:
    outcome = asking.run("let.ta-mid.dial.max_loss=1", "let.ta-mid.dial.fallback=nearest")
    ran = kinds(outcome)
    assert (ran.count("search"), ran.count("merge"), ran.count("bpc")) == (1, 1, 1)
    assert ran.count("candidate") == 3, "whose equal answers are measured once"
    spec = dial(asking, "let.ta-mid.dial.max_loss=1", "let.ta-mid.dial.fallback=nearest")
    manifest = asking.store.manifest(spec)
    assert manifest is not None
    rows = manifest.facts["dial"]
    assert all(row["round"] == 0 for row in rows), "no round of refinement"
    assert manifest.facts["chosen"]["weight"] == min(rows, key=lambda row: (row["measure"], row["weight"]))["weight"]
    assert asking.run("let.ta-mid.dial.max_loss=1", "let.ta-mid.dial.fallback=nearest").executed == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("target={rank: {student: student}, length: 0.5, of: ta-long}", "or as `rank`"),
        ("target={rank: {student: student, by: local}, of: ta-long}", "local: 3"),
        ("target={rank: {student: student, by: beyond}, of: ta-long}", "context: 4096"),
        ("target={rank: {student: student, by: loss}, of: ta-long}", "'rsr', 'local', 'bpc'"),
        ("target={rank: {student: long-cot}, of: ta-long}", "a model is expected here"),
        ("target={rank: {student: student}}", "lacks 'of'"),
    ],
)
def test_what_a_student_cannot_be_asked_is_refused(asking: World, change: str, message: str) -> None:
    with pytest.raises(MicotaError, match=message):
        dial(asking, f"let.ta-mid.dial.{change}")


def test_python_and_the_recipe_say_the_same(asking: World, tmp_path: Path) -> None:
    spec = dial(asking)
    student, of = spec.target.rank.student, spec.target.of  # type: ignore[union-attr]
    assert mc.rank(student, of=of, precision="float32") == spec.target
    saved = asking.load().save(tmp_path / "saved.yaml")
    assert mc.load(saved).named("micota").digest == asking.load().named("micota").digest
