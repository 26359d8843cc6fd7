"""The names under which a recipe's stages are shown."""

from __future__ import annotations

from conftest import World

from micota.report.made import everything, labels
from micota.specs import Select


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
    assert labels(recipe)[below.digest] == "strong"
