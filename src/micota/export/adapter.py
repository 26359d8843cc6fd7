"""A LoRA adapter folder, merged into its base, as a model folder that recipes, transformers and vLLM take."""

from __future__ import annotations

from pathlib import Path

from micota.atomic import atomic
from micota.errors import MicotaError
from micota.merging.model_files import CONFIG, copy_model_files, read_object
from micota.pretrained import ADAPTER
from micota.specs import Source
from micota.store.resolution import check_model, fetch, hub_revision


def merge_adapter(folder: Path, out: Path) -> Path:
    """Write the model that an adapter is on its base into the folder `out`; returns the base's folder.

    The base is what `adapter_config.json` names: a folder, or a Hub id with its commit. Raises MicotaError
    for adapters that are not LoRA's, are no safetensors, or do not fit the base, and for a base that is not there.
    """
    import torch

    from micota.training.saving import merged_adapter, write_weights

    about = read_object(folder / ADAPTER)
    if str(about.get("peft_type")).upper() != "LORA":
        raise MicotaError(f"{folder} holds an adapter of the kind {about.get('peft_type')}; only LoRA can be merged")
    if not (folder / "adapter_model.safetensors").is_file():
        why = "weights are read from .safetensors files only: others can run code when loaded"
        raise MicotaError(f"{folder} has no adapter_model.safetensors", why=why)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MicotaError(f"{out} is there already", why="what it holds would be lost", fix="name another folder")
    base = _base(folder, str(about.get("base_model_name_or_path") or ""), about.get("revision"))
    config = read_object(base / CONFIG)
    dtype = getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "float32"))
    with atomic(out.absolute()) as temporary:
        temporary.mkdir()
        write_weights(*merged_adapter(base, folder), dtype, temporary)
        copy_model_files(base, temporary)
    return base


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
