"""What an artifact descends from and what its evaluations came to, read off the manifests of a store."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from micota.specs import GRADERS
from micota.stats import Estimate, accuracy, interval, mean
from micota.store.artifacts import Store
from micota.store.manifest import ID, Manifest
from micota.store.records import read_rows

MODELS = ("pretrain", "train", "opd", "adapter", "merge", "dial")
DATA = ("select", "candidate", "mix", "redraw", "filter", "rewrite", "rows")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def prompted(manifest: Manifest) -> tuple[str | None, dict[str, Any]]:
    """The system message and the keywords of the chat template of a model's training."""
    fields = manifest.fields.get("prompt", manifest.fields)
    return fields.get("system"), fields.get("template_kwargs", {})


@dataclass(frozen=True)
class Origin:
    """Something made elsewhere. `words` can be shown to anybody: of a path only its last part is left.

    `revision` is the Hub's commit or the hash of a content; artifacts of an older micota do not say it.
    """

    words: str
    revision: str | None
    hub: bool


@dataclass(frozen=True)
class Evaluated:
    """What a model's answers to one problem set came to, under each scorer that graded them."""

    generation: Manifest
    problems: str
    scores: dict[str, Estimate]
    n: int
    samples: int
    mean_tokens: float
    truncated: float
    repetitive: float


def ancestors(store: Store, manifest: Manifest) -> list[Manifest]:
    """All finished artifacts that one was made of, each before what was made of it, and itself at the end."""
    found: dict[str, Manifest] = {}

    def visit(one: Manifest) -> None:
        if one.id not in found:
            chosen = [one.holder] if one.kind in ("dial", "redraw") else []  # the end of a search is another artifact
            for name in (*one.children.values(), *chosen):
                if ID.fullmatch(name) and name != one.id and (below := store.manifest_of(name)):
                    visit(below)
            found[one.id] = one

    visit(manifest)
    return list(found.values())


def origin(store: Store, manifest: Manifest, digest: str) -> Origin:
    """A child of a manifest that was made elsewhere."""
    ref = manifest.children[digest]
    holder = store.manifest_of(manifest.holder) or manifest
    revision = holder.provenance.get("sources", {}).get(digest)
    hub = bool(HUB_ID.fullmatch(ref))
    local = not hub and not ref.startswith(("lab:", "endpoint:"))
    return Origin(PurePath(ref).name if local else ref, revision, hub)


def origins(store: Store, manifest: Manifest) -> Iterator[Origin]:
    """What of a manifest's children was made elsewhere."""
    for digest, name in manifest.children.items():
        if not ID.fullmatch(name):
            yield origin(store, manifest, digest)


def hub_datasets(store: Store, manifest: Manifest) -> list[str]:
    """The Hub ids of the data sets that training data come from."""
    steps = [one for one in ancestors(store, manifest) if one.kind in ("problems", "rows")]
    return list(dict.fromkeys(source.words for one in steps for source in origins(store, one) if source.hub))


def bases(store: Store, manifest: Manifest) -> list[str]:
    """The Hub ids of the models that a model's weights come from, nearest first."""
    found: list[str] = []
    refs = [manifest.fields.get("base"), *manifest.fields.get("models", [])]
    for ref in refs:
        name = manifest.children[ref["$"]] if ref else ""
        below = store.manifest_of(name) if ID.fullmatch(name) else None
        if below:
            found += bases(store, below)
        elif ref and (made := origin(store, manifest, ref["$"])).hub:
            found.append(made.words)
    return list(dict.fromkeys(found))


def evaluations(store: Store, manifest: Manifest) -> list[Evaluated]:
    """What the store knows of a model's answers, by problem set and way of asking; the newest version of a scorer."""
    everything = store.all()
    same = {one.digest for one in everything if one.content == manifest.content and one.kind in MODELS}
    graded: dict[str, dict[str, Manifest]] = {}
    for one in everything:
        asked = store.manifest_of(one.children[one.fields["completions"]["$"]]) if one.kind == "verify" else None
        if asked and asked.fields["model"]["$"] in same:
            by = str(one.fields.get("by", "semantic"))
            before = graded.setdefault(asked.holder, {}).get(by)
            if before is None or _version(before) < _version(one):
                graded[asked.holder][by] = one
    found = ((store.manifest_of(name), scorers) for name, scorers in graded.items())
    return [_evaluated(store, asked, scorers) for asked, scorers in found if asked]


def _version(manifest: Manifest) -> tuple[int, ...]:
    return tuple(int(part) for part in manifest.version.split(".") if part.isdigit())


def _evaluated(store: Store, asked: Manifest, scorers: dict[str, Manifest]) -> Evaluated:
    samples = int(asked.fields.get("n", 1))
    rows = int(asked.facts["rows"])
    ordered = sorted(scorers, key=lambda by: (by not in GRADERS, by))
    return Evaluated(
        generation=asked,
        problems=problem_set(store, asked),
        scores={by: _score(store, scorers[by], samples) for by in ordered},
        n=rows // samples,
        samples=samples,
        mean_tokens=float(asked.facts["mean_tokens"]),
        truncated=asked.facts["truncated"] / rows,
        repetitive=asked.facts.get("looped", math.nan) / rows,
    )


def problem_set(store: Store, asked: Manifest) -> str:
    """What a problem set is called: its benchmark's name, or its source with its split."""
    problems = store.manifest_of(asked.children[asked.fields["problems"]["$"]])
    if problems is None:
        return "?"
    if "benchmark" in problems.fields:
        return str(problems.fields["benchmark"])
    source = origin(store, problems, problems.fields["source"]["$"]).words
    return ", ".join([source, *([str(problems.fields["split"])] if "split" in problems.fields else [])])


def _score(store: Store, verdicts: Manifest, samples: int) -> Estimate:
    """Accuracy with its error, samples of one problem taken together; where the rows were removed, by their counts."""
    if store.whole(verdicts):
        shares: dict[str, list[float]] = {}
        for row in read_rows(store.files(verdicts) / "rows.jsonl"):
            shares.setdefault(row["key"], []).append(float(row["verdict"] == "correct"))
        return interval([mean(one) for one in shares.values()])
    if samples > 1:
        return Estimate()
    value, error = accuracy(verdicts.facts["verdicts"].get("correct", 0), verdicts.facts["rows"])
    return Estimate(value, error, n=verdicts.facts["rows"])


def labels(store: Store) -> dict[str, list[str]]:
    """The names RECIPE/NAME that lead to each artifact, by its id."""
    found: dict[str, list[str]] = {}
    for name, artifact in store.links().items():
        found.setdefault(artifact, []).append(name)
    return found


def plain_fields(manifest: Manifest, children: dict[str, str]) -> dict[str, Any]:
    """The fields with words in the places of the children."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"$"}:
                return children[value["$"]]
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, list) else value

    return {name: plain(value) for name, value in manifest.fields.items()}
