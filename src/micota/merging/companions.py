"""What a model folder holds beside its weights: config, tokenizer, chat templates, generation config."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from micota.merging.compatibility import read_json
from micota.merging.safetensor_files import Entry
from micota.merging.shards import write_json

CONFIG, GENERATION = "config.json", "generation_config.json"
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"),
)
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")


def copy_companions(source: Path, out: Path) -> None:
    """Copy what a model folder holds beside weights and config.json: tokenizer, templates, generation config."""
    for name in _present(source, (*_TOKENIZER, *_TEMPLATES, GENERATION)):
        _copy(source / name, out / name, "")


def end_tokens(folder: Path, tokenizer: Any, trust_remote_code: bool = False) -> list[int]:
    """The tokens that end a response of the model in a folder, as `from_pretrained` would find them."""
    import transformers

    from micota.chat import eos_ids

    try:
        config = transformers.GenerationConfig.from_pretrained(folder)
    except OSError:  # a model need not have one
        read = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        config = transformers.GenerationConfig.from_model_config(read)
    return eos_ids(config, tokenizer)


def write_companions(out: Path, folders: Sequence[tuple[str, Path]], entries: Sequence[Entry]) -> dict[str, str]:
    """Copy what is not a weight from the first folder that has it, config.json last and with the weights' dtype: that
    of the largest of `entries`.

    The tokenizer and its templates come from one folder, as a whole. Returns file -> label of its folder.
    """
    dtype = max(entries, key=lambda entry: entry.numel).torch_dtype
    sources: dict[str, str] = {}
    for telling, others in ((_TOKENIZER, _TEMPLATES), ((GENERATION,), ()), ((CONFIG,), ())):
        found = [(label, folder) for label, folder in folders if _present(folder, telling)]
        for label, folder in found[:1]:
            for name in _present(folder, telling + others):
                _copy(folder / name, out / name, dtype)
                sources[name] = label
    return sources


def _copy(source: Path, target: Path, dtype: str) -> None:
    if target.name != CONFIG:
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        return
    config = read_json(source)  # transformers before 4.56 called the key torch_dtype
    key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
    write_json(target, config | {key: dtype})


def _present(folder: Path, patterns: Sequence[str]) -> list[str]:
    files = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
    return [file.relative_to(folder).as_posix() for file in files]
