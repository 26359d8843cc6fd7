"""mergekit's YAML, with mergekit's meaning and defaults: which models, and which settings for each tensor.

A parameter is looked up in the model's own `parameters`, then in the global ones. Its value is a scalar, a list (a
gradient over the layers, with linear interpolation), or a list of {filter, value}, of which the first counts whose
filter is part of the tensor's name. The embedding, the last norm and the head stand at the beginning of a gradient.
What is not supported is an error that names it. https://github.com/arcee-ai/mergekit describes the format; parity is
checked against version 0.1.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from micota.errors import MicotaError, suggestion
from micota.merging.buffers import FLOATS
from micota.merging.settings import METHODS, RESCALES, Method, Rescale, Settings

Scalar = bool | int | float | str
T = TypeVar("T", bool, float)
TOP = ("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype", "tokenizer_source",
       "tokenizer", "name")  # fmt: skip
SHARED = ("normalize", "rescale", "lambda", "int8_mask", "t")
OWN = ("weight", "density")
_LAYER = re.compile(r"(?:^|\.)(\d+)\.")


@dataclass(frozen=True)
class Config:
    """A merge as the YAML describes it; the models' references are as written there."""

    method: Method
    base: str
    models: tuple[str, ...]
    """All inputs of the arithmetic besides the base; in linear those that are averaged, the base among them."""
    dtype: str | None
    """What is written; None is what the base is stored in. Arithmetic is in fp32 whatever this says."""
    tokenizer: str
    """The model whose tokenizer, configs and templates are taken."""
    parameters: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]
    where: str
    layers: int | None = None
    """How many layers the configuration says that the models have, if it says so."""

    def settings(self, tensor: str, layers: int, seed: int) -> Settings:
        """The settings of one tensor of a model with so many layers."""
        at = _position(tensor, layers)
        shared = {key: self._value(key, tensor, at) for key in SHARED}
        if self.method == "slerp":
            return Settings("slerp", (self._needed("t", shared["t"], tensor),), seed=seed)
        weights = [self._needed("weight", self._value("weight", tensor, at, model), tensor) for model in self.models]
        densities = [self._value("density", tensor, at, model) for model in self.models]
        normalize = shared["normalize"]
        return Settings(
            self.method,
            tuple(weights),
            tuple(1.0 if density is None else self._as(float, "density", density) for density in densities),
            1.0 if shared["lambda"] is None else self._as(float, "lambda", shared["lambda"]),
            self._rescale(shared["rescale"]),
            None if normalize is None else self._as(bool, "normalize", normalize),
            seed,
        )

    def _value(self, key: str, tensor: str, at: float, model: str = "") -> Scalar | None:
        for scope in (self.own.get(model, {}), self.parameters):
            if key in scope and (value := _evaluate(scope[key], tensor, at, f"{self.where}, {key}")) is not None:
                return value
        return None

    def _needed(self, key: str, value: Scalar | None, tensor: str) -> float:
        if value is None:
            raise MicotaError(f"no {key} is given for tensor {tensor}", where=self.where, fix=f"parameters: {key}: 0.5")
        return self._as(float, key, value)

    def _as(self, kind: type[T], key: str, value: Scalar) -> T:
        """A number or a truth value; words such as `no` and `off` are truth values to mergekit's YAML."""
        word = str(value).lower()
        try:
            if kind is float:
                return kind(value)
            return kind(("no", "off", "n", "false", "0", "yes", "on", "y", "true", "1").index(word) > 4)
        except (ValueError, OverflowError):
            what = f"{key} {value!r} is no {'number' if kind is float else 'truth value'}"
            raise MicotaError(what, where=self.where, fix=f"{key}: {'0.5' if kind is float else 'false'}") from None

    def _rescale(self, value: Any) -> Rescale:
        """mergekit's true is l1 and the default of its dare methods; a word is micota's own extension."""
        if value in RESCALES:
            return cast(Rescale, value)
        default = self.method in ("dare_linear", "dare_ties")
        try:
            return "l1" if (default if value is None else self._as(bool, "rescale", value)) else "none"
        except MicotaError:
            fix = suggestion(str(value), RESCALES)
            raise MicotaError(f"rescale: {value} is unknown", where=self.where, fix=fix) from None


def read(value: Any, where: str) -> Config:
    """A configuration from the plain value of its YAML; anything that is not supported is a MicotaError."""
    if not isinstance(value, dict):
        raise MicotaError("a merge configuration is a mapping", where=where, fix="merge_method: dare_ties")
    _refuse_unknown(value, TOP, where)
    method = value.get("merge_method")
    if method not in METHODS:
        fix = suggestion(str(method), METHODS)
        raise MicotaError(f"merge_method {method} is not supported", where=where, fix=fix)
    listed = _models(value, where)
    base = value.get("base_model") or (listed[0][0] if method == "linear" else None)
    if not isinstance(base, str):
        raise MicotaError(f"{method} needs a base_model", where=where, fix="base_model: FOLDER")
    names = [name for name, _ in listed]
    models = names + ([base] if base not in names else []) if method == "linear" else [n for n in names if n != base]
    if len(set(models)) != len(models) or not models:
        raise MicotaError("name each model once, and one besides the base", where=f"{where}, models")
    parameters = value.get("parameters") or {}
    _refuse_unknown(parameters, (*SHARED, *OWN), f"{where}, parameters")
    tokenizer, dtype = _tokenizer(value, base, names, where), _dtype(value, where)
    config = Config(cast(Method, method), base, tuple(models), dtype, tokenizer, parameters, dict(listed), where,
                    _layers(value, where))  # fmt: skip
    if method == "slerp" and (idle := {*OWN} & {*parameters, *(key for _, own in listed for key in own)}):
        fix = "parameters: {t: 0.5}"
        raise MicotaError(f"{' and '.join(sorted(idle))} does nothing: slerp knows only t", where=where, fix=fix)
    if method == "slerp" and len(models) != 1:
        raise MicotaError(f"slerp merges a base with one model, not with {len(models)}", where=f"{where}, models")
    return config


def _models(value: Mapping[str, Any], where: str) -> list[tuple[str, dict[str, Any]]]:
    """(reference, its own parameters), from `models` or from one slice that takes every model whole."""
    entries = value.get("models")
    if "slices" in value:
        slices = value["slices"]
        lone = slices[0] if isinstance(slices, list) and len(slices) == 1 else None
        if entries or not isinstance(lone, dict) or set(lone) != {"sources"}:
            raise MicotaError("stacking slices of models is not supported", where=f"{where}, slices",
                              fix="list the whole models under `models`")  # fmt: skip
        entries = lone["sources"]
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(e, dict) and isinstance(e.get("model"), str) for e in entries)
    ):
        fix = "models: [{model: FOLDER, parameters: {weight: 0.5}}]"
        raise MicotaError("`models` is a list of models", where=where, fix=fix)
    models = []
    for entry in entries:
        _refuse_unknown(entry, ("model", "parameters", "layer_range"), f"{where}, models")
        own = entry.get("parameters") or {}
        _refuse_unknown(own, OWN, f"{where}, {entry['model']}, parameters")
        models.append((entry["model"], own))
    return models


def _layers(value: Mapping[str, Any], where: str) -> int | None:
    """The end of every source's layer_range, if slices are given: a slice that leaves out layers is an error."""
    ranges = [source.get("layer_range") for part in value.get("slices", ()) for source in part["sources"]]
    if not ranges:
        return None
    match ranges[0]:
        case [0, int(layers)] if all(each == ranges[0] for each in ranges):
            return layers
    fix = "layer_range: [0, 28], with the number of the models' layers"
    raise MicotaError("a slice that leaves out layers is not supported", where=f"{where}, slices", fix=fix)


def _tokenizer(value: Mapping[str, Any], base: str, models: Sequence[str], where: str) -> str:
    source, tokenizer = value.get("tokenizer_source"), value.get("tokenizer")
    if isinstance(tokenizer, dict):
        _refuse_unknown(tokenizer, ("source",), f"{where}, tokenizer")
    if tokenizer is not None:
        source = tokenizer.get("source") if isinstance(tokenizer, dict) else tokenizer
    if source in (None, "base"):
        return base
    if source not in models:
        fix = "tokenizer_source: base, or one of the models"
        raise MicotaError(f"tokenizer_source {source} is not supported", where=where, fix=fix)
    return str(source)


def _dtype(value: Mapping[str, Any], where: str) -> str | None:
    for key in ("out_dtype", "dtype"):
        if value.get(key) is not None and value[key] not in FLOATS:
            raise MicotaError(f"{key} {value[key]} is not supported", where=where, fix=suggestion(value[key], FLOATS))
    return value.get("out_dtype") or value.get("dtype")


def _refuse_unknown(value: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(value, dict):
        raise MicotaError("a mapping is expected here", where=where)
    for key in value:
        if key not in known:
            raise MicotaError(f"`{key}` is not supported", where=where, fix=suggestion(str(key), known))


def layer_counts(tensors: Iterable[str]) -> dict[str, int]:
    """For each tensor how many layers stand in its stack, by the names of all: `model.layers.3.x` is in `model.layers`.

    Configurations have many words for it, and a model may have several stacks of layers.
    """
    layers = {tensor: _LAYER.search(tensor) for tensor in tensors}
    counts: dict[str, int] = {}
    for tensor, layer in layers.items():
        if layer:
            stack = tensor[: layer.start(1)]
            counts[stack] = max(counts.get(stack, 0), int(layer[1]) + 1)
    return {tensor: counts[tensor[: layer.start(1)]] if layer else 1 for tensor, layer in layers.items()}


def _position(tensor: str, layers: int) -> float:
    """Where a tensor stands in a gradient: layer i of n at i / (n - 1); what belongs to no layer at 0."""
    layer = _LAYER.search(tensor)
    if not layer:
        return 0.0
    return int(layer[1]) / (layers - 1) if layers > 1 else 1.0


def _evaluate(setting: Any, tensor: str, at: float, where: str) -> Scalar | None:
    if isinstance(setting, Scalar):
        return setting
    choices = [setting] if isinstance(setting, dict) else setting
    if not isinstance(choices, list) or not choices:
        raise MicotaError(f"{setting!r} is no value, gradient or list of filters", where=where)
    if all(isinstance(choice, Scalar) for choice in choices):
        return _interpolate(choices, at)
    for choice in choices:
        _refuse_unknown(choice, ("filter", "value"), where)
        pattern = choice.get("filter")
        if pattern in (None, "*") or str(pattern) in tensor:
            return _evaluate(choice.get("value"), tensor, at, where)
    return None


def _interpolate(values: Sequence[Any], at: float) -> Scalar:
    if any(isinstance(value, bool | str) for value in values):
        chosen: Scalar = values[int(at * (len(values) - 1))]
        return chosen
    scaled = at * (len(values) - 1)
    low = int(scaled)
    part = scaled - low
    return float((1 - part) * values[low] + part * values[min(len(values) - 1, low + 1)])
