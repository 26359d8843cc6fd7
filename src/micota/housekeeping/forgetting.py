"""Removing finished artifacts by name: what they hold, what was linked to them, and, if wanted, their completions."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from micota.store.artifacts import Manifest, Store


def forget(store: Store, manifests: Sequence[Manifest], answers: bool) -> list[str]:
    """Remove artifacts, so that a run makes them again; returns the ids of what went.

    An artifact that was linked to one of them has its files there, and goes too. What was made *of* them stays.
    """
    gone = {one.id for one in manifests}
    linked = [one for one in store.all() if one.same_as in gone and one.id not in gone]
    going = [*manifests, *linked]
    for one in going:
        store.remove(one)
    pools = sorted({pool for one in going for pool in one.pools}) if answers else []
    for pool in pools:
        shutil.rmtree(store.pool_folder(pool), ignore_errors=True)
    return [one.id for one in going] + [f"pool-{pool}" for pool in pools]
