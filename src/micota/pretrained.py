"""A model folder as transformers loads it: whether its weights are those of its architecture, and the loaded model.

transformers fills a tensor that it does not find, or finds in another shape, with random numbers and goes on; another
engine would do otherwise. So names and shapes are compared before anything is loaded, from the files' headers alone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.architectures import of_config
from micota.errors import MicotaError, suggestion
from micota.merging.model_files import CONFIG, read_object
from micota.merging.safetensor_files import Checkpoint, Entry

ADAPTER = "adapter_config.json"
SHOWN = 4  # names in a message
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
READ_BY_KERNELS = ("x_proj", "dt_proj", "out_proj")
MANY = 2**16
_COUNT = re.compile("layers|experts|heads")
"""Entries of a configuration that say how many modules are built; more than MANY would take hours and all memory."""


@dataclass(frozen=True)
class Fit:
    """How the weights of a folder fit its architecture; names of tensors, each list sorted."""

    folder: Path
    expected: int = 0
    """How many tensors the architecture has."""
    missing: Sequence[str] = ()
    reshaped: Sequence[str] = ()
    """Tensors of another shape than the architecture's, each with both shapes."""
    retyped: Sequence[str] = ()
    """Tensors that hold no floating-point numbers where the architecture has some, each with its dtype."""
    extra: Sequence[str] = ()
    """Tensors that the architecture does not have: they are not loaded."""
    unknown: str = ""
    """Why the weights could not be compared; then nothing else is known."""
    refused: str = ""
    """Why transformers cannot build the architecture; then nothing else is known either."""

    @property
    def is_stub(self) -> bool:
        """Whether most of the architecture is missing: the folder is another thing than its configuration says."""
        return bool(self.refused) or 2 * len(self.missing) > self.expected

    def error(self) -> MicotaError | None:
        """What is wrong, as an error to raise."""
        if self.refused:
            fix = "take the config.json that belongs to these weights, or a newer transformers"
            return MicotaError(f"its config.json describes no model: {self.refused}", where=str(self.folder), fix=fix)
        faults = (
            (self.missing, "missing from the weights"),
            (self.reshaped, "of another shape than its architecture has"),
            (self.retyped, "stored as something else than floating-point numbers"),
        )
        for names, what in faults:
            if names:
                why = "transformers would fill them with random numbers" if what != faults[2][1] else None
                if names is self.missing and self.extra:
                    why = f"{why}; the files hold {shortened(self.extra)} instead"
                fix = "copy or convert the model again; names and shapes must be those that save_pretrained writes"
                return MicotaError(f"{shortened(names)}: {what}", where=str(self.folder), why=why, fix=fix)
        return None

    def refuse(self) -> None:
        """Raise what is wrong, if anything is."""
        if error := self.error():
            raise error

    def remarks(self) -> list[str]:
        """What does not stop a run but should be known."""
        if unknown := self.unknown or self.refused:
            return [f"its weights were not compared with its architecture: {unknown}"]
        if self.is_stub:
            return [f"{len(self.missing)} of the {self.expected} tensors of its architecture are missing"]
        if not self.extra:
            return []
        are = "tensors are" if len(self.extra) > 1 else "tensor is"
        return [f"{len(self.extra)} {are} unknown to its architecture and not loaded: {shortened(self.extra)}"]


def shortened(names: Collection[str]) -> str:
    """The first names of many, and how many more there are."""
    first = ", ".join(list(names)[:SHOWN])
    return first if len(names) <= SHOWN else f"{first} and {len(names) - SHOWN} more"


def inspect(folder: Path, trust_remote_code: bool = False) -> Fit:
    """Compare the weights of a folder, by their headers, with the architecture that its config.json describes.

    Raises MicotaError if the files are damaged, or the folder holds no model.
    """
    refuse_adapter(folder)
    entries, config = Checkpoint(folder).entries, read_object(folder / CONFIG)
    check_size(config, folder, len(entries))
    if "quantization_config" in config:
        return Fit(folder, unknown="they are quantized")
    if _is_plain(config, entries):
        return Fit(folder, len(entries))
    return _compare(folder, entries, trust_remote_code)


def _is_plain(config: Mapping[str, Any], entries: Mapping[str, Entry]) -> bool:
    """Whether they are exactly those of a family whose names are known here: then torch need not be waited for."""
    family = None if any(map(config.get, ("auto_map", "mlp_bias", "text_config"))) else of_config(config)
    shapes = {name: entry.shape for name, entry in entries.items() if entry.is_float}
    return family is not None and len(shapes) == len(entries) and family.tensors == shapes


def _compare(folder: Path, entries: Mapping[str, Entry], trust_remote_code: bool) -> Fit:
    """transformers itself compares names and shapes: a load of weights that have both, and no memory."""
    import torch

    meta = {
        name: torch.empty(entry.shape, dtype=getattr(torch, entry.torch_dtype), device="meta")
        for name, entry in entries.items()
    }
    try:
        with _quiet():
            model = skeleton(folder, trust_remote_code)
            _, info = type(model).from_pretrained(
                None, config=model.config, state_dict=meta, device_map={"": "meta"}, **_REPORTING
            )
    except MicotaError:
        raise
    except Exception as error:  # a configuration is somebody else's text, an architecture somebody else's code
        foreign = trust_remote_code or any(word in str(error) for word in ("trust_remote_code", "Unrecognized config"))
        return Fit(folder, unknown=_line(error)) if foreign else Fit(folder, refused=_line(error))
    return _fit(folder, model, info, entries)


def load(folder: Path, trust_remote_code: bool = False, **options: Any) -> Any:
    """The causal language model in a folder, every tensor of it from the folder and finite; else a MicotaError.

    `options` are those of from_pretrained. The folder's generation config is not read.
    """
    import transformers

    options |= {"trust_remote_code": trust_remote_code, "generation_config": transformers.GenerationConfig()}
    with _quiet():
        model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, **options, **_REPORTING)
    _fit(folder, model, info, {}).refuse()
    _refuse_nan(folder, model)
    model.generation_config = transformers.GenerationConfig.from_model_config(model.config)
    return model


def skeleton(folder: Path, trust_remote_code: bool = False) -> Any:
    """The model that a folder describes, without memory for its weights; no file of weights is read."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)


def check_targets(folder: Path, targets: Sequence[str], trust_remote_code: bool = False) -> None:
    """Refuse adapters for modules that a model does not have, which peft leaves out where another one fits, and for
    those that are no layer of weights, such as a norm or a whole block."""
    if not targets:
        return
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    layers = nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv1D
    with _quiet():
        model = skeleton(folder, trust_remote_code)
    modules, idle = dict(model.named_modules()), without_adapter(model)
    leaves = {name for name, module in modules.items() if isinstance(module, layers)}
    known = sorted({name.rpartition(".")[2] for name in leaves.difference(idle)})
    for target in targets:
        found = {name for name in modules if name == target or name.endswith(f".{target}")}
        fix = f"lora: {{targets: [...]}} of {', '.join(known)}"
        if not found or found - leaves:
            kinds = {type(modules[name]).__name__ for name in found - leaves}
            what = f"the model has no module '{target}' for an adapter{', but a ' * bool(kinds)}{', '.join(kinds)}"
            raise MicotaError(what, where=str(folder), fix=f"{fix}; {suggestion(target, known)}")
        if found <= {*idle}:
            why = "a Mamba layer multiplies by its weight without calling it"
            raise MicotaError(f"an adapter on '{target}' would learn nothing", where=str(folder), why=why, fix=fix)


def without_adapter(model: Any) -> list[str]:
    """Linear layers whose weights the kernels of a Mamba layer read themselves: an adapter on one takes no part.

    On a CPU some of them are called; what is trained does not depend on the machine.
    """
    mixers = {
        name: module for name, module in model.named_modules() if hasattr(module, "A_log") and hasattr(module, "D")
    }
    return [f"{name}.{part}" for name, mixer in mixers.items() for part in READ_BY_KERNELS if hasattr(mixer, part)]


def refuse_adapter(folder: Path) -> None:
    """A folder with an adapter is no model: transformers would load the adapter's base from elsewhere, unasked."""
    if (folder / ADAPTER).is_file():
        base = read_object(folder / ADAPTER).get("base_model_name_or_path")
        raise MicotaError(
            "the folder holds a LoRA adapter, not a model",
            where=str(folder),
            why=f"{ADAPTER} is there" + (f": it belongs to {base}" if base else ""),
            fix=f"name it as a model of a recipe; or micota export {shlex.quote(str(folder))} MODEL, and take MODEL",
        )


def check_size(config: Mapping[str, Any], folder: Path, tensors: int) -> None:
    """A configuration of more layers than there are tensors is refused before anything of that size is built."""
    for name, count in config.items():
        if isinstance(count, dict):
            check_size(count, folder, tensors)
        elif isinstance(count, int) and count > (tensors if name in LAYERS else MANY if _COUNT.search(name) else count):
            what = f"config.json says {name}: {count}, the weights have {tensors} tensors"
            raise MicotaError(what, where=str(folder), fix="take the config.json that belongs to these weights")


_REPORTING: dict[str, Any] = {"output_loading_info": True, "ignore_mismatched_sizes": True}


def _fit(folder: Path, model: Any, info: Mapping[str, Any], entries: Mapping[str, Entry]) -> Fit:
    state = model.state_dict()
    floats = [name for name in entries if name in state and state[name].is_floating_point()]
    return Fit(
        folder,
        expected=len(state),
        missing=sorted(info["missing_keys"]),
        reshaped=[f"{name} {list(its)} for {list(ours)}" for name, its, ours in sorted(info["mismatched_keys"])],
        retyped=[f"{name} {entries[name].dtype}" for name in floats if not entries[name].is_float],
        extra=sorted(info["unexpected_keys"]),
    )


def _refuse_nan(folder: Path, model: Any) -> None:
    """The largest magnitude of a tensor is NaN or infinite if any of its numbers is."""
    import torch

    for name, weight in model.named_parameters():
        is_read = weight.is_floating_point() and weight.device.type != "meta" and weight.numel()
        if is_read and not torch.isfinite(torch.linalg.vector_norm(weight.detach(), torch.inf)):
            why = "its training has diverged, or the file is damaged"
            raise MicotaError(f"tensor {name} holds NaN or infinite numbers", where=str(folder), why=why)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' own report, which says less than the errors here, and its bars."""
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        logging.set_verbosity(level)
