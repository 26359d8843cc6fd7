"""Removing finished artifacts by name, so that a run makes them again; if wanted, also their completions."""

from __future__ import annotations

from collections.abc import Sequence

from micota.export.lineage import ancestors, labels
from micota.housekeeping.holdings import size_of
from micota.housekeeping.removal import Removal
from micota.recipe.labels import everything
from micota.recipe.recipe import Recipe
from micota.specs import walk
from micota.store.artifacts import Store
from micota.store.manifest import Manifest


def made_of(store: Store, recipe: Recipe, names: Sequence[str]) -> list[Manifest]:
    """The finished artifacts of names of a recipe, and those that the recipe makes of them."""
    roots = {recipe.named(name).digest for name in names}
    above = (spec for spec in everything(recipe) if roots & {below.digest for below in walk(spec, asked=True)})
    return [one for spec in above if not spec.made_elsewhere and (one := store.manifest_of(spec.id))]


def forgettable(store: Store, manifests: Sequence[Manifest], answers: bool = False) -> list[Removal]:
    """What forgetting these artifacts removes: they, what is linked to them, and with `answers` their completions.

    An artifact that is linked to one of them has its files there. Artifacts that were made from them stay, and so do
    completions that other answers, or data that stay, use too. Pass each to `removal.remove`.
    """
    names, named = labels(store), {one.id: one for one in manifests}
    linked = [one for one in store.all() if one.same_as in named and one.id not in named]
    going = {one.id: one for one in (*named.values(), *linked)}
    found = []
    for one in going.values():
        folder = store.root / "artifacts" / one.id
        why = "named" if one.id in named else f"its files are those of {one.same_as}"
        name = ", ".join(names.get(one.id, ()))
        found.append(Removal("artifact", one.id, name, folder / "files", size_of(folder), why))
    mine = {below.id for one in going.values() for below in ancestors(store, one)}
    for pool in sorted({pool for one in going.values() for pool in one.pools}) if answers else ():
        left = [one for one in store.all() if pool in one.pools and one.id not in going]
        if any(one.id not in mine or one.kind != "generate" for one in left):
            continue
        why = "completions of these artifacts only"
        found.append(Removal("pool", pool, "", store.pool_folder(pool), size_of(store.pool_folder(pool)), why))
    return found
