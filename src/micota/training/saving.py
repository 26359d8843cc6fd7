"""The weights of a training as a model folder, whatever held them: one process, many, shards, or adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
            _write(*_merged(spec, base, scratch / "adapter"), dtype, out)
    else:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():
            _write(trainer.accelerator.unwrap_model(trainer.model_wrapped), state, dtype, out)
    if trainer.is_world_process_zero():
        copy_model_files(base, out)
        _config(spec, base, out)


def _merged(spec: Train, base: Path, adapter: Path) -> tuple[Any, dict[str, Any]]:
    """The base in float32 with the adapters added to it, also where they were trained on 4 bits."""
    import torch

    with needing_peft():
        import peft

    whole = load(base, dtype=torch.float32, trust_remote_code=spec.trust_remote_code)
    model = peft.PeftModel.from_pretrained(whole, adapter).merge_and_unload()
    return model, model.state_dict()


def _write(model: Any, state: dict[str, Any], dtype: Any, out: Path) -> None:
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
