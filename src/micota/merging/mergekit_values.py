"""Values of mergekit's YAML: scalars, gradients over the layers, filters by the names of tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from micota.errors import MicotaError, suggestion

Scalar = bool | int | float | str
T = TypeVar("T", bool, float)
_LAYER = re.compile(r"(?:^|\.)(\d+)\.")


def as_number(kind: type[T], key: str, value: Scalar, where: str) -> T:
    """A number or a truth value; words such as `no` and `off` are truth values to mergekit's YAML."""
    word = str(value).lower()
    try:
        if kind is float:
            return kind(value)
        return kind(("no", "off", "n", "false", "0", "yes", "on", "y", "true", "1").index(word) > 4)
    except (ValueError, OverflowError):
        what = f"{key} {value!r} is no {'number' if kind is float else 'truth value'}"
        raise MicotaError(what, where=where, fix=f"{key}: {'0.5' if kind is float else 'false'}") from None


def refuse_unknown(value: Any, known: Sequence[str], where: str) -> None:
    """Only a mapping with known keys passes."""
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


def position(tensor: str, layers: int) -> float:
    """Where a tensor stands in a gradient: layer i of n at i / (n - 1); what belongs to no layer at 0."""
    layer = _LAYER.search(tensor)
    if not layer:
        return 0.0
    return int(layer[1]) / (layers - 1) if layers > 1 else 1.0


def evaluate(setting: Any, tensor: str, at: float, where: str) -> Scalar | None:
    """The value of a setting for a tensor at a place in a gradient; None if no filter fits."""
    if isinstance(setting, Scalar):
        return setting
    choices = [setting] if isinstance(setting, dict) else setting
    if not isinstance(choices, list) or not choices:
        raise MicotaError(f"{setting!r} is no value, gradient or list of filters", where=where)
    if all(isinstance(choice, Scalar) for choice in choices):
        return _interpolate(choices, at)
    for choice in choices:
        refuse_unknown(choice, ("filter", "value"), where)
        pattern = choice.get("filter")
        if pattern in (None, "*") or str(pattern) in tensor:
            return evaluate(choice.get("value"), tensor, at, where)
    return None


def _interpolate(values: Sequence[Any], at: float) -> Scalar:
    if any(isinstance(value, bool | str) for value in values):
        chosen: Scalar = values[int(at * (len(values) - 1))]
        return chosen
    scaled = at * (len(values) - 1)
    low = int(scaled)
    part = scaled - low
    return float((1 - part) * values[low] + part * values[min(len(values) - 1, low + 1)])
