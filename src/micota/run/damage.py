"""Damage to what is finished, found before a run relies on it. Weights are looked at only by what reads them."""

from __future__ import annotations

from collections.abc import Iterable

from micota.specs import Model, Spec, walk
from micota.store.artifacts import Store
from micota.store.manifest import Manifest
from micota.store.pool import Pool


def set_aside(store: Store, targets: Iterable[Spec]) -> list[Spec]:
    """Set aside the rows below the targets that are damaged, or whose texts are; returns what is to be made again."""
    pools: dict[str, Pool] = {}
    found = []
    for spec in walk(*targets, asked=True):
        manifest = None if spec.made_elsewhere or isinstance(spec, Model) else store.manifest(spec)
        if manifest and (why := ", ".join(store.damaged(manifest)) or lost(store, manifest, pools)):
            store.set_aside(manifest.holder, why)
            found.append(spec)
    return found


def lost(store: Store, manifest: Manifest, pools: dict[str, Pool]) -> str:
    """How many of the texts that it collected are not in its pools any more, in words; "" if none."""
    if manifest.kind not in ("generate", "rows") or not store.whole(manifest):
        return ""
    for name in manifest.pools:
        pools.setdefault(name, store.pool(name))
    rows = store.rows(manifest)
    gone = sum(not any((row["key"], row["sample"]) in pools[name] for name in manifest.pools) for row in rows)
    return f"{gone} of {len(rows)} texts in {', '.join(manifest.pools)}" if gone else ""
