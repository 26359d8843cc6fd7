"""Damage to what is finished, found before a run relies on it. Weights are looked at only by what reads them."""

from __future__ import annotations

from collections.abc import Iterable

from micota.specs import Model, Spec, walk
from micota.store.artifacts import Store
from micota.store.checked import say
from micota.store.manifest import Manifest
from micota.store.pool import Pool


def set_aside(store: Store, targets: Iterable[Spec]) -> list[Spec]:
    """Set aside the rows below the targets that are damaged, or whose texts are; returns what is to be made again."""
    pools: dict[str, Pool] = {}
    found = []
    for spec in walk(*targets, asked=True):
        manifest = None if spec.made_elsewhere else store.manifest(spec)
        folder = store.root / "artifacts" / spec.id
        if manifest is None and store.manifest_of(spec.id) is None and folder.exists():
            if isinstance(spec, Model):
                say(f"{folder} has no manifest that can be read, and is made again where it is needed")
            else:
                found.append(spec)
        rows = None if isinstance(spec, Model) else manifest
        if rows and (why := ", ".join(store.damaged(rows)) or lost(store, rows, pools)):
            store.set_aside(rows.holder, why)
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
