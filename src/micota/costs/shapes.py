"""The shape of a model of a recipe: from its folder, the Hub's cache here, or the table of known ones. No network."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from micota.architectures import KNOWN, Architecture, of_config
from micota.atomic import read_json
from micota.specs import LengthDial, Merge, MergeSearch, Pretrain, Source, Spec, Train
from micota.store.resolution import ENDPOINT, LAB_MODELS


def origin(model: Spec) -> Spec:
    """The source or the fresh weights that a model comes from: nothing that is done to it changes its shape."""
    while isinstance(model, Train | Merge | LengthDial | MergeSearch) or (
        isinstance(model, Pretrain) and model.base is not None
    ):
        assert model.base is not None
        model = model.base
    return model


def shape(model: Spec) -> Architecture | None:
    """None for an endpoint, for what is not dense, and for a model of which nothing is known here."""
    first = origin(model)
    if isinstance(first, Pretrain):
        assert first.shape is not None
        return _of_lab(first.shape.width, first.shape.layers, first.shape.heads, first.shape.feedforward)
    assert isinstance(first, Source)
    return None if first.ref.startswith(ENDPOINT) else _of_source(first.ref, first.path)


def missing(model: Spec) -> str:
    """What to type so that a model's shape is known."""
    first = origin(model)
    ref = first.ref if isinstance(first, Source) else first.kind
    if ref.startswith(ENDPOINT):
        return f"{ref} is behind a server: its size and its price are not known here"
    return f"the size of {ref} is not known here: hf download {ref} config.json"


@cache
def _of_source(ref: str, path: str | None) -> Architecture | None:
    if path is not None:
        return of_config(read_json(Path(path) / "config.json"))
    return next(filter(None, (of_config(read_json(folder / "config.json")) for folder in _cached(ref))), KNOWN.get(ref))


def _cached(ref: str) -> list[Path]:
    from huggingface_hub.constants import HF_HUB_CACHE

    return sorted((Path(HF_HUB_CACHE) / f"models--{ref.replace('/', '--')}" / "snapshots").glob("*"))


def _of_lab(width: int, layers: int, heads: int, inner: int) -> Architecture:
    shipped = _of_source("lab:student", str(LAB_MODELS / "student"))
    assert shipped is not None
    return replace(
        shipped, hidden=width, layers=layers, heads=heads, kv_heads=heads, head_dim=width // heads, inner=inner
    )


def width(model: Spec) -> int:
    """Bytes of a weight as a model lies on the disk: as it was trained, float32 in the lab, else two."""
    while not isinstance(model, Source | Train | Pretrain):
        assert isinstance(model, Merge | LengthDial)
        model = model.models[0]
    if isinstance(model, Train):
        return 4 if model.precision == "float32" else 2
    return 4 if isinstance(model, Pretrain) or model.ref.startswith("lab:") else 2
