"""The weights of a training as a model folder, whatever held them: one process, many, shards, or adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.merging.model_files import copy_model_files
from micota.pretrained import load
from micota.specs import Train
from micota.training.trl_settings import needing_peft


def save(trainer: Any, spec: Train, base: Path, out: Path, scratch: Path) -> None:
    """Write the folder. Every process comes here, as shards are gathered; only the first writes.

    Tokenizer, template and generation config are the base's own, and so is the configuration but for its dtype.
    """
    import torch

    dtype = getattr(torch, spec.precision)
    if spec.lora:
        trainer.save_model(str(scratch / "adapter"))
        if trainer.is_world_process_zero():
            write_weights(*merged_adapter(base, scratch / "adapter", spec.trust_remote_code), dtype, out)
    else:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():
            write_weights(trainer.accelerator.unwrap_model(trainer.model_wrapped), state, dtype, out)
    if trainer.is_world_process_zero():
        copy_model_files(base, out)
        _config(spec, base, out)


def merged_adapter(base: Path, adapter: Path, trust_remote_code: bool = False) -> tuple[Any, dict[str, Any]]:
    """The base in float32 with the adapters added to it, also where they were trained on 4 bits; and its weights.

    Raises MicotaError for an adapter with tensors that the base has no place for, or in another shape.
    """
    import torch

    with needing_peft():
        import peft

    whole = load(base, dtype=torch.float32, trust_remote_code=trust_remote_code)
    try:
        both = peft.PeftModel.from_pretrained(whole, adapter)
    except RuntimeError as error:
        if "size mismatch" not in str(error):
            raise
        raise MicotaError("the adapter does not fit its base", where=str(adapter), why=f"{error!s:.300}") from error
    _check_places(both, adapter)
    model = both.merge_and_unload()
    return model, model.state_dict()


def _check_places(model: Any, adapter: Path) -> None:
    """peft leaves out what it finds no place for."""
    import peft
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        there = set(file.keys())
    if odd := there ^ set(peft.get_peft_model_state_dict(model, save_embedding_layers=False)):
        why = f"the base has no place for it, or lacks it in the adapter: {min(odd)}"
        raise MicotaError(f"the adapter does not fit its base ({len(odd)} tensors)", where=str(adapter), why=why)


def write_weights(model: Any, state: dict[str, Any], dtype: Any, out: Path) -> None:
    """Write a model's weights into a folder, in a dtype; `state` is emptied on the way."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    for name in list(state):  # one after the other: two copies of a large model may not fit
        tensor = state.pop(name)
        if name not in tied:
            state[name] = tensor.detach().to("cpu", dtype)
    model.save_pretrained(out, state_dict=state)


def _config(spec: Train, base: Path, out: Path) -> None:
    """The base's configuration: a trainer switches its cache off and moves special tokens about."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=spec.trust_remote_code)
    config.dtype = spec.precision
    config.save_pretrained(out)
