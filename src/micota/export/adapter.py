"""A LoRA adapter folder, merged into its base, as a model folder that recipes, transformers and vLLM take."""

from __future__ import annotations

from pathlib import Path

from micota.atomic import atomic, check_free
from micota.errors import MicotaError
from micota.merging.buffers import FLOATS
from micota.merging.compatibility import ModelFolder, padding
from micota.merging.model_files import CONFIG, copy_model_files, copy_tokenizer, read_object, write_object
from micota.merging.safetensor_files import Checkpoint
from micota.pretrained import ADAPTER
from micota.specs import Source
from micota.store.resolution import check_model, fetch, hub_revision


def merge_adapter(folder: Path, out: Path) -> Path:
    """Write the model that an adapter is on its base into the folder `out`; returns the base's folder.

    The base is what `adapter_config.json` names: a folder, or a Hub id with its commit. Tokenizer and chat template are
    the adapter's where its folder has them, else the base's, as is the dtype. Raises MicotaError for adapters that are
    not LoRA's, are no safetensors, do not fit the base or have tokens that it has no rows for, and for a base that is
    not there or not of floats.
    """
    import torch

    from micota.training.saving import merged_adapter, write_weights

    about = read_object(folder / ADAPTER)
    if str(about.get("peft_type")).upper() != "LORA":
        raise MicotaError(f"{folder} holds an adapter of the kind {about.get('peft_type')}; only LoRA can be merged")
    if not (folder / "adapter_model.safetensors").is_file():
        why = "weights are read from .safetensors files only: others can run code when loaded"
        raise MicotaError(f"{folder} has no adapter_model.safetensors", why=why)
    check_free(out)
    base = _base(folder, str(about.get("base_model_name_or_path") or ""), about.get("revision"))
    dtype = _dtype(base)
    with atomic(out.absolute()) as temporary:
        temporary.mkdir()
        write_weights(*merged_adapter(base, folder), getattr(torch, dtype), temporary)
        write_object(temporary / CONFIG, read_object(temporary / CONFIG) | {"dtype": dtype})
        copy_model_files(base, temporary)
        copy_tokenizer(folder, temporary)
        try:
            padding(ModelFolder(temporary))
        except MicotaError as error:
            fix = f"micota pad {base} OUT --rows N, and OUT as base_model_name_or_path"
            raise MicotaError(error.what, where=str(folder), why=error.why, fix=fix) from None
    return base


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


def _base(folder: Path, name: str, revision: str | None) -> Path:
    """The folder of the base, downloaded from the Hub where it is not here."""
    for path in (folder / name, Path(name).expanduser()):
        if name and path.is_dir():
            check_model(path)
            return path
    commit = (
        (revision or hub_revision(name, "model")) if name.count("/") == 1 and not name.startswith((".", "/")) else None
    )
    if commit is None:
        fix = "set base_model_name_or_path to a model folder or a Hub id"
        raise MicotaError(f"the base '{name}' of the adapter is not there", where=str(folder / ADAPTER), fix=fix)
    return fetch(Source(ref=name, revision=commit), "model")
