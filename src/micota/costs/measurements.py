"""What the store has measured: counts and lengths of finished stages, and of pools from their first per cent on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from micota.generation import requests
from micota.specs import Generate, Spec
from micota.store.artifacts import Manifest, Store
from micota.store.pool import Pool

ENOUGH = 0.01
"""The share of its answers from which on a pool is a measurement."""
READ = 2000  # answers of a pool at most: their mean is near enough
NAME_OF_A_WRITER = "%Y%m%d-%H%M%S"


@dataclass(frozen=True)
class Seen:
    """Means of answers that are there: tokens of the prompt and of the response, and tokens in a second if known."""

    prompt: float
    response: float
    rate: float | None


def facts(store: Store, spec: Spec) -> dict[str, Any]:
    """The facts of a finished artifact; none of another."""
    manifest = store.manifest(spec)
    return manifest.facts if manifest else {}


def answers(store: Store, spec: Generate) -> Seen | None:
    """What is known of a stage's answers: all of them, or those in its pool if they are one in a hundred."""
    manifest = store.manifest(spec)
    if manifest is not None and manifest.facts.get("rows"):
        return _finished(manifest)
    counts = requests.pooled(spec, store)
    content = store.content(spec.model)
    if counts is None or content is None or counts[1] < max(1, ENOUGH * counts[0]):
        return None
    return _pool(store.pool(spec.pool(content)))


def left(store: Store, spec: Generate) -> float:
    """The share of a stage's answers that the pool does not have."""
    counts = requests.pooled(spec, store)
    return 1.0 if counts is None or not counts[0] else 1 - counts[1] / counts[0]


def _finished(manifest: Manifest) -> Seen:
    told = manifest.facts
    seconds, share = manifest.made.get("seconds", 0), told["generated"] / told["rows"]
    rate = told["tokens"] * share / seconds if share > ENOUGH and seconds > 1 else None
    return Seen(told["prompt_tokens"] / told["rows"], told["tokens"] / told["rows"], rate)


def _pool(pool: Pool) -> Seen:
    found = list(pool.read(islice(pool.keys(), READ)))
    response = sum(one.completion_tokens for one in found) / len(found)
    seconds = sum(map(_seconds, pool.folder.glob("*.jsonl")))
    rate = response * len(pool) / seconds if seconds > 60 else None
    return Seen(sum(one.prompt_tokens for one in found) / len(found), response, rate)


def _seconds(path: Path) -> float:
    """How long a writer wrote: its file's name says when it began, the file's time when it last wrote."""
    try:
        began = time.mktime(time.strptime("-".join(path.name.split("-")[:2]), NAME_OF_A_WRITER))
    except ValueError:
        return 0.0
    return max(0.0, path.stat().st_mtime - began)
