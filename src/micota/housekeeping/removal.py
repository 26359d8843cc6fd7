"""What a store holds and how large it is, and what can go: files of models that nothing needs, work that was given up.

An artifact whose files went is pruned: its manifest stays, it is still done, and it is made again only for a stage that
reads it. Completions are paid for, so pools stay unless they are named and no artifact refers to them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from micota.atomic import read_json
from micota.export.lineage import MODELS
from micota.housekeeping.holdings import Held, Pooled, Work, age, artifacts, gone, pools, size_of, works
from micota.recipe.recipe import Recipe
from micota.run.missing import artifacts_to_keep
from micota.specs import Source, Spec, walk
from micota.store.artifacts import Manifest, Store
from micota.store.locks import holder, locked


@dataclass(frozen=True)
class Removal:
    """Something that can go, and why. `claims` are those that must be had while it goes."""

    what: str
    id: str
    name: str
    path: Path
    size: int
    why: str
    claims: tuple[str, ...]


def removable(
    store: Store, recipes: Sequence[Recipe], *, hours: float = 24, everything: bool = False, unused_pools: bool = False
) -> list[Removal]:
    """What can go, of these recipes or else of what nobody names. Nothing that a stage reads now or will read.

    Of recipes: their models that are no arms (with `everything` those too), that no unfinished stage reads and that
    no other recipe names. Without recipes: models that no name leads to. Of both, and of work that nobody goes on
    with, only what is `hours` old.
    """
    made = _unneeded(store, recipes, everything) if recipes else _nameless(store, hours)
    mine = {spec.id for recipe in recipes for spec in _all(recipe)}
    left = [_given_up(one) for one in works(store) if _is_given_up(one, hours) and (not recipes or one.id in mine)]
    unused = [one for one in pools(store) if not one.used and age(store.pool_folder(one.id)) > hours * 3600]
    paid = [_unused(store, one) for one in unused]
    return [*made, *left, *(paid if unused_pools and not recipes else [])]


def remove(store: Store, one: Removal) -> bool:
    """Remove it unless somebody has begun to make or to read it; a model's files go at once, by rename."""
    aside = gone(one.path)
    with _claimed(store, one.claims) as mine:
        if not mine or (one.what == "model" and one.id in being_read(store)):
            return False
        shutil.rmtree(aside, ignore_errors=True)
        if not one.path.exists():
            return True
        if one.what == "work":
            with locked(one.path / "lock", wait=False) as free:  # a stage that outlives its run for a moment
                if not free:
                    return False
        one.path.rename(aside)
        if one.what == "model" and one.id in being_read(store):  # began in between
            aside.rename(one.path)
            return False
        shutil.rmtree(aside)
    return True


@contextmanager
def _claimed(store: Store, names: Iterable[str]) -> Iterator[bool]:
    """Hold claims, so that nobody begins to make what goes; False if somebody has one."""
    taken = []
    try:
        for name in names:
            path = store.lock(name)
            if not store.locks.acquire(path):
                yield False
                return
            taken.append(path)
        yield True
    finally:
        for path in taken:
            store.locks.release(path)


def being_read(store: Store) -> set[str]:
    """The artifacts whose files the stages that run now were given."""
    found = set()
    for work in (store.root / "making").glob("*/task.json"):
        if holder(store.lock(work.parent.name)):
            inputs = read_json(work).get("inputs", {}).values()
            found |= {Path(one["files"]).parent.name for one in inputs if one.get("files")}
    return found


def _all(recipe: Recipe) -> list[Spec]:
    return list(walk(*recipe.names.values(), *recipe.targets, asked=True))


def _unneeded(store: Store, recipes: Sequence[Recipe], everything: bool) -> list[Removal]:
    """The whole models of recipes that can go."""
    names = {recipe.name for recipe in recipes}
    keep = being_read(store) | {artifact for link, artifact in store.links().items() if link.split("/")[0] not in names}
    mine: dict[str, Manifest] = {}
    for recipe in recipes:
        keep |= artifacts_to_keep(store, recipe.targets) | (set() if everything else _finals(store, recipe))
        mine |= {m.holder: m for spec in _all(recipe) if spec.kind in MODELS and (m := store.manifest(spec))}
    held = (one for one in artifacts(store) if one.manifest.id in mine.keys() - keep and one.state != "pruned")
    return [_model(store, one, "nothing unfinished reads it") for one in held]


def _finals(store: Store, recipe: Recipe) -> set[str]:
    """What a recipe is for: its arms, or all its targets where it has none."""
    named = [spec for label, spec in recipe.names.items() if label.partition("[")[0] in recipe.titles]
    found = (store.manifest(spec) for spec in (named or recipe.targets) if not isinstance(spec, Source))
    return {manifest.holder for manifest in found if manifest}


def _nameless(store: Store, hours: float) -> list[Removal]:
    """Models without a name; a run names what it made only at its end, so that while one goes on all stay."""
    if any(work.who for work in works(store)):
        return []
    old = (one for one in artifacts(store) if age(store.files(one.manifest).parent / "manifest.json") > hours * 3600)
    nameless = (one for one in old if one.manifest.kind in MODELS and not one.names and one.state != "pruned")
    return [_model(store, one, "no recipe's name leads to it") for one in nameless]


def _model(store: Store, one: Held, why: str) -> Removal:
    files = store.files(one.manifest)
    return Removal(
        "model", one.manifest.id, ", ".join(one.names), files, size_of(files.parent), why, (one.manifest.id,)
    )


def _unused(store: Store, one: Pooled) -> Removal:
    place = store.pool_folder(one.id)
    return Removal("pool", one.id, one.what, place, one.size, "no artifact refers to it", (f"pool-{one.id}",))


def _is_given_up(one: Work, hours: float) -> bool:
    return one.who is None and (one.done or one.age_s > hours * 3600)


def _given_up(one: Work) -> Removal:
    why = "its artifact is done" if one.done else f"nobody went on with it for {one.age_s / 3600:.0f} hours"
    return Removal("work", one.id, one.name, one.path, one.size, why, (one.id,))
