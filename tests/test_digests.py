"""Every shipped recipe keeps every digest: the list was made before names, rooms and spellings changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from micota.recipe import recipe as recipes
from micota.specs.spec import sha

LARGE = 500
"""Of a recipe with so many names one hash of all digests is frozen."""
FROZEN = json.loads((Path(__file__).parent / "data" / "recipe_digests.json").read_text(encoding="utf-8"))


def test_every_shipped_recipe_is_frozen() -> None:
    assert set(recipes.shipped()) == set(FROZEN)


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_a_shipped_recipe_keeps_its_digests(name: str) -> None:
    recipe = recipes.load(name)
    digests = {
        "names": {label: spec.digest for label, spec in recipe.names.items()},
        "evaluations": {f"{one.model}@{one.data}:{one.spec.by}": one.spec.digest for one in recipe.evaluations},
        "measures": {label: spec.digest for label, spec in recipe.measures.items()},
        "targets": [spec.digest for spec in recipe.targets],
    }
    assert (digests if len(recipe.names) < LARGE else sha(digests)) == FROZEN[name]
