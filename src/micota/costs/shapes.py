"""The shape of a recipe's model: from its folder, the Hub's cache here, or the table of known ones. No network."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from micota.architectures import KNOWN, Architecture, of_config
from micota.atomic import read_json
from micota.specs import Adapter, FineTuned, LengthDial, Merge, Model, Pretrain, Source
from micota.store.resolution import ENDPOINT, LAB_MODELS


def shape(model: Model) -> Architecture | None:
    """None for an endpoint, for a model that is not dense, and for one of which nothing is known here."""
    found = _of_origin(model.origin)
    return replace(found, layers=model.stacked or found.layers) if found else None


def _of_origin(origin: Model) -> Architecture | None:
    if isinstance(origin, Pretrain):
        lab, own = _of_source("lab:student", str(LAB_MODELS / "student")), origin.shape
        assert lab is not None and own is not None
        sized = replace(lab, hidden=own.width, layers=own.layers, inner=own.feedforward)
        return replace(sized, heads=own.heads, kv_heads=own.heads, head_dim=own.width // own.heads)
    assert isinstance(origin, Source)
    return None if origin.ref.startswith(ENDPOINT) else _of_source(origin.ref, origin.path)


def unknown(model: Model) -> str:
    """Why a model's shape is not known, and what to type so that it is."""
    ref = model.origin.ref if isinstance(model.origin, Source) else model.origin.kind
    if ref.startswith(ENDPOINT):
        return f"{ref} is behind a server: its size and its price are not known here"
    return f"the size of {ref} is not known here: hf download {ref} config.json"


def bytes_per_weight(model: Model) -> int:
    """In the files of a model: as it was trained; of other models float32 in the lab, else two bytes."""
    while isinstance(model, Adapter | Merge | LengthDial):
        model = model.parents[:2][-1]
    if isinstance(model, FineTuned):
        return 4 if model.precision == "float32" else 2
    return 4 if isinstance(model, Pretrain) or (isinstance(model, Source) and model.ref.startswith("lab:")) else 2


@cache
def _of_source(ref: str, path: str | None) -> Architecture | None:
    from huggingface_hub.constants import HF_HUB_CACHE

    snapshots = Path(HF_HUB_CACHE) / f"models--{ref.replace('/', '--')}" / "snapshots"
    folders = [Path(path)] if path is not None else sorted(snapshots.glob("*"))
    found = filter(None, (of_config(read_json(folder / "config.json")) for folder in folders))
    return next(found, None if path is not None else KNOWN.get(ref))
