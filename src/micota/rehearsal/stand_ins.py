"""Tiny models in the place of large ones: the same architecture, two layers, random weights.

What decides whether models go together is kept: sizes that differ stay different, tied embeddings stay tied, and the
embedding has as many rows more than the tokenizer has tokens. The tokenizer, its template and the generation config are
the model's own wherever they can be had.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.architectures import KNOWN
from micota.errors import MicotaError
from micota.merging.model_files import copy_model_files
from micota.rehearsal import stand_in_tokenizer as bytewise
from micota.specs import Source, sha
from micota.store.resolution import ENDPOINT, content_hash, fetch_tokenizer

SMALL = 16 * 2**20  # bytes: a model of so few weights stands for itself
TOKENS = 151_665  # of Qwen2.5's tokenizer: what its embedding has more is padding
UNKNOWN = KNOWN["Qwen/Qwen2.5-1.5B-Instruct"]
LISTS = ("layer_types", "mlp_only_layers")
WIDTHS = {"hidden_size": 1024, "n_embd": 1024, "intermediate_size": 128, "moe_intermediate_size": 128, "n_inner": 128}
"""What makes a layer wide, and by how much it is divided."""
HEADS = (("num_attention_heads", "num_key_value_heads"), ("n_head", ""))
NEEDED = ("config.json", "tokenizer_config.json", "tokenizer.json")
EXPERTS = {"num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2}


@dataclass(frozen=True)
class StandIn:
    """Who plays a model: the source that takes its place, and what of the real one was at hand."""

    source: Source
    folder: Path
    shape: str
    tokenizer: str


def stand_in_for(real: Source, folder: Path, online: bool, trust: bool, deep: bool = False) -> StandIn:
    """The stand-in of a model, in `folder`; a local model that is tiny stands for itself. `deep`: with all layers."""
    if real.path and _weights(Path(real.path)) <= SMALL:
        return StandIn(real, Path(real.path), "its own weights", "real")
    files = _files(real, online)
    folder.mkdir(parents=True, exist_ok=True)
    if files is None:
        config, shape = _guessed(real.ref)
        _stand_in_tokenizer(real.ref, folder, config)
    else:
        config, shape = json.loads((files / "config.json").read_text(encoding="utf-8")), "its config.json"
        copy_model_files(files, folder)
        for code in files.glob("*.py"):
            shutil.copyfile(code, folder / code.name)
    (folder / "config.json").write_text(json.dumps(smaller(config, None if deep else 2)))
    _draw_weights(real, folder, trust)
    source = Source(ref=real.ref, revision=content_hash(folder), path=str(folder))
    return StandIn(source, folder, shape, "real" if files else "stand-in")


def smaller(config: dict[str, Any], layers: int | None = 2) -> dict[str, Any]:
    """A configuration with so many narrow layers, or all; widths that differ give widths that differ."""
    made = dict(config)
    for name, by in WIDTHS.items():
        if isinstance(config.get(name), int):
            made[name] = 8 * (1 + config[name] // by) if by == 1024 else 8 + config[name] // by
    for many, few in HEADS:
        if many in config:
            made[many] = 2
            made |= {few: 2 if config.get(few) in (None, config[many]) else 1} if few else {}
    for name in ("num_hidden_layers", "n_layer", "max_window_layers"):
        made |= {name: layers} if layers and name in config else {}
    made |= {name: most for name, most in EXPERTS.items() if config.get(name)}
    made |= {name: config[name][:layers] for name in LISTS if isinstance(config.get(name), list)}
    if made.pop("head_dim", None):
        made["head_dim"] = made.get("hidden_size", 16) // 2
    return made | {"use_cache": True}


def _files(real: Source, online: bool) -> Path | None:
    """A folder with the real configuration and tokenizer; None where they cannot be had."""
    if real.ref.startswith(ENDPOINT):
        return None
    if real.path is None and not online:
        return _cached(real)
    try:
        folder = fetch_tokenizer(real)
    except Exception:  # no access, no such revision: what the Hub may say is open-ended, and a stand-in goes on
        return None
    return folder if folder and all((folder / name).is_file() for name in NEEDED[:2]) else None


def _cached(real: Source) -> Path | None:
    """The folder of a model of the Hub in the cache here, if it has what a rehearsal needs."""
    from huggingface_hub import try_to_load_from_cache

    found = [try_to_load_from_cache(real.ref, name, revision=real.revision) for name in NEEDED]
    return Path(found[0]).parent if all(isinstance(one, str) for one in found) else None


def _weights(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _guessed(ref: str) -> tuple[dict[str, Any], str]:
    """The configuration of a known model, or that of Qwen2.5 where nothing is known."""
    shape = KNOWN.get(ref, UNKNOWN)
    config = {"architectures": ["Qwen2ForCausalLM"], **shape.config, "dtype": "bfloat16"}
    return config, "published" if ref in KNOWN else "guessed: Qwen2.5"


def _stand_in_tokenizer(ref: str, folder: Path, config: dict[str, Any]) -> None:
    """Save the stand-in tokenizer, and give the configuration its size: the padding stays what it was."""
    from transformers import GenerationConfig

    made = bytewise.build(ref)
    made.save_pretrained(folder)
    end, pad = made.eos_token_id, made.pad_token_id
    GenerationConfig(eos_token_id=[end, pad], pad_token_id=pad).save_pretrained(folder)
    config |= {"vocab_size": len(made) + config["vocab_size"] - TOKENS, "eos_token_id": end, "pad_token_id": pad}


def _draw_weights(real: Source, folder: Path, trust: bool) -> None:
    """Random weights, the same at every call for a model of this name."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(int(sha(real.ref), 16) % 2**31)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=trust)
    except (ValueError, ImportError, KeyError, RuntimeError, TypeError) as error:
        cause = str(error).splitlines()[0]
        raise MicotaError(f"{real.ref}: no tiny model of its architecture can be made: {cause}") from error
    written = (folder / "generation_config.json").read_bytes() if (folder / "generation_config.json").is_file() else b""
    model.save_pretrained(folder)
    if written:
        (folder / "generation_config.json").write_bytes(written)
