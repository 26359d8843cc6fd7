"""May these models be merged? What differs between their folders, before a byte of weights is read.

A difference that would make the sum meaningless (architecture, tensor shapes, rotary settings, tied embeddings, a
vocabulary in another order) stops the merge. One that only needs a choice (end-of-sequence ids, chat template, stored
dtype) is returned as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.merging.model_files import CONFIG, GENERATION, read_object
from micota.merging.safetensor_files import Checkpoint, Entry
from micota.merging.settings import Settings

HEAD = "lm_head.weight"
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
"""How the name of the input embedding ends, by architecture."""
_DERIVED = re.compile(r"^(model\.)?mtp\.|(^|\.)(rotary_emb\.inv_freq|masked_bias|attn\.bias|v_head\.)")
"""Buffers that follow from the configuration, and heads for other tasks: a language model has no use for them."""
_SHAPING = (
    *("architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "hidden_act", "rms_norm_eps", "use_sliding_window"),
    *("n_head", "hidden_activation", "activation_function", "layer_norm_eps", "layer_norm_epsilon", "layer_types"),
    *("num_experts_per_tok", "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"),
    *("logit_scale", "logits_scaling", "embedding_multiplier", "residual_multiplier", "attention_multiplier"),
)
_PASSING = (
    *("dtype", "torch_dtype", "transformers_version", "_name_or_path", "rope_theta", "rope_scaling"),
    *("rope_parameters", "tie_word_embeddings", "eos_token_id", "pad_token_id", "bos_token_id"),
)


class ModelFolder:
    """What the files of a model folder say; each is read once, and only when it is needed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; one that is missing is a `MicotaError`."""
        config = read_object(self.path / CONFIG)
        if not config:
            raise MicotaError("no config.json: the architecture is unknown", where=str(self.path))
        return config

    @cached_property
    def meaning(self) -> dict[str, Any]:
        """config.json as transformers reads it, whatever version wrote it; {} if it does not know the architecture."""
        import transformers

        try:
            return dict(transformers.AutoConfig.from_pretrained(self.path, trust_remote_code=False).to_dict())
        except Exception:  # a configuration is somebody else's text
            return {}

    @cached_property
    def generation(self) -> dict[str, Any]:
        """generation_config.json, which a folder need not have."""
        return read_object(self.path / GENERATION)

    @cached_property
    def tokenizer(self) -> dict[str, Any]:
        """tokenizer.json, which a folder need not have."""
        return read_object(self.path / "tokenizer.json")

    @property
    def template(self) -> Any:
        """The chat template; None if there is none."""
        file = self.path / "chat_template.jinja"
        if file.is_file():
            return file.read_text(encoding="utf-8")
        return read_object(self.path / "tokenizer_config.json").get("chat_template")

    def token(self, key: str) -> Any:
        """A special token's id or ids, by its key in the configurations."""
        return self.generation.get(key, read_object(self.path / CONFIG).get(key))

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """The weights, a tied model's stored copy of its head among them."""
        return Checkpoint(self.path)

    @property
    def embedding(self) -> str | None:
        """The name of the input embedding."""
        return next((name for name in self.checkpoint.entries if name.endswith(EMBEDDINGS)), None)

    @cached_property
    def is_tied(self) -> bool:
        """Whether the embedding is also the head: where the configuration does not say it, by the values."""
        flag = read_object(self.path / CONFIG).get("tie_word_embeddings")
        return bool(flag) if flag is not None else HEAD not in self.checkpoint.entries or self._head_is_a_copy()

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """The tensors that count: a tied model's stored copy of its head, which must be one, does not."""
        entries = dict(self.checkpoint.entries)
        if HEAD in entries and self.embedding and self.is_tied:
            if not self._head_is_a_copy():
                why = f"config.json ties it to {self.embedding}, but the file holds other values"
                raise MicotaError(f"tensor {HEAD} contradicts config.json", where=str(self.path), why=why)
            del entries[HEAD]
        return entries

    def is_extra(self, name: str) -> bool:
        """Whether the architecture does without a tensor: buffers, other heads, layers behind the last."""
        layer, layers = re.match(r"model\.layers\.(\d+)\.", name), self.config.get("num_hidden_layers")
        beyond = layer is not None and isinstance(layers, int) and int(layer[1]) >= layers
        return beyond or bool(_DERIVED.search(name))

    def _head_is_a_copy(self) -> bool:
        import numpy as np

        if self.embedding is None:
            return False
        weights = self.checkpoint
        head, embedding = weights[HEAD], weights[self.embedding]
        if (head.dtype, head.shape) != (embedding.dtype, embedding.shape):
            return False
        for start in range(0, head.numel, 2**20):
            stop = min(start + 2**20, head.numel)
            ours, copy = (weights.block(entry.name, start, stop) for entry in (head, embedding))
            if not np.array_equal(ours, copy):
                return False
        return True


def compare(base: Path, models: Sequence[Path]) -> list[str]:
    """Sentences about differences from the base that do no harm; one that does is a `MicotaError`."""
    reference, findings = ModelFolder(base), []
    for path in models:
        model = ModelFolder(path)
        for check in (_compare_configs, _compare_weights, _compare_tokenizers, _compare_text_settings):
            findings += [f"{path.name}: {finding}" for finding in check(reference, model)]
        findings += [f"{path.name}: {finding}" for finding in padding(model)]
    return findings


def checkpoints(base: ModelFolder, models: Sequence[Path]) -> list[Checkpoint]:
    """The weights of the base and of models that were compared with it. What only the base has stands in all of them:
    a merge keeps it as it is."""
    inputs = [base.checkpoint, *map(Checkpoint, models)]
    for model in inputs[1:]:
        model.entries = base.entries | model.entries
    return inputs


def kept(inputs: Sequence[Checkpoint]) -> dict[str, Settings]:
    """For tensors that only the base has, settings by which they stay as they are, bit for bit."""
    base, *models = (source.entries for source in inputs)
    same = Settings("task_arithmetic", (0.0,) * len(models))
    return {name: same for name, entry in base.items() if all(model.get(name) is entry for model in models)}


def check_ends(like: Sequence[tuple[str, Path]], inputs: Sequence[Path]) -> None:
    """A merged model must stop where its models stop: an end-of-sequence token that differs from theirs is an error.

    `like` are the folders that the files are taken from, `inputs` the base and the models.
    """
    base, *models = inputs
    if like[0][1] != base:
        return
    taken = ModelFolder(base).token("eos_token_id")
    for model in models:
        end = ModelFolder(model).token("eos_token_id")
        if end is not None and not _as_set(end) <= _as_set(taken):
            raise MicotaError(
                f"the merged model would stop at {taken}, as its base does; {model.name} stops at {end}: it never ends",
                where=str(base),
                why="config, tokenizer and generation config would be the base's",
                fix=f"tokenizer_source: {model}",
            )


def _as_set(ids: Any) -> set[Any]:
    return set(ids) if isinstance(ids, list) else {ids}


def _compare_weights(base: ModelFolder, model: ModelFolder) -> list[str]:
    expected, entries = base.entries, model.entries
    if base.is_tied != model.is_tied:
        tied = base if base.is_tied else model
        raise MicotaError("one model ties its embeddings, the other has a head of its own", where=f"tied: {tied.path}")
    for name in sorted(expected.keys() ^ entries.keys()):
        here, there = (model, base) if name in expected else (base, model)
        if not base.is_extra(name):
            raise MicotaError(f"tensor {name} is missing", where=str(here.path), why=f"{there.path} has it")
    shared = [name for name in expected if name in entries]
    for name in shared:
        _compare_shapes(name, expected[name].shape, entries[name].shape, base.path, model.path)
    pairs = sorted({(entries[name].dtype, expected[name].dtype) for name in shared})
    findings = [f"stored as {its} where the base has {ours}, which is kept" for its, ours in pairs if its != ours]
    alone = (("only the base has, and which are taken from it", expected, entries), ("are left out", entries, expected))
    sets = [(how, sorted(having.keys() - lacking.keys())) for how, having, lacking in alone]
    return findings + [f"{len(names)} tensors that {how}: {', '.join(names[:4])}" for how, names in sets if names]


def _compare_shapes(name: str, expected: tuple[int, ...], shape: tuple[int, ...], base: Path, model: Path) -> None:
    if expected == shape:
        return
    fix = None
    if name.endswith((HEAD, "lm_head.bias", "embed_out.weight", *EMBEDDINGS)) and expected[1:] == shape[1:]:
        rows, small = max(expected[0], shape[0]), base if expected[0] < shape[0] else model
        fix = f"micota pad {small} {small.name}-{rows} --rows {rows}, and merge {small.name}-{rows} in its place"
    shapes = f"tensor {name} is {list(shape)}, in the base {list(expected)}"
    raise MicotaError(shapes, where=str(model), why="only models of one shape can be added up", fix=fix)


def _compare_configs(base: ModelFolder, model: ModelFolder) -> list[str]:
    """By meaning where the texts differ: transformers 4 and 5 spell the same settings in other ways, or omit them."""
    ours, theirs = _language(base.config), _language(model.config)
    is_plain = (ours.keys() ^ theirs.keys()).isdisjoint(_SHAPING) and not list(_shaping(ours, theirs))
    if not is_plain and base.meaning and model.meaning:
        ours, theirs = _language(base.meaning), _language(model.meaning)
    for what, value, expected in _shaping(ours, theirs):
        why = "the same numbers mean another function there"
        raise MicotaError(f"{what} {value}, in the base {expected}", where=str(model.path), why=why)
    plain = (ours.keys() & theirs.keys()) - {*_SHAPING, *_PASSING}
    return _differences({key: ours[key] for key in plain}, {key: theirs[key] for key in plain})


def _language(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with that of its language model, which stands below it in models that also see or hear."""
    own = {key: value for key, value in config.items() if key != "text_config"}
    text = config.get("text_config") or {}
    return own | {key: value for key, value in text.items() if key not in ("architectures", "model_type")}


def _shaping(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """What shapes the function and differs: in words, there, and in the base."""
    shared = [(f"{key} is", theirs[key], ours[key]) for key in _SHAPING if key in ours and key in theirs]
    both = (*shared, ("rotary positions are", _rope(theirs), _rope(ours)))
    return (each for each in both if each[1] != each[2])


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings in one spelling: transformers 4 and 5 write them under different keys."""
    settings = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    settings.setdefault("rope_type", settings.pop("type", "default"))
    settings.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    return settings


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    keys = sorted(ours.keys() | theirs.keys())
    return [f"{k} is {theirs.get(k)}, in the base {ours.get(k)}" for k in keys if ours.get(k) != theirs.get(k)]


def _compare_tokenizers(base: ModelFolder, model: ModelFolder) -> list[str]:
    """Ordinary tokens must keep their ids; a renamed special token is a finding."""
    files = [folder.path / "tokenizer.json" for folder in (base, model)]
    if not all(file.is_file() for file in files):
        return ["tokenizers not compared: not both folders have a tokenizer.json"]
    if files[0].read_bytes() == files[1].read_bytes():
        return []
    if _vocabulary(base) != _vocabulary(model):
        why = "embedding rows of different tokens would be added up"
        raise MicotaError("its tokens have other ids than the base's", where=str(files[1]), why=why)
    special, other = ({t["id"]: t["content"] for t in x.tokenizer.get("added_tokens", [])} for x in (base, model))
    changed = [i for i in sorted(special.keys() | other.keys()) if special.get(i) != other.get(i)]
    return [f"special token {i} is {other.get(i)!r}, in the base {special.get(i)!r}" for i in changed]


def _vocabulary(folder: ModelFolder) -> Any:
    """A dict token -> id, or a list of tokens."""
    return folder.tokenizer.get("model", {}).get("vocab", {})


def _compare_text_settings(base: ModelFolder, model: ModelFolder) -> list[str]:
    tokens = ("eos_token_id", "pad_token_id")
    findings = _differences({key: base.token(key) for key in tokens}, {key: model.token(key) for key in tokens})
    if base.template != model.template:
        findings.append("the chat template is not the base's")
    settings = [
        {key: value for key, value in folder.generation.items() if key not in (*_PASSING, "_from_model_config")}
        for folder in (base, model)
    ]
    return findings + [f"generation config: {difference}" for difference in _differences(*settings)]


def padding(model: ModelFolder) -> list[str]:
    """Rows of the embedding that no token has are padding, and are kept; a token without a row is an error."""
    vocabulary, embedding = _vocabulary(model), model.checkpoint.entries.get(model.embedding or "")
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else list(range(len(vocabulary)))
    ids += [token["id"] for token in model.tokenizer.get("added_tokens", [])]
    if not ids or embedding is None:
        return []
    if (unused := embedding.shape[0] - max(ids) - 1) < 0:
        what = f"its tokenizer has ids up to {max(ids)}, its embedding {embedding.shape[0]} rows"
        raise MicotaError(what, where=str(model.path), why="tokens without a row cannot be read")
    return [f"{unused} rows of its embedding have no token: padding, which is kept"] if unused else []
