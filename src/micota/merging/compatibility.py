"""May these models be merged? What differs between their folders, before a byte of weights is read.

A difference that would make the sum meaningless (architecture, tensor shapes, rotary settings, tied
embeddings, a vocabulary in another order) stops the merge. One that only needs a choice (end-of-sequence ids,
chat template, stored dtype) is returned as text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.merging.safetensor_files import Checkpoint, Entry

HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
_SHAPING = (
    *("architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "hidden_act", "rms_norm_eps", "use_sliding_window"),
)
_PASSING = (
    *("dtype", "torch_dtype", "transformers_version", "_name_or_path", "rope_theta", "rope_scaling"),
    *("rope_parameters", "tie_word_embeddings", "eos_token_id", "pad_token_id", "bos_token_id"),
)


def compare(base: Path, models: Sequence[Path]) -> list[str]:
    """Sentences about differences from the base that do no harm; one that does is a `MicotaError`."""
    findings: list[str] = []
    for model in models:
        found = _compare_configs(base, model) + _compare_weights(base, model)
        found += _compare_tokenizers(base, model) + _compare_text_settings(base, model)
        findings += [f"{model.name}: {finding}" for finding in found]
    return findings


def weights(folder: Path) -> tuple[Checkpoint, dict[str, Entry]]:
    """A folder's checkpoint, and the tensors in it that count: a tied model's stored copy of its head does
    not."""
    checkpoint = Checkpoint(folder)
    entries = dict(checkpoint.entries)
    if HEAD in entries and EMBEDDING in entries and _is_tied(folder, checkpoint):
        _check_copy(checkpoint)
        del entries[HEAD]
    return checkpoint, entries


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; {} if the file is not there."""
    if not file.is_file():
        return {}
    try:
        value: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return dict(value)
    except (ValueError, TypeError) as error:
        raise MicotaError(f"{file.name} is not a JSON object", where=str(file), why=str(error)) from error


def _is_tied(folder: Path, checkpoint: Checkpoint) -> bool:
    flag = read_json(folder / "config.json").get("tie_word_embeddings")
    return bool(flag) if flag is not None else HEAD not in checkpoint.entries


def _check_copy(checkpoint: Checkpoint) -> None:
    import numpy as np

    head, embedding = checkpoint[HEAD], checkpoint[EMBEDDING]
    same = (head.dtype, head.shape) == (embedding.dtype, embedding.shape)
    for start in range(0, head.numel if same else 0, 2**20):
        stop = min(start + 2**20, head.numel)
        values, copy = (checkpoint.block(name, start, stop) for name in (HEAD, EMBEDDING))
        same = same and np.array_equal(values, copy)
    if not same:
        why = f"config.json ties it to {EMBEDDING}, but the file holds other values"
        raise MicotaError(f"tensor {HEAD} contradicts config.json", where=str(checkpoint.folder), why=why)


def _compare_weights(base: Path, model: Path) -> list[str]:
    (reference, expected), (other, found) = weights(base), weights(model)
    if _is_tied(base, reference) != _is_tied(model, other):
        tied = base if _is_tied(base, reference) else model
        raise MicotaError("one model ties its embeddings, the other has a head of its own", where=f"tied: {tied}")
    for name in sorted(expected.keys() | found.keys()):
        if name not in found or name not in expected:
            here, there = (model, base) if name in expected else (base, model)
            raise MicotaError(f"tensor {name} is missing", where=str(here), why=f"{there} has it")
        _compare_shapes(name, expected[name].shape, found[name].shape, model)
    pairs = sorted({(found[name].dtype, entry.dtype) for name, entry in expected.items()})
    return [f"stored as {its} where the base has {ours}, which is kept" for its, ours in pairs if its != ours]


def _compare_shapes(name: str, expected: tuple[int, ...], found: tuple[int, ...], model: Path) -> None:
    if expected == found:
        return
    fix = None
    if name in (HEAD, EMBEDDING) and expected[1:] == found[1:]:
        fix = "give both the same number of vocabulary rows first: rows are never cut or added here"
    shapes = f"tensor {name} is {list(found)}, in the base {list(expected)}"
    raise MicotaError(shapes, where=str(model), why="only models of one shape can be added up", fix=fix)


def _compare_configs(base: Path, model: Path) -> list[str]:
    ours, theirs = (read_json(folder / "config.json") for folder in (base, model))
    for folder, config in ((base, ours), (model, theirs)):
        if not config:
            raise MicotaError("no config.json: the architecture is unknown", where=str(folder))
    shared = ours.keys() & theirs.keys()
    for key in _SHAPING:
        if key in shared and ours[key] != theirs[key]:
            what = f"{key} is {theirs[key]}, in the base {ours[key]}"
            raise MicotaError(what, where=str(model), why="the same numbers mean another function there")
    rope, other_rope = _rope(ours), _rope(theirs)
    if rope != other_rope:
        what = f"rotary positions are {other_rope}, in the base {rope}"
        raise MicotaError(what, where=str(model), why="the same numbers mean another function there")
    plain = sorted(shared - {*_SHAPING, *_PASSING})
    return [f"{key} is {theirs[key]}, in the base {ours[key]}" for key in plain if ours[key] != theirs[key]]


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings in one spelling: transformers 4 and 5 write them under different keys."""
    settings = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    settings.setdefault("rope_type", settings.pop("type", "default"))
    settings.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    return settings


def _compare_tokenizers(base: Path, model: Path) -> list[str]:
    """Ordinary tokens must keep their ids; a renamed special token is a finding."""
    files = [folder / "tokenizer.json" for folder in (base, model)]
    if not all(file.is_file() for file in files):
        return ["tokenizers not compared: not both folders have a tokenizer.json"]
    if files[0].read_bytes() == files[1].read_bytes():
        return []
    ours, theirs = (read_json(file) for file in files)
    expected, found = (tokenizer.get("model", {}).get("vocab", {}) for tokenizer in (ours, theirs))
    if expected != found:
        raise MicotaError("its tokens have other ids than the base's", where=str(files[1]),
                          why="embedding rows of different tokens would be added up")  # fmt: skip
    special, other = ({t["id"]: t["content"] for t in x.get("added_tokens", [])} for x in (ours, theirs))
    changed = [i for i in sorted(special.keys() | other.keys()) if special.get(i) != other.get(i)]
    return [f"special token {i} is {other.get(i)!r}, in the base {special.get(i)!r}" for i in changed]


def check_ends(like: Sequence[tuple[str, Path]], inputs: Sequence[Path]) -> None:
    """A merged model must stop where its models stop: refuses to take the end token from the one that differs.

    `like` are the folders that the files are taken from, `inputs` the base and the models.
    """
    base, *models = inputs
    if like[0][1] != base:
        return
    taken = _id(base, "eos_token_id")
    for model in models:
        end = _id(model, "eos_token_id")
        if end is not None and not _as_set(end) <= _as_set(taken):
            raise MicotaError(
                f"the merged model would stop at {taken}, as its base does; {model.name} stops at {end}: it never ends",
                where=str(base),
                why="config, tokenizer and generation config would be the base's",
                fix=f"tokenizer_source: {model}",
            )


def _as_set(ids: Any) -> set[Any]:
    return set(ids) if isinstance(ids, list) else {ids}


def _compare_text_settings(base: Path, model: Path) -> list[str]:
    findings = []
    for key in ("eos_token_id", "pad_token_id"):
        ours, theirs = _id(base, key), _id(model, key)
        if ours != theirs:
            findings.append(f"{key} is {theirs}, in the base {ours}")
    if _template(base) != _template(model):
        findings.append("the chat template is not the base's")
    ours, theirs = (read_json(folder / "generation_config.json") for folder in (base, model))
    for key in sorted((ours.keys() | theirs.keys()) - {*_PASSING, "_from_model_config"}):
        if ours.get(key) != theirs.get(key):
            findings.append(f"generation config: {key} is {theirs.get(key)}, in the base {ours.get(key)}")
    return findings + _padding(model)


def _padding(folder: Path) -> list[str]:
    """Rows of the embedding that no token has are padding, and are kept; a token without a row is an error."""
    tokenizer, embedding = read_json(folder / "tokenizer.json"), Checkpoint(folder).entries.get(EMBEDDING)
    vocabulary = tokenizer.get("model", {}).get("vocab", {})
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
    ids += [token["id"] for token in tokenizer.get("added_tokens", [])]
    if not ids or embedding is None:
        return []
    if (unused := embedding.shape[0] - max(ids) - 1) < 0:
        what = f"its tokenizer has ids up to {max(ids)}, its embedding {embedding.shape[0]} rows"
        raise MicotaError(what, where=str(folder), why="tokens without a row cannot be read")
    return [f"{unused} rows of its embedding have no token: padding, which is kept"] if unused else []


def _id(folder: Path, key: str) -> Any:
    generation, config = (read_json(folder / name) for name in ("generation_config.json", "config.json"))
    return generation.get(key, config.get(key))


def _template(folder: Path) -> Any:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    return read_json(folder / "tokenizer_config.json").get("chat_template")
