"""The dial: its candidates, its rule of choice, and that a search repeats nothing."""

from __future__ import annotations

import pytest
from conftest import RECIPE, Quiet, World, kinds

from micota.errors import MicotaError, StageFailed
from micota.recipe.labels import labels
from micota.run.execution import Run
from micota.run.plan import heights
from micota.specs import Choice, LengthDial, Merge, MergeSearch
from micota.specs import dial_policy as choosing

MERGE = "{merge: {base: ta, models: [ta-long], method: dare_ties, density: 0.7, weight: 0.5, rescale: inverse_density}}"
DIAL = """{dial: {base: ta, models: [ta-long], method: dare_ties, density: 0.7, rescale: inverse_density,
    weight: [0.2, 0.8], steps: 3, target: {length: 0.5, of: ta-long}, max_loss: 0.02, probe: {data: train-set, n: 4,
    prompt: "{problem}", precision: float32, by: exact_match, sampling: {max_tokens: 12}}}}"""


@pytest.fixture
def dialled(world: World) -> World:
    world.recipe_file.write_text(RECIPE.replace(MERGE, DIAL))
    return world


def dial(world: World, *sets: str) -> LengthDial:
    spec = world.load(*sets).named("ta-mid")
    assert isinstance(spec, LengthDial)
    return spec


def tried(weight: float, share: float, loss: float, **settings: float) -> dict[str, float]:
    return {"weight": weight, "density": 0.7, "lambda": 1.0, "share": share, "loss": loss, **settings}


def choice(spec: LengthDial, *rows: dict[str, float]) -> Choice:
    """What the dial chooses if its candidates came out like this."""
    reference = {"tokens": 200.0, "accuracy": 0.9}
    chosen = spec.next({spec.search.digest: {"dial": list(rows), "reference": reference, "target": 0.5}})
    assert isinstance(chosen, Choice)
    assert isinstance(chosen.spec, Merge)
    return chosen


def test_it_searches_on_probe_problems_only(dialled: World) -> None:
    spec = dial(dialled)
    assert spec.next({}) == (spec.search,)
    assert spec.search.problems.n == spec.search.reference.problems.n == 4
    assert [one["weight"] for one in choosing.grid(spec.ranges, spec.steps)] == [0.2, 0.5, 0.8]


def test_it_takes_the_nearest_length_among_those_that_lose_little(dialled: World) -> None:
    chosen = choice(dial(dialled), tried(0.2, 0.3, -0.05), tried(0.5, 0.505, 0.1), tried(0.8, 0.7, 0.01))
    assert chosen.spec.weights == (0.2,)  # type: ignore[attr-defined]  # as far from .5 as .7 is: the smaller weight
    assert chosen.facts["fallback"] is False
    assert chosen.facts["chosen"] == {"weight": 0.2, "density": 0.7, "lambda": 1.0}


def test_if_none_qualifies_it_is_an_error_or_the_marked_nearest(dialled: World) -> None:
    rows = tried(0.2, 0.3, 0.4), tried(0.5, 0.505, 0.3), tried(0.8, 0.7, 0.2)
    with pytest.raises(MicotaError, match=r"the least is 0.200"):
        choice(dial(dialled), *rows)
    chosen = choice(dial(dialled, "let.ta-mid.dial.fallback=nearest"), *rows)
    assert chosen.spec.weights == (0.5,)  # type: ignore[attr-defined]
    assert chosen.facts["fallback"] is True


def test_it_refines_around_the_best_on_both_sides_along_every_range() -> None:
    ranges = {"weight": (0.2, 0.8), "density": (0.5, 1.0), "lambda": 1.0}
    rows = [tried(w, w, 0.0, density=d) for w in (0.2, 0.4, 0.6, 0.8) for d in (0.5, 1.0)]
    finer = choosing.finer(ranges, rows, 0.45, 0.02)
    assert [(one["weight"], one["density"]) for one in finer] == [(0.3, 0.5), (0.5, 0.5), (0.4, 0.75)]
    assert choosing.finer(ranges, rows, 0.405, 0.02) == [], "near enough"
    losing = [{**row, "loss": abs(row["weight"] - 0.8)} for row in rows]
    around = choosing.finer(ranges, losing, 0.2, -0.1)
    assert [(one["weight"], one["density"]) for one in around] == [(0.7, 0.5), (0.8, 0.75)], "where least is lost"
    again = choosing.finer(ranges, [*rows, tried(0.5, 0.46, 0.0, density=0.5)], 0.44, 0.02)
    assert (0.45, 0.5) in [(one["weight"], one["density"]) for one in again]


def test_a_candidate_s_row_has_paired_intervals() -> None:
    keys = [(0, str(i)) for i in range(50)]
    reference = dict(zip(keys, range(100, 150), strict=True)), dict.fromkeys(keys, 1.0)
    half = {key: value / 2 for key, value in reference[0].items()}
    right = {key: float(i % 10 > 0) for i, key in enumerate(keys)}
    row = choosing.row({"weight": 0.5, "density": 1.0, "lambda": 1.0}, half, right, reference)  # type: ignore[arg-type]
    assert row["share"] == pytest.approx(0.5)
    assert "share_low" not in row, "every problem says the same: no spread to read"
    assert row["loss"] == pytest.approx(0.1)
    assert row["loss_low"] < row["loss"] < row["loss_high"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weight=0.5", "at least one of weight, density and lambda as a range"),
        ("weight=[0.8, 0.2]", "ends before it begins"),
        ("density=[0.5, 1.5]", "density is a share"),
        ("steps=65", "65 candidates, at most 64"),
        ("target={tokens: 5, length: 0.5, of: ta-long}", "a share, or as `tokens`"),
    ],
)
def test_what_cannot_be_turned_is_refused(dialled: World, change: str, message: str) -> None:
    with pytest.raises(MicotaError, match=message):
        dial(dialled, f"let.ta-mid.dial.{change}")


@pytest.mark.parametrize(
    ("method", "fields", "is_one"),
    [
        ("linear", "weight: [0.2, 0.8]", True),
        ("linear", "weight: 1.0, lambda: [0.2, 0.8]", True),
        ("slerp", "weight: 0.5, lambda: [0.2, 0.8]", True),
        ("ties", "weight: [0.2, 0.8], density: 0.5, rescale: none", True),
        ("ties", "weight: 0.5, density: [0.2, 0.8], rescale: none", False),
        ("ties", "weight: [0.2, 0.8], lambda: [0.5, 1.0], density: 0.5, rescale: none", False),
        ("slerp", "weight: [0.2, 0.8]", False),
        ("task_arithmetic", "weight: [0.2, 0.8]", False),
        ("task_arithmetic", "weight: 0.5, lambda: [0.2, 0.8]", False),
    ],
)
def test_a_search_whose_candidates_are_all_one_merge_is_refused(
    dialled: World, method: str, fields: str, is_one: bool
) -> None:
    searched = "method: dare_ties, density: 0.7, rescale: inverse_density,\n    weight: [0.2, 0.8]"
    dialled.recipe_file.write_text(dialled.recipe_file.read_text().replace(searched, f"method: {method}, {fields}"))
    if not is_one:
        assert dial(dialled).search
        return
    with pytest.raises(MicotaError, match="all candidates would be one merge"):
        dial(dialled)


def test_a_run_searches_links_the_choice_and_repeats_nothing(dialled: World) -> None:
    outcome = dialled.run()
    assert kinds(outcome).count("search") == kinds(outcome).count("merge") == 1, "only the chosen one is written"
    spec = dial(dialled)
    manifest, search = dialled.store.manifest(spec), dialled.store.manifest(spec.search)
    assert manifest is not None and search is not None
    assert manifest.same_as is not None
    assert manifest.same_as.startswith("merge-")
    assert [row["weight"] for row in search.facts["dial"]][:3] == [0.2, 0.5, 0.8]
    assert dialled.run().executed == []
    before = search.facts["generated"]
    wider = dialled.run("let.ta-mid.dial.weight=[0.2, 1.4]", "let.ta-mid.dial.refine=0")
    again = dialled.store.manifest(
        dial(dialled, "let.ta-mid.dial.weight=[0.2, 1.4]", "let.ta-mid.dial.refine=0").search
    )
    assert kinds(wider).count("search") == 1
    assert again is not None
    assert again.facts["generated"] == 4 < before, "of 0.2, 0.8 and 1.4 one candidate is new"


def test_a_search_without_a_choice_fails_alone_and_says_so(dialled: World) -> None:
    """With scripted answers all weights lose nothing; so the bar is put below that, out of reach."""
    recipe = dialled.load()
    spec = dial(dialled)

    class Strict(LengthDial):
        @property
        def search(self) -> MergeSearch:
            return spec.search

    strict = Strict.model_construct(
        **{**{name: getattr(spec, name) for name in LengthDial.model_fields}, "max_loss": -1.0}
    )
    strong = recipe.named("strong")
    run = Run(dialled.fresh(), dialled.machine, Quiet())
    with pytest.raises(StageFailed, match=r"no candidate keeps the loss within max_loss -1: the least is 0\.000"):
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
    found = labels(dialled.load())
    search = dial(dialled).search
    assert found[search.digest] == "ta-mid"
    assert found[search.reference.digest] == found[search.reference.completions.digest] == "ta-mid, reference"
    assert found[search.problems.digest] == "ta-mid, probe"
