"""The dial: its candidates, its rule of choice, and that a search repeats nothing."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import RECIPE, Quiet, World, kinds

from micota.errors import MicotaError, StageFailed
from micota.execution import Run
from micota.plan import heights
from micota.report.made import labels
from micota.specs import Choice, Dial, Merge, Verify

MERGE = "{merge: {base: ta, models: [ta-long], method: dare_ties, density: 0.7, weight: 0.5, rescale: inverse_density}}"
DIAL = """{dial: {base: ta, models: [ta-long], method: dare_ties, density: 0.7, rescale: inverse_density,
    weight: [0.2, 0.8], steps: 3, target: {length: 0.5, of: ta-long}, max_loss: 0.02, probe: {data: train-set, n: 4,
    prompt: "{problem}", precision: float32, by: exact_match, sampling: {max_tokens: 12}}}}"""


@pytest.fixture
def dialled(world: World) -> World:
    world.recipe_file.write_text(RECIPE.replace(MERGE, DIAL))
    return world


def dial(world: World, *sets: str) -> Dial:
    spec = world.load(*sets).named("ta-mid")
    assert isinstance(spec, Dial)
    return spec


def facts(tokens: float, correct: int) -> dict[str, Any]:
    return {"mean_tokens": tokens, "rows": 100, "verdicts": {"correct": correct, "wrong": 100 - correct}}


def answer(spec: Dial, *tried: dict[str, Any]) -> Choice:
    """What the dial chooses if its reference and its candidates came out like this."""
    asked = spec.next({})
    assert isinstance(asked, tuple)
    chosen = spec.next({one.digest: seen for one, seen in zip(asked, tried, strict=True)})
    assert isinstance(chosen, Choice)
    return chosen


def test_it_asks_for_the_reference_and_each_weight_on_probe_problems_only(dialled: World) -> None:
    asked = dial(dialled).next({})
    assert isinstance(asked, tuple)
    assert all(isinstance(one, Verify) and one.problems.n == 4 for one in asked)
    merges = [one.completions.model for one in asked[1:] if isinstance(one, Verify)]
    assert [merge.weights for merge in merges if isinstance(merge, Merge)] == [(0.2,), (0.5,), (0.8,)]


def test_it_takes_the_nearest_length_among_those_that_lose_little(dialled: World) -> None:
    spec = dial(dialled)
    chosen = answer(spec, facts(200, 90), facts(60, 95), facts(101, 80), facts(140, 89))
    assert isinstance(chosen.spec, Merge)
    assert chosen.spec.weights == (0.2,)  # .30 is as far from .5 as .70 is: the smaller weight
    assert chosen.facts["dial"][1]["loss"] == pytest.approx(0.10)  # the half-long one loses too much
    assert chosen.facts["fallback"] is False


def test_if_none_qualifies_it_is_an_error_or_the_marked_nearest(dialled: World) -> None:
    seen = (facts(200, 90), facts(60, 50), facts(101, 60), facts(140, 70))
    with pytest.raises(MicotaError, match=r"the least is 0.200"):
        answer(dial(dialled), *seen)
    chosen = answer(dial(dialled, "let.ta-mid.dial.fallback=nearest"), *seen)
    assert isinstance(chosen.spec, Merge)
    assert chosen.spec.weights == (0.5,)
    assert chosen.facts["fallback"] is True


def test_a_run_searches_links_the_choice_and_repeats_nothing(dialled: World) -> None:
    outcome = dialled.run()
    assert kinds(outcome).count("merge") == 3
    manifest = dialled.store.manifest(dial(dialled))
    assert manifest is not None
    assert manifest.same_as is not None
    assert manifest.same_as.startswith("merge-")
    assert [row["weight"] for row in manifest.facts["dial"]] == [0.2, 0.5, 0.8]
    assert dialled.run().executed == []
    wider = dialled.run("let.ta-mid.dial.weight=[0.2, 1.4]")  # 0.2, 0.8 and 1.4: one new candidate
    assert kinds(wider).count("merge") == 1


def test_a_search_without_a_choice_fails_alone_and_says_so(dialled: World) -> None:
    """With max_loss 0 and scripted answers all weights lose nothing; so the bar is put below that, out of reach."""
    recipe = dialled.load()
    spec = dial(dialled)
    fields = {name: getattr(spec, name) for name in Dial.model_fields}
    strict = Dial.model_construct(**{**fields, "max_loss": -1.0})
    strong = recipe.named("strong")
    run = Run(dialled.fresh(), dialled.machine, Quiet())
    with pytest.raises(StageFailed, match=r"no weight keeps the loss within max_loss -1: the least is 0\.000"):
        run.go([strict, strong])
    assert dialled.store.manifest(strong) is not None


def test_what_a_dial_asks_for_is_made_before_what_waits_for_less(dialled: World) -> None:
    recipe = dialled.load()
    above = heights(recipe.targets)
    asked = dial(dialled).next({})
    assert isinstance(asked, tuple)
    assert {above[one.digest] for one in asked} == {above[dial(dialled).digest] + 1}
    assert above[asked[0].digest] > above[recipe.named("micota").digest]


def test_what_a_dial_tries_has_names(dialled: World) -> None:
    recipe = dialled.load()
    found = labels(recipe)
    asked = dial(dialled).next({})
    assert isinstance(asked, tuple)
    names = ["ta-mid, reference", "ta-mid, weight 0.2", "ta-mid, weight 0.5", "ta-mid, weight 0.8"]
    assert [found[one.digest] for one in asked] == names
    below = [one.completions for one in asked if isinstance(one, Verify)]
    assert [found[one.digest] for one in below] == names
    assert [found[one.model.digest] for one in below] == ["ta-long", *names[1:]]
