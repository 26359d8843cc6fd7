"""What the store has measured: counts, lengths and rates of finished stages, and lengths of unfinished generations."""

from __future__ import annotations

from itertools import islice
from typing import Any

from micota.generation import requests
from micota.specs import Generate, Spec
from micota.store.artifacts import Store
from micota.store.manifest import Manifest

ENOUGH = 0.01
"""The share of a generation's responses from which on their lengths are a measurement."""
READ = 2000
"""Responses that are read at most: their mean is near enough."""
SHORTEST_S = 60
"""Seconds from which on a generation's rate is a measurement; before, starting the engine counts too much."""


def facts(store: Store, spec: Spec) -> dict[str, Any]:
    """The facts of a finished artifact; {} of another."""
    manifest = store.manifest(spec)
    return manifest.facts if manifest else {}


def mean_lengths(store: Store, spec: Generate) -> tuple[float, float] | None:
    """Mean tokens of a prompt and of a response: of a finished generation, or of one in a hundred of its responses."""
    done = facts(store, spec)
    if done.get("rows"):
        return done["prompt_tokens"] / done["rows"], done["tokens"] / done["rows"]
    counts = requests.pooled(spec, store)
    if counts is None or counts[1] < max(1, ENOUGH * counts[0]):
        return None
    pool = store.pool(store.pool_of(spec))
    rows = list(pool.read(islice(pool.keys(), READ)))
    return sum(one.prompt_tokens for one in rows) / len(rows), sum(one.completion_tokens for one in rows) / len(rows)


def remaining_share(store: Store, spec: Generate) -> float:
    """The share of a generation's responses that the pool does not have."""
    counts = requests.pooled(spec, store)
    return 1.0 if counts is None or not counts[0] else 1 - counts[1] / counts[0]


def generation_rate(store: Store, spec: Generate, machine: str) -> float | None:
    """Response tokens a second of a finished generation into the same pool, on a machine profile of that name."""
    pool = store.pool_of(spec)
    for one in store.all():
        seconds, here = one.provenance.get("seconds", 0), one.provenance.get("machine") == machine
        if one.kind == "generate" and pool in one.pools and here and seconds > SHORTEST_S:
            return float(one.facts["tokens"] * one.facts["generated"] / one.facts["rows"] / seconds) or None
    return None


def training_rate(manifest: Manifest, machine: str) -> float | None:
    """Tokens a second of a finished training, if it ran on a machine profile of that name."""
    done, seconds = manifest.facts, manifest.provenance.get("seconds", 0)
    if manifest.provenance.get("machine") != machine or seconds <= 1 or not done.get("target_tokens"):
        return None
    return float(done["tokens"] * done["learnt_tokens"] / done["target_tokens"] / seconds)
