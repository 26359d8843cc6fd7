"""What a recipe makes: the names under which it is shown, its arms, and what they learn from."""

from __future__ import annotations

from conftest import World

from micota.recipe.labels import everything, labels, learnt_from
from micota.report import funnel
from micota.report.model_rows import models
from micota.report.results import Results
from micota.report.roles import procedure_roles, taught
from micota.specs import Select

MORE = "phases: [{style: terse, steps: 3, lr: 1e-3}, {style: long, steps: 2, lr: 1e-3}]"


def test_every_stage_has_the_name_that_its_author_knows(world: World) -> None:
    recipe = world.load()
    found = labels(recipe)
    assert {spec.digest for spec in everything(recipe)} <= found.keys()
    long = recipe.named("long-cot")
    assert isinstance(long, Select)
    assert {found[one.digest] for one in (long, long.completions, long.verdicts)} == {"long-cot"}
    assert found[long.completions.problems.digest] == "train-set"
    one = recipe.evaluations[1].spec
    assert found[one.digest] == "strong on test-set, exact_match"
    assert found[one.completions.digest] == "strong on test-set"
    assert found[one.problems.digest] == "test-set"


def test_a_stage_without_a_name_takes_that_of_what_it_serves(world: World) -> None:
    inline = "arms.strong.train.base={train: {base: student, data: long-cot, seed: 5}}"
    recipe = world.load(inline)
    below = recipe.named("strong").children[0]
    assert labels(recipe)[below.digest] == "./models/student for strong"


def test_an_arm_that_is_pre_trained_is_an_arm_and_its_training_is_shown(world: World) -> None:
    """`strong` learns its data and then a program's documents; `drill`, a word of the user's, only the latter."""
    text = world.recipe_file.read_text()
    strong = "{role: strong, pretrain: {base: {train: {base: student, data: long-cot}}, first: 1, " + MORE + "}}"
    text = text.replace("strong: {train: {base: student, data: long-cot}}", f"strong: {strong}\n  drill: {{pretrain: "
                        "{base: student, " + MORE + "}}")  # fmt: skip
    world.recipe_file.write_text(text)
    recipe = world.load()
    results = Results(recipe, world.store)
    assert [(one.word, one.arm) for one in models(results)] == [
        ("instruct", True), ("strong", True), ("drill", True), ("micota", True)
    ]  # fmt: skip
    assert learnt_from(recipe.named("strong")) == recipe.named("long-cot")
    assert learnt_from(recipe.named("drill")) is None
    assert taught(recipe)[recipe.named("long-cot").digest] == "strong"
    assert procedure_roles(recipe)[recipe.named("teacher").digest] == "teacher"
    rows = {row[0].text: [cell.text for cell in row[1:3]] for row in funnel.trainings(results)[0].rows}
    assert rows["drill"] == ["student", "terse, long"]
    assert rows["ta-long"] == ["ta", "long-cot"]
