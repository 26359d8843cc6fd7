"""What a model folder holds beside its weights: config, tokenizer, templates, processors, generation config, code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from micota.atomic import write_text
from micota.errors import MicotaError
from micota.merging.safetensor_files import Entry

CONFIG, GENERATION = "config.json", "generation_config.json"
_VOCABULARY = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken", "tekken.json")
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.*", "merges.txt", "*.model", "*.tiktoken", "tekken.json"),
)
_CHAT = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")
_PROCESSOR = "*processor_config.json"
_TEMPLATES = (*_CHAT, _PROCESSOR)
CODE = "*.py"
"""The model's own code, which transformers runs only with trust_remote_code."""


def read_object(file: Path) -> dict[str, Any]:
    """A JSON object; {} if the file is not there, a `MicotaError` if it holds anything else."""
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise MicotaError(f"{file.name} is not a JSON object", where=str(file), why=str(error)) from error


def write_object(file: Path, value: dict[str, Any]) -> None:
    """Write a JSON object, its keys in their own order, whole or not at all."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def copy_model_files(source: Path, out: Path) -> None:
    """Copy what a model folder holds beside weights and config.json."""
    for name in _present(source, (*_TOKENIZER, *_TEMPLATES, GENERATION, CODE)):
        _copy(source / name, out / name, "", dict)


def copy_tokenizer(source: Path, out: Path) -> None:
    """Put the tokenizer and chat template that a folder has, if any, into a model folder in place of what is there.

    A tokenizer with its vocabulary replaces tokenizer and templates as a whole; else a template replaces templates.
    """
    old: tuple[str, ...] = ()
    if _present(source, _CHAT) or "chat_template" in read_object(source / "tokenizer_config.json"):
        old = _CHAT
    if _present(source, _VOCABULARY):
        old = (*_TOKENIZER, *_CHAT)
    for name in _present(out, old):
        (out / name).unlink()
    for name in _present(source, (*_TOKENIZER, *_TEMPLATES)):
        _copy(source / name, out / name, "", dict)


def write_model_files(
    out: Path,
    folders: Sequence[tuple[str, Path]],
    entries: Sequence[Entry],
    change: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> dict[str, str]:
    """Copy what is not a weight from the first of `folders` (label, folder) that has it; returns file -> label.

    The tokenizer, its templates and processors come from one folder, as a whole, and so do config.json and the model's
    code. config.json is the last, as `change` makes it, and its dtype is that of the largest of `entries`, the weights.
    """
    dtype = max(entries, key=lambda entry: entry.numel).torch_dtype
    sources: dict[str, str] = {}
    texts, settings, model = (*_TOKENIZER, *_TEMPLATES), (GENERATION,), (CODE, CONFIG)
    for telling, names in ((_TOKENIZER, texts), (settings, settings), ((CONFIG,), model)):
        for label, folder in [place for place in folders if _present(place[1], telling)][:1]:
            for name in _present(folder, names):
                _copy(folder / name, out / name, dtype, change)
                sources[name] = label
    return sources


def _copy(source: Path, target: Path, dtype: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    if target.name != CONFIG:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return
    config = change(read_object(source))  # transformers before 4.56 called the key torch_dtype
    key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
    write_object(target, config | {key: dtype})


def _present(folder: Path, patterns: Sequence[str]) -> list[str]:
    files = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
    return [file.relative_to(folder).as_posix() for file in files]
