"""What can be removed from a store: files of models that nothing needs, abandoned work, pools without readers.

An artifact whose files were removed is pruned: its manifest stays, results are kept, and its files are rebuilt on
demand. Completions are the costly part, so pools stay unless they are asked for and no artifact refers to them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from micota.export.lineage import MODELS
from micota.housekeeping.holdings import HeldArtifact, age_s, artifacts, pools, removed_path, size_of, works
from micota.recipe.recipe import Recipe
from micota.run.missing import artifacts_to_keep
from micota.specs import Spec, walk
from micota.store.artifacts import Store
from micota.store.inputs import begun_with
from micota.store.locks import holder, locked
from micota.store.manifest import Manifest


@dataclass(frozen=True)
class Removal:
    """Something that can be removed, and why. `what` is model (its files), artifact, work, pool or damaged."""

    what: str
    id: str
    name: str
    path: Path
    size: int
    why: str

    @property
    def lock(self) -> str:
        """The lock to hold during the removal."""
        return f"pool-{self.id}" if self.what == "pool" else self.id


def removable(
    store: Store, recipes: Sequence[Recipe], *, hours: float = 24, everything: bool = False, unused_pools: bool = False
) -> list[Removal]:
    """What can be removed, for these recipes or else for all; never what a stage reads now or will read.

    For recipes: their models that are no arms (with `everything` those too), that no unfinished stage reads and that
    no other recipe names. Without recipes: models that no name leads to. Models without names, abandoned work and
    pools are kept while younger than so many `hours`.
    """
    found = list(_unneeded(store, recipes, everything) if recipes else _nameless(store, hours))
    ids = {spec.id for recipe in recipes for spec in _specs(recipe)}
    for work in works(store):
        silent = work.age_s > max(hours, 24) * 3600  # its host may be gone: whether it is, its removal finds out
        old = not work.holder and (work.done or work.age_s > hours * 3600)
        if (old or silent) and (not recipes or work.id in ids):
            why = "its artifact is finished" if work.done else f"untouched for {work.age_s / 3600:.0f} hours"
            found.append(Removal("work", work.id, work.name, work.path, work.size, why))
    for path in (store.root / "damaged").glob("*") if not recipes else ():
        found.append(Removal("damaged", path.name, "", path, size_of(path), "it was set aside"))
    for pool in pools(store) if unused_pools and not recipes else ():
        path = store.pool_folder(pool.id)
        if not pool.used and age_s(path) > hours * 3600:
            found.append(Removal("pool", pool.id, pool.source, path, pool.size, "no artifact refers to it"))
    return found


def remove(store: Store, one: Removal) -> bool:
    """Remove it, unless somebody is making or reading it; its files go at once, by rename. Returns whether it went."""
    lock, removed = store.lock(one.lock), removed_path(one.path)
    if not store.locks.acquire_patiently(lock):
        return False
    try:
        manifest = store.manifest_of(one.id) if one.what == "artifact" else None
        ids = {one.lock, manifest.holder} if manifest else {one.lock}
        if ids & being_read(store) or any(holder(store.lock(other)) for other in ids - {one.lock}):
            return False
        shutil.rmtree(removed, ignore_errors=True)
        if one.path.exists() and not _remove_files(store, one, removed, ids):
            return False
        if manifest:
            store.remove(manifest)
        return True
    finally:
        store.locks.release(lock)


def _remove_files(store: Store, one: Removal, removed: Path, ids: set[str]) -> bool:
    if one.what == "work":
        with locked(one.path / "lock", wait=False) as free:  # a stage that outlives its run for a moment
            if not free:
                return False
    one.path.rename(removed)
    if ids & being_read(store):  # began in between
        removed.rename(one.path)
        return False
    shutil.rmtree(removed)
    return True


def being_read(store: Store) -> set[str]:
    """The locks of the artifacts and pools that are inputs of running stages."""
    found = set()
    for task in (store.root / "making").glob("*/task.json"):
        if holder(store.lock(task.parent.stem)):
            inputs = begun_with(task.parent).values()
            found |= {one.files.parent.name for one in inputs if one.files}
            found |= {f"pool-{pool}" for one in inputs for pool in one.pools}
    return found


def _specs(recipe: Recipe) -> list[Spec]:
    return list(walk(*recipe.names.values(), *recipe.targets, asked=True))


def _unneeded(store: Store, recipes: Sequence[Recipe], everything: bool) -> Iterator[Removal]:
    names = {recipe.name for recipe in recipes}
    keep = being_read(store) | {artifact for link, artifact in store.links().items() if link.split("/")[0] not in names}
    models: set[str] = set()
    for recipe in recipes:
        keep |= artifacts_to_keep(store, recipe.targets) | (set() if everything else _finals(store, recipe))
        manifests = (store.manifest(spec) for spec in _specs(recipe) if spec.kind in MODELS)
        models |= {manifest.holder for manifest in manifests if manifest}
    for one in artifacts(store):
        if one.manifest.id in models - keep and one.state != "pruned":
            yield _model(store, one, "nothing unfinished reads it")


def _finals(store: Store, recipe: Recipe) -> set[str]:
    """The ids of a recipe's arms, or of all its targets if it has none."""
    arms = [spec for label, spec in recipe.names.items() if recipe.is_arm(label)]
    manifests = (store.manifest(spec) for spec in (arms or recipe.targets) if not spec.made_elsewhere)
    return {manifest.holder for manifest in manifests if manifest}


def _nameless(store: Store, hours: float) -> Iterator[Removal]:
    """Models without a name; none during a run, which names its artifacts only at its end."""
    if any(work.holder for work in works(store)):
        return
    for one in artifacts(store):
        nameless = one.manifest.kind in MODELS and not one.names and one.state != "pruned"
        if nameless and age_s(_folder(store, one.manifest) / "manifest.json") > hours * 3600:
            yield _model(store, one, "no recipe's name leads to it")


def _model(store: Store, one: HeldArtifact, why: str) -> Removal:
    folder = _folder(store, one.manifest)
    return Removal("model", one.manifest.id, ", ".join(one.names), folder / "files", size_of(folder), why)


def _folder(store: Store, manifest: Manifest) -> Path:
    return store.files(manifest).parent
