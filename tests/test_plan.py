"""The plan: states, reasons, and the one dynamic rule."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import pytest
from conftest import Quiet, World, kinds
from pydantic import Field

from micota.cli import main as cli
from micota.run.execution import Run
from micota.run.missing import look_ahead
from micota.run.plan import survey, why
from micota.specs import Choice, Merge, Select, Spec, Verify


def words(world: World, *sets: str, only: str | None = None) -> dict[str, str]:
    """The state of each spec by kind and digest."""
    recipe = world.load(*sets)
    targets = [recipe.named(only)] if only else recipe.targets
    return {f"{s.spec.kind}-{s.spec.digest}": s.word for s in survey(world.fresh(), targets)}


def test_states_are_new_partial_done_and_pruned(world: World) -> None:
    assert set(words(world).values()) == {"done", "new"}  # sources are there
    world.run()
    assert set(words(world).values()) == {"done"}
    shutil.rmtree(world.files("ta-mid"))
    pruned = [name for name, word in words(world).items() if word == "pruned"]
    assert [name.partition("-")[0] for name in pruned] == ["merge"]
    world.problems("train.jsonl", range(12))
    states = words(world, only="long-cot")
    assert sorted(word for word in states.values() if word != "done") == ["new"] * 4
    world.run(only="train-set")
    partial = [name for name, word in words(world, only="long-cot").items() if word == "partial"]
    assert [name.partition("-")[0] for name in partial] == ["generate"]


def test_what_is_gone_and_nothing_needs_is_said_to_be_not_needed(world: World) -> None:
    world.run()
    store = world.fresh()
    gone = store.manifest(world.load().named("ta-long"))
    assert gone is not None
    store.remove(gone)
    said = words(world)
    assert [name.partition("-")[0] for name, word in said.items() if word != "done"] == ["train"]
    assert set(said.values()) == {"done", "not needed"}
    assert "new" in words(world, "let.ta-mid.merge.weight=0.6").values()
    assert world.run().executed == []


def test_why_names_the_field_or_input_that_differs(world: World) -> None:
    world.run()
    changed = world.load("let.ta-long.train.lr=2e-3", "defaults.distil.keep=correct")
    assert why(world.fresh(), changed.named("ta-long"))[1:] == ["  lr: this recipe: 0.002; existing artifact: 0.001"]
    below = world.load("let.long-cot.distil.max_tokens=9").named("ta-mid")
    assert "  models.0.data.max_tokens: this recipe: 9; existing artifact: default" in why(world.fresh(), below)
    student = world.load("let.ta-mid.merge.weight=0.6").named("micota")
    assert why(world.fresh(), student)[1:] == [
        "  data.completions.model.weights.0: this recipe: 0.6; existing artifact: 0.5"
    ]
    assert why(world.fresh(), world.load().named("ta-mid")) == [
        f"merge-{world.load().named('ta-mid').digest} is finished"
    ]


def test_what_is_missing_is_what_a_run_then_makes_or_links_and_looking_writes_nothing(world: World) -> None:
    for sets in ([], ["let.ta-mid.merge.weight=0.6"], []):
        targets = world.load(*sets).targets
        before = sorted(world.store.root.rglob("*"))
        missing = {spec.id for spec in look_ahead(world.fresh(), targets).missing.values()}
        assert sorted(world.store.root.rglob("*")) == before
        outcome = world.run(*sets)
        assert missing == {*outcome.executed, *outcome.linked}
    shutil.rmtree(world.files("ta-mid"))
    assert not look_ahead(world.fresh(), world.load().targets).missing  # pruned, and nothing unfinished reads it


class Shortest(Spec):
    """A search: grade two candidates, then, with their lengths known, take the shorter one."""

    kind: ClassVar[str] = "shortest"
    first: Annotated[tuple[Verify, ...], Field(strict=False)]
    second: Annotated[tuple[Verify, ...], Field(strict=False)]

    def next(self, results: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...] | Choice | None:
        for wanted in (self.first, self.second):
            if not all(spec.digest in results for spec in wanted):
                return wanted
        best = min((*self.first, *self.second), key=lambda spec: (results[spec.digest]["mean_tokens"], spec.digest))
        return Choice(best, "the shortest of all", {"tried": len(results)})


def test_a_dynamic_spec_is_asked_again_after_each_round_and_named_before_it_has_run(world: World) -> None:
    recipe = world.load()
    graded = [one.spec for one in recipe.evaluations]
    search = Shortest(first=(graded[0],), second=(graded[1],))
    named_before = search.digest
    outcome = Run(world.fresh(), world.machine, Quiet()).go([search])
    assert search.digest == named_before
    manifest = world.store.manifest(search)
    assert manifest is not None
    assert manifest.facts["tried"] == 2
    assert manifest.same_as is not None
    assert manifest.same_as.startswith("verify-")
    assert "train" in kinds(outcome)  # the second round was made
    assert Run(world.fresh(), world.machine, Quiet()).go([search]).executed == []


def test_only_the_first_round_is_made_while_its_results_are_missing(world: World) -> None:
    graded = [one.spec for one in world.load().evaluations]
    search = Shortest(first=(graded[0],), second=(graded[1],))
    asked = search.next({})
    assert asked == (graded[0],)


def test_show_prints_a_manifest_by_any_of_its_names(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    recipe = world.load()
    for name, spec in recipe.names.items():
        world.store.name(recipe.name, name, spec)
    merged = recipe.named("ta-mid")
    assert isinstance(merged, Merge)
    for name in ("ta-mid", "small/ta-mid", f"merge-{merged.digest}"):
        monkeypatch.setattr("sys.argv", ["micota", "show", name, "--store", str(world.store.root)])
        with pytest.raises(SystemExit):
            cli.main()
        said = capsys.readouterr().out
        assert f"merge-{merged.digest}" in said
        assert "dare_ties" in said


def test_nothing_secret_of_a_launcher_reaches_a_manifest(world: World) -> None:
    from micota.machine import StageConfig

    select = StageConfig(prefix="env HF_TOKEN=hf_secret123 WANDB_API_KEY=abc")
    world.run(only="long-cot", machine=world.machine.model_copy(update={"select": select}))
    spec = world.load().named("long-cot")
    assert isinstance(spec, Select)
    manifest = world.store.manifest(spec)
    assert manifest is not None
    assert manifest.provenance["launcher"] == "env"
    for path in world.store.root.rglob("*"):
        assert not path.is_file() or b"hf_secret123" not in path.read_bytes(), path
