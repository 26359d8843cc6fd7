"""A LoRA adapter folder, added to its base, as a model folder that recipes, transformers and vLLM take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from micota.atomic import atomic, check_free
from micota.errors import MicotaError
from micota.merging.buffers import FLOATS
from micota.merging.compatibility import ModelFolder, padding
from micota.merging.model_files import CONFIG, copy_model_files, copy_tokenizer, read_object, write_object
from micota.merging.safetensor_files import Checkpoint
from micota.pretrained import ADAPTER
from micota.recipe.words import as_adapter
from micota.specs import Source
from micota.store.resolution import fetch, hub_revision


def merge_adapter(folder: Path, out: Path) -> Path:
    """Write the model that an adapter is on its base into the missing folder `out`; returns the base's folder.

    Raises MicotaError as `write_merged`, and for a base that is not there.
    """
    base = as_adapter(str(folder), folder.absolute()).base
    assert isinstance(base, Source)
    commit = base.revision or hub_revision(base.ref, "model")
    if commit is None:
        what = f"the base '{base.ref}' of the adapter is not there"
        fix = "set base_model_name_or_path to a model folder or a Hub id"
        raise MicotaError(what, where=str(folder / ADAPTER), fix=fix)
    check_free(out)
    place = fetch(base.changed(revision=commit), "model")
    with atomic(out.absolute()) as temporary:
        temporary.mkdir()
        write_merged(folder, place, temporary)
    return place


def write_merged(folder: Path, base: Path, out: Path) -> dict[str, Any]:
    """Write the model that an adapter is on a base into an empty folder; returns the adapter's rank and alpha.

    Tokenizer and chat template are the adapter's where its folder has them, else the base's, as is the dtype. Raises
    MicotaError for adapters that do not fit the base or have tokens that it has no rows for, and for a base that is
    not of floats.
    """
    import torch

    from micota.training.saving import write_adapted

    dtype, about = _dtype(base), read_object(folder / ADAPTER)
    write_adapted(base, folder, getattr(torch, dtype), out)
    write_object(out / CONFIG, read_object(out / CONFIG) | {"dtype": dtype})
    copy_model_files(base, out)
    copy_tokenizer(folder, out)
    try:
        padding(ModelFolder(out))
    except MicotaError as error:
        fix = f"micota pad {base} OUT --rows N, and OUT as base_model_name_or_path"
        raise MicotaError(error.what, where=str(folder), why=error.why, fix=fix) from None
    return {"rank": about.get("r"), "alpha": about.get("lora_alpha")}


def _dtype(base: Path) -> str:
    """Torch's name of the floats that a base is stored as: what its config says, else that of its largest weight."""
    config = read_object(base / CONFIG)
    said = str(config.get("dtype") or config.get("torch_dtype")).removeprefix("torch.")
    if said in FLOATS:
        return said
    stored = max(Checkpoint(base).entries.values(), key=lambda entry: entry.numel).torch_dtype
    if stored not in FLOATS:
        why = f"its weights are stored as {stored}, its config.json says {said}"
        raise MicotaError(f"the base {base} is not of {', '.join(FLOATS)}", why=why, fix="name the base in one of them")
    return stored
