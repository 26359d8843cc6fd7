"""mergekit's YAML, with mergekit's meaning and defaults: which models, and which settings for each tensor.

A parameter is looked up in the model's own `parameters`, then in its slice's, then in the global ones. Its value is a
scalar, a list (a gradient over the layers of a slice, with linear interpolation), or a list of {filter, value}, of
which the first counts whose filter is part of the tensor's name. The embedding, the last norm and the head stand at the
beginning of a gradient. What is not supported is an error that names it. https://github.com/arcee-ai/mergekit describes
the format; parity is checked against version 0.1.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from micota.errors import MicotaError, suggestion
from micota.merging.buffers import FLOATS
from micota.merging.mergekit_values import Scalar, as_number, evaluate, position, refuse_unknown
from micota.merging.settings import FIXED, METHODS, RANDOM, RESCALES, Method, Rescale, Settings

TOP = ("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype", "tokenizer_source",
       "tokenizer", "name")  # fmt: skip
OWN = ("weight", "density", "epsilon", "gamma", "scale")
"""Parameters that each model may have for itself."""
_VECTORS = ("weight", "density", "normalize", "rescale", "lambda", "int8_mask")
PARAMETERS: dict[str, tuple[str, ...]] = {
    "linear": ("weight", "normalize"),
    "slerp": ("t",),
    **dict.fromkeys(("della", "della_linear"), (*_VECTORS, "epsilon")),
    **dict.fromkeys(("breadcrumbs", "breadcrumbs_ties"), (*_VECTORS, "gamma")),
    "sce": ("select_topk", "int8_mask"),
    "model_stock": ("filter_wise",),
    "nuslerp": ("weight", "nuslerp_flatten", "nuslerp_row_wise"),
    "passthrough": ("scale",),
}
"""The parameters of a method; of those that are not named here, _VECTORS."""
WHOLE = {"filter_wise": False, "nuslerp_flatten": True, "nuslerp_row_wise": False}
"""Parameters of which one value is supported: an angle is that of whole tensors."""
INSTEAD = {
    **dict.fromkeys(("karcher", "multislerp"), "merge_method: nuslerp, or slerp, for two models; linear for more"),
    **dict.fromkeys(("ram", "ramplus_tl"), "merge_method: ties, or dare_ties"),
    "arcee_fusion": "merge_method: sce, or ties with a density",
    "nearswap": "merge_method: slerp",
}
"""For mergekit's methods that are missing here, the nearest that are there."""


@dataclass(frozen=True)
class Slice:
    """Some layers of the result: the models that they are from, and their parameters."""

    spans: Mapping[str, tuple[int, int]]
    """Which layers of each model, up to the second; empty where the configuration lists whole models."""
    own: Mapping[str, Mapping[str, Any]]
    """The parameters of each model."""
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Config:
    """A merge as the YAML describes it; the models' references are as written there."""

    method: Method
    base: str
    models: tuple[str, ...]
    """All inputs of the arithmetic besides the base; in linear those that are averaged, the base among them; in
    passthrough none."""
    dtype: str | None
    """What is written; None is what the base is stored in. Arithmetic is in fp32 whatever this says."""
    tokenizer: str
    """The model whose tokenizer, configs and templates are taken."""
    parameters: Mapping[str, Any]
    slices: tuple[Slice, ...]
    where: str
    whole: bool = False
    """For nuslerp: between whole models, since there is no base."""

    @property
    def references(self) -> tuple[str, ...]:
        """All models, each once, the base first."""
        return tuple(dict.fromkeys((self.base, *self.models, *(name for part in self.slices for name in part.own))))

    def settings(self, tensor: str, layers: int, seed: int) -> Settings:
        """The settings of one tensor of a model with so many layers, whose layers are not stacked."""
        return self.settings_at(tensor, position(tensor, layers), seed)

    def settings_at(
        self, tensor: str, at: float, seed: int, part: int = 0, names: Mapping[str, str] | None = None
    ) -> Settings:
        """The settings of a tensor at a place in the gradients of a slice; `names`: what the models call the tensor."""
        look = _Lookup(self, self.slices[part], tensor, at, names or {})
        if self.method == "slerp":
            return Settings("slerp", (look.needed("t"),), seed=seed)
        if self.method == "passthrough":
            (model,) = self.slices[part].own
            return Settings("passthrough", (), lambda_=look.number("scale", 1.0, model), seed=seed)
        for key, needed in WHOLE.items():
            if look.truth(key, needed) is not needed:
                fix = f"{key}: {str(needed).lower()}: one angle for each tensor"
                raise MicotaError(f"{key} is not supported", where=self.where, fix=fix)
        if self.method in FIXED:
            count, density = len(self.models), look.number("select_topk", 1.0)
            weights = (1.0,) * count
            if self.method == "nuslerp":
                weights = tuple(look.needed("weight", model) for model in self.models)
            return Settings(self.method, weights, density, rescale="none", seed=seed, whole=self.whole)
        own = {
            key: look.number(key, default, self.models[0])
            for key, default in (("epsilon", Settings.epsilon), ("gamma", Settings.gamma))
        }
        for key, value in own.items():
            if any(look.number(key, value, model) != value for model in self.models):
                raise MicotaError(f"one {key} for each model is not supported", where=self.where, fix=f"{key}: {value}")
        return Settings(
            self.method,
            tuple(look.needed("weight", model) for model in self.models),
            tuple(look.number("density", 1.0, model) for model in self.models),
            look.number("lambda", 1.0),
            self._rescale(look.value("rescale")),
            None if look.value("normalize") is None else look.truth("normalize", False),
            seed,
            own["epsilon"],
            own["gamma"],
        )

    def _rescale(self, value: Any) -> Rescale:
        """mergekit's true is l1 and the default of its random methods; a word is micota's own extension."""
        if value in RESCALES:
            return cast(Rescale, value)
        default = self.method in RANDOM
        try:
            return "l1" if (default if value is None else as_number(bool, "rescale", value, self.where)) else "none"
        except MicotaError:
            fix = suggestion(str(value), RESCALES)
            raise MicotaError(f"rescale: {value} is unknown", where=self.where, fix=fix) from None


@dataclass(frozen=True)
class _Lookup:
    """The parameters of one tensor, from the nearest scope that gives one."""

    config: Config
    part: Slice
    tensor: str
    at: float
    names: Mapping[str, str]

    def value(self, key: str, model: str = "") -> Scalar | None:
        where, name = f"{self.config.where}, {key}", self.names.get(model, self.tensor)
        for scope in (self.part.own.get(model, {}), self.part.parameters, self.config.parameters):
            if key in scope and (value := evaluate(scope[key], name, self.at, where)) is not None:
                return value
        return None

    def number(self, key: str, default: float, model: str = "") -> float:
        value = self.value(key, model)
        return default if value is None else as_number(float, key, value, self.config.where)

    def truth(self, key: str, default: bool) -> bool:
        value = self.value(key)
        return default if value is None else as_number(bool, key, value, self.config.where)

    def needed(self, key: str, model: str = "") -> float:
        if self.value(key, model) is None:
            fix = f"parameters: {key}: 0.5"
            raise MicotaError(f"no {key} is given for tensor {self.tensor}", where=self.config.where, fix=fix)
        return self.number(key, 0.0, model)


def read(value: Any, where: str) -> Config:
    """A configuration from the plain value of its YAML; anything that is not supported is a MicotaError."""
    if not isinstance(value, dict):
        raise MicotaError("a merge configuration is a mapping", where=where, fix="merge_method: dare_ties")
    refuse_unknown(value, TOP, where)
    method = value.get("merge_method")
    if method not in METHODS:
        fix = INSTEAD.get(str(method)) or suggestion(str(method), METHODS)
        raise MicotaError(f"merge_method {method} is not supported", where=where, fix=fix)
    slices = _slices(value, method, where)
    names = list(slices[0].own)
    alone = method in ("linear", "nuslerp", "passthrough")
    base = value.get("base_model") or (names[0] if alone else None)
    if not isinstance(base, str):
        what = f"base_model {base!r:.80} is no reference" if base else f"{method} needs a base_model"
        raise MicotaError(what, where=where, fix="base_model: FOLDER")
    slices = _complete(slices, method, base, where)
    models = names + ([base] if base not in names else []) if method == "linear" else [n for n in names if n != base]
    whole = method == "nuslerp" and not value.get("base_model")
    models = {"passthrough": [], "nuslerp": names}.get(method if whole or method == "passthrough" else "", models)
    if len(set(models)) != len(models) or not (models or method == "passthrough"):
        raise MicotaError("name each model once, and one besides the base", where=f"{where}, models")
    _refuse_idle(value, slices, method, where)
    tokenizer, dtype = _tokenizer(value, base, names, where), _dtype(value, where)
    if method == "slerp" and len(models) != 1:
        raise MicotaError(f"slerp merges a base with one model, not with {len(models)}", where=f"{where}, models")
    parameters = value.get("parameters") or {}
    return Config(cast(Method, method), base, tuple(models), dtype, tokenizer, parameters, slices, where, whole)


def _refuse_idle(value: Mapping[str, Any], slices: Sequence[Slice], method: str, where: str) -> None:
    """A parameter that the method does not have is named: it would do nothing."""
    known = PARAMETERS.get(method, _VECTORS)
    every = {*_VECTORS, *(key for keys in PARAMETERS.values() for key in keys)}
    shared = [value.get("parameters") or {}, *(part.parameters for part in slices)]
    own = [each for part in slices for each in part.own.values()]
    for place, scopes, allowed in (("parameters", shared, every), ("models, parameters", own, {*OWN} & every)):
        for scope in scopes:
            refuse_unknown(scope, sorted(allowed), f"{where}, {place}")
            if idle := sorted(set(scope) - {*known}):
                only = ", ".join(known)
                what = f"{' and '.join(idle)} does nothing: {method} knows only {only}"
                raise MicotaError(what, where=where, fix=f"remove {', '.join(idle)}")


def _slices(value: Mapping[str, Any], method: str, where: str) -> tuple[Slice, ...]:
    """From `slices`, or one of whole models from `models`."""
    if "slices" not in value:
        return (Slice({}, _models(value.get("models"), f"{where}, models")),)
    slices = value["slices"]
    if value.get("models") or not isinstance(slices, list) or not slices:
        fix = "slices: [{sources: [{model: FOLDER, layer_range: [0, 16]}]}]"
        raise MicotaError("`slices` is a list of slices, without `models` beside it", where=f"{where}, slices", fix=fix)
    parts = []
    for part in slices:
        refuse_unknown(part, ("sources", "parameters"), f"{where}, slices")
        own = _models(part.get("sources"), f"{where}, slices, sources", ("layer_range",))
        spans = {entry["model"]: _span(entry.get("layer_range"), where) for entry in part["sources"]}
        if len({stop - start for start, stop in spans.values()}) > 1:
            raise MicotaError("the sources of a slice have unlike many layers", where=f"{where}, slices")
        parts.append(Slice(spans, own, part.get("parameters") or {}))
    if method != "passthrough" and any({*part.own} != {*parts[0].own} for part in parts):
        fix = "every slice with the same models, or merge_method: passthrough with one in each"
        raise MicotaError("slices of different models cannot be merged", where=f"{where}, slices", fix=fix)
    return tuple(parts)


def _models(entries: Any, where: str, more: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Reference -> its own parameters; `more` is what an entry may say beside them."""
    if (
        not isinstance(entries, list)
        or not entries
        or not all(isinstance(e, dict) and isinstance(e.get("model"), str) for e in entries)
    ):
        fix = "models: [{model: FOLDER, parameters: {weight: 0.5}}]"
        raise MicotaError("`models` is a list of models", where=where, fix=fix)
    for entry in entries:
        refuse_unknown(entry, ("model", "parameters", *more), where)
        refuse_unknown(entry.get("parameters") or {}, OWN, f"{where}, {entry['model']}, parameters")
    models = {entry["model"]: entry.get("parameters") or {} for entry in entries}
    if len(models) != len(entries):
        raise MicotaError("name each model once, and one besides the base", where=where)
    return models


def _span(span: Any, where: str) -> tuple[int, int]:
    match span:
        case [int(start), int(stop)] if 0 <= start < stop and bool not in (type(start), type(stop)):
            return start, stop
    fix = "layer_range: [0, 16]: the first layer, and the one behind the last"
    raise MicotaError(f"layer_range {span} of a slice is no range of layers", where=f"{where}, slices", fix=fix)


def _complete(slices: tuple[Slice, ...], method: str, base: str, where: str) -> tuple[Slice, ...]:
    """With the base's layers in every slice: where it is not listed, those that all others take."""
    if method == "passthrough":
        if any(len(part.own) != 1 for part in slices):
            fix = "one model in each slice; to merge models: merge_method: linear"
            raise MicotaError("passthrough takes each layer from one model", where=where, fix=fix)
        if not slices[0].spans and list(slices[0].own) != [base]:
            raise MicotaError("passthrough copies one model", where=where, fix="one model, without another base_model")
        return slices
    complete = []
    for part in slices:
        if part.spans and base not in part.spans and len({*part.spans.values()}) > 1:
            fix = f"list {base} in every slice, with its layer_range"
            raise MicotaError("which layers of the base belong to a slice is not said", where=where, fix=fix)
        spans = {base: next(iter(part.spans.values())), **part.spans} if part.spans else {}
        complete.append(Slice(spans, part.own, part.parameters))
    return tuple(complete)


def _tokenizer(value: Mapping[str, Any], base: str, models: Sequence[str], where: str) -> str:
    source, tokenizer = value.get("tokenizer_source"), value.get("tokenizer")
    if isinstance(tokenizer, dict):
        refuse_unknown(tokenizer, ("source",), f"{where}, tokenizer")
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
