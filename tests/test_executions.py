"""What a run executes, counted: nothing twice, nothing that nobody needs."""

from __future__ import annotations

import shutil

import pytest
from conftest import World, kinds, problem, script

from micota.run.execution import Outcome
from micota.specs import Verify

# All models give the scripted answers, so what is made of equal answers is linked and not made twice.
MADE = ["generate"] * 4 + ["merge"] + ["problems"] * 2 + ["select"] + ["train"] * 2 + ["verify"] * 2


def linked(outcome: Outcome) -> list[str]:
    return sorted(name.partition("-")[0] for name in outcome.linked)


def test_a_second_run_executes_nothing(world: World) -> None:
    assert kinds(world.run()) == MADE
    again = world.run()
    assert (again.executed, again.linked) == ([], [])


def test_one_knob_reruns_only_its_descendants(world: World) -> None:
    world.run()
    changed = world.run("let.ta-mid.merge.weight=0.6")
    assert kinds(changed) == ["generate", "merge"]  # other weights, the same answers: nothing is learnt again
    assert linked(changed) == ["generate", "select", "train", "verify", "verify"]


def test_a_knob_of_one_arm_leaves_the_others_alone(world: World) -> None:
    world.run()
    assert kinds(world.run("arms.strong.train.seed=7")) == ["generate", "train"]


def test_a_bumped_grader_that_keeps_the_same_rows_retrains_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run()
    monkeypatch.setattr(Verify, "VERSION", Verify.VERSION + 1)
    again = world.run()
    assert kinds(again) == ["verify"] * 2
    assert linked(again).count("train") == 3


def test_more_samples_generate_only_the_new_ones(world: World) -> None:
    warm = ["defaults.distil.sampling={max_tokens: 12, temperature: 1.0}"]
    world.run(*warm, only="long-cot")
    world.run(*warm, "let.long-cot.distil.n=2", only="long-cot")
    facts = world.store.manifest(_answers(world, *warm, "let.long-cot.distil.n=2"))
    assert facts is not None
    assert (facts.facts["generated"], facts.facts["reused"]) == (8, 8)


def test_more_prompts_generate_only_those(world: World) -> None:
    world.run(only="long-cot")
    world.problems("train.jsonl", range(18))
    world.run(only="long-cot")
    facts = world.store.manifest(_answers(world))
    assert facts is not None
    assert (facts.facts["generated"], facts.facts["reused"]) == (10, 8)


def test_deleting_the_assistant_reruns_nothing(world: World) -> None:
    world.run()
    shutil.rmtree(world.files("ta-long"))
    shutil.rmtree(world.files("ta-mid"))
    assert world.run().executed == []


def test_a_new_reader_of_a_deleted_model_makes_it_again(world: World) -> None:
    world.run()
    shutil.rmtree(world.files("ta-long"))
    again = world.run("evaluate.models=[arms, ta-long]")
    assert "train" in kinds(again)
    assert kinds(again).count("train") == 1


def test_another_recipe_with_the_same_teacher_generates_nothing(world: World) -> None:
    world.run()
    other = world.recipe_file.read_text().replace("name: small", "name: other").replace("keep", "keep")
    world.write("other.yaml", other.replace("let:\n", "let:\n  unused: ./models/ta\n"))
    assert world.run(name="other.yaml").executed == []
    assert kinds(world.run("let.long-cot.distil.max_tokens=300", only="long-cot", name="other.yaml")) == ["select"]


def test_only_what_the_target_needs_is_made(world: World) -> None:
    assert kinds(world.run(only="long-cot")) == ["generate", "problems", "select", "verify"]


def test_a_copy_of_a_model_elsewhere_is_the_same_model(world: World) -> None:
    world.run(only="long-cot")
    shutil.copytree(world.folder / "models" / "teacher", world.folder / "copy")
    assert world.run("let.teacher=./copy", only="long-cot").executed == []


def test_a_changed_file_is_another_problem_set(world: World) -> None:
    world.run(only="long-cot")
    world.problems("train.jsonl", range(1, 9))
    assert kinds(world.run(only="long-cot")) == ["generate", "problems", "select", "verify"]


def test_failed_stages_do_not_hold_up_the_rest_and_are_tried_again(world: World) -> None:
    from micota.errors import StageFailed

    (world.folder / "answers.jsonl").write_text(script(map(problem, range(20))))  # none for the test set
    with pytest.raises(StageFailed, match="the script has no answer"):
        world.run()
    assert world.files("strong").is_dir()
    (world.folder / "answers.jsonl").write_text(script(map(problem, range(1000))))
    assert kinds(world.run()) == ["generate"] * 2 + ["verify"]


def _answers(world: World, *sets: str):  # type: ignore[no-untyped-def]
    return world.load(*sets).named("long-cot").completions  # type: ignore[attr-defined]
