"""The weights of a training as a model folder, whatever held them: one process, many, shards, or adapters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.merging.model_files import CONFIG, copy_model_files, read_object
from micota.pretrained import inspect, load
from micota.specs import FineTuned
from micota.training.trl_settings import needing_peft

PREFIX = "base_model.model."
"""What peft puts before a name of the base."""
REBASE = (
    "set base_model_name_or_path to the base that it was trained on; or take the adapter_config.json that belongs to it"
)
SEEN_TO = "Model (has|with) `tie_word_emb|`lora_bias=True` was|Found missing adapter|Input and output emb"
"""Warnings of peft about what is mended or refused here."""


def save(trainer: Any, spec: FineTuned, base: Path, out: Path, scratch: Path) -> None:
    """Write the folder. Every process comes here, as shards are gathered; only the first writes.

    Tokenizer, template and generation config are the base's own, and so is the configuration but for its dtype, and
    for embeddings that adapters have parted from the head.
    """
    import torch

    dtype = getattr(torch, spec.precision)
    if spec.lora:
        trainer.save_model(str(scratch / "adapter"))
        if trainer.is_world_process_zero():
            write_adapted(base, scratch / "adapter", dtype, out, spec.trust_remote_code)
    else:
        state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        if trainer.is_world_process_zero():
            write_weights(trainer.accelerator.unwrap_model(trainer.model_wrapped), state, dtype, out)
    if trainer.is_world_process_zero():
        copy_model_files(base, out)
        _config(spec, base, out)


def write_adapted(base: Path, adapter: Path, dtype: Any, out: Path, trust_remote_code: bool = False) -> None:
    """Write the weights and the configuration of a base with an adapter, as `merged_adapter` gives them.

    Raises MicotaError as that, and where the files lack a tensor that their configuration asks for.
    """
    model, state = merged_adapter(base, adapter, trust_remote_code)
    with _refusals(adapter):
        write_weights(model, state, dtype, out)
    if error := inspect(out, trust_remote_code).error():
        fix = "merge it with peft, and name the model that this gives"
        raise MicotaError(f"merged, {error.what}", where=str(adapter), why=error.why, fix=fix)


def merged_adapter(base: Path, adapter: Path, trust_remote_code: bool = False) -> tuple[Any, dict[str, Any]]:
    """The base in float32 with the adapters added to it, also where they were trained on 4 bits; and its weights.

    Weights that the base shares are apart where the adapter makes them differ; the configuration then says so. Raises
    MicotaError for an adapter with tensors that the base has no place for, or in another shape, that lacks some,
    that holds layers of another base, or that no weights of this architecture can express.
    """
    import torch

    with needing_peft():
        import peft

    whole = load(base, dtype=torch.float32, trust_remote_code=trust_remote_code)
    tied = dict(getattr(whole, "all_tied_weights_keys", None) or {})
    _check_base(whole, adapter)
    with _refusals(adapter), warnings.catch_warnings():
        warnings.filterwarnings("ignore", SEEN_TO)
        both = peft.PeftModel.from_pretrained(whole, adapter)
        _check_places(both, adapter)
        _untie(both)
        model = both.merge_and_unload()
    state = model.state_dict()
    _tie(model, state, tied, adapter)
    return model, state


def _tie(model: Any, state: dict[str, Any], tied: dict[str, str], adapter: Path) -> None:
    """Say which weights are shared: those of before, but for a head that is the embeddings no longer."""
    import torch

    apart = {name for name, kept in tied.items() if not torch.equal(state[name], state[kept])}
    head = getattr(model.get_output_embeddings(), "weight", None)
    if odd := [name for name in apart if head is None or state[name].data_ptr() != head.data_ptr()]:
        why = f"its base has {min(odd)} and {tied[min(odd)]} as one, which the adapter makes two"
        fix = "train it anew without adapters on these layers"
        raise MicotaError("the adapter cannot be merged", where=str(adapter), why=why, fix=fix)
    model.all_tied_weights_keys = {name: kept for name, kept in tied.items() if name not in apart}
    if tied:
        model.config.tie_word_embeddings = not apart


@contextmanager
def _refusals(adapter: Path) -> Iterator[None]:
    """What peft refuses, as errors that say what to do."""
    from huggingface_hub.errors import StrictDataclassError

    what, fix = "the adapter does not fit its base", REBASE
    try:
        yield
    except KeyError as error:
        why = f"the adapter lacks the tensor {error.args[0]}"
        raise MicotaError(what, where=str(adapter), why=why, fix=fix) from error
    except (RuntimeError, ValueError, NotImplementedError, StrictDataclassError) as error:
        why = f"{error!s:.300}"
        if "out of memory" in why or "allocate memory" in why:
            raise  # which says nothing of the adapter
        if "size mismatch" not in why:
            what, fix = "the adapter cannot be merged", "train it anew without what is named here"
        if "lora_bias" in why:
            why, fix = "it adds biases to layers that have none in its base", "train it anew with lora_bias=False"
        raise MicotaError(what, where=str(adapter), why=why, fix=fix) from error


def _check_base(whole: Any, adapter: Path) -> None:
    """peft saves embeddings with the adapters on them, and would load them over those of the base."""
    import torch
    from safetensors import safe_open

    state = whole.state_dict()
    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        for name in (name for name in sorted(file.keys()) if ".base_layer." in name):
            ours, its = state.get(name.removeprefix(PREFIX).replace(".base_layer.", ".")), file.get_tensor(name)
            if ours is not None and not torch.equal(ours.to(its.dtype), its):
                why = f"it holds a copy of the layer below its adapter, and the base has another: {name}"
                raise MicotaError("the adapter is of another base", where=str(adapter), why=why, fix=REBASE)


def _check_places(model: Any, adapter: Path) -> None:
    """peft leaves out what it finds no place for. Embeddings may be there, with adapters on them or without."""
    import peft
    from safetensors import safe_open

    with safe_open(adapter / "adapter_model.safetensors", "pt") as file:
        there = set(file.keys())
    state = model.state_dict()
    needed, known = (
        set(peft.get_peft_model_state_dict(model, state, save_embedding_layers=embeddings))
        for embeddings in (False, True)
    )
    if odd := (there - needed - known) | (needed - there):
        why = f"the base has no place for it, or lacks it in the adapter: {min(odd)}"
        raise MicotaError(
            f"the adapter does not fit its base ({len(odd)} tensors)", where=str(adapter), why=why, fix=REBASE
        )


def _untie(model: Any) -> None:
    """Give each module weights of its own: what is merged into one would be in the other, which has no adapter."""
    import torch

    seen: set[int] = set()
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if id(weight) in seen:
                setattr(module, name, torch.nn.Parameter(weight.detach().clone(), requires_grad=False))
            seen.add(id(weight))


def write_weights(model: Any, state: dict[str, Any], dtype: Any, out: Path) -> None:
    """Write a model's weights into a folder, in a dtype; `state` is emptied on the way."""
    tied = getattr(model, "all_tied_weights_keys", None) or {}
    for name in list(state):  # one after the other: two copies of a large model may not fit
        tensor = state.pop(name)
        if name not in tied:
            state[name] = tensor.detach().to("cpu", dtype)
    model.save_pretrained(out, state_dict=state)


def _config(spec: FineTuned, base: Path, out: Path) -> None:
    """The base's configuration: a trainer switches its cache off and moves special tokens about."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=spec.trust_remote_code)
    if spec.lora and not read_object(out / CONFIG).get("tie_word_embeddings", True):
        config.tie_word_embeddings = False
    config.dtype = spec.precision
    config.save_pretrained(out)
