"""Which stages a run would still have to make: what the targets pull, as the plan pulls it."""

from __future__ import annotations

from collections.abc import Iterable

from micota.generation import requests
from micota.specs import Generate, Source, Spec
from micota.store.artifacts import Store


def owed(store: Store, targets: Iterable[Spec]) -> set[str]:
    """Digests of what is not done and needed, and of light artifacts whose files something unfinished reads.

    A dynamic spec needs what it asks for first; what it will choose is not known before.
    """
    found: set[str] = set()
    todo = [(spec, False) for spec in targets]
    seen: set[tuple[str, bool]] = set()
    while todo:
        spec, files = todo.pop()
        if isinstance(spec, Source) or (spec.digest, files) in seen:
            continue
        seen.add((spec.digest, files))
        manifest = store.manifest(spec)
        if manifest is not None and (not files or store.whole(manifest)):
            continue
        found.add(spec.digest)
        asked = spec.next({})
        reads = requests.reads(spec, store) if isinstance(spec, Generate) else spec.children
        todo += [(one, asked is None) for one in reads]
        todo += [(one, False) for one in asked] if isinstance(asked, tuple) else []
    return found
