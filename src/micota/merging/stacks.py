"""Stacks: models with the layers of others, in any order, as inputs of a merge. Not a byte is copied for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.merging.compatibility import EMBEDDINGS, ModelFolder
from micota.merging.mergekit_values import layer_counts
from micota.merging.safetensor_files import Checkpoint, Entry

COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
"""What configurations call the number of layers."""
TEXT = ("text_config", "llm_config", "language_config")
"""Where the configuration of the language model stands in one of several parts."""
EACH = re.compile("layer|block|attn|attention")
"""What the name of a setting has in it that is a list with a value for each layer."""
NUMBERS = ("mlp_only_layers", "full_attn_idxs", "cross_attention_layers", "attn_layer_indices", "full_attention_idxs")
"""Settings that are lists of the numbers of layers."""
_FIRST = (*EMBEDDINGS, "wpe.weight", "embed_positions.weight", "word_embeddings_layernorm.weight")


@dataclass(frozen=True)
class Part:
    """Layers of the result that stand behind one another: from where each input has them, the base first."""

    sources: tuple[tuple[Path, int], ...]
    """A model folder, and its first layer."""
    layers: int
    """How many."""


@dataclass(frozen=True)
class Place:
    """Where a tensor of a stack is from."""

    part: int
    at: float
    """From the first layer of its part, 0, to the last, 1; what belongs to no layer at 0."""
    names: tuple[str, ...]
    """What each input calls it."""


class Stack:
    """The inputs of a merge, their layers as the parts say. Embeddings are those of the first part's models, last norm
    and head those of the last. A layer that a model has not is a `MicotaError`.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._folders = {folder: ModelFolder(folder) for part in parts for folder, _ in part.sources}
        self._base = self._folders[parts[0].sources[0][0]]
        for part in parts:
            for folder, first in part.sources:
                refuse_beyond(first + part.layers, self.count, str(folder), first)

    @property
    def changes_nothing(self) -> bool:
        """Whether every input keeps its layers as they are."""
        part = self.parts[0]
        return len(self.parts) == 1 and part.layers == self.count and not any(first for _, first in part.sources)

    @property
    def folders(self) -> tuple[Path, ...]:
        """All model folders, each once."""
        return tuple(self._folders)

    @cached_property
    def count(self) -> int:
        """How many layers the models have, by the configuration of the first."""
        return layers_of(self._base.config) or max(layer_counts(self._base.entries).values())

    @cached_property
    def _prefix(self) -> str:
        """What stands before the number of a layer in the names of tensors."""
        stacks: dict[str, set[int]] = {}
        for name in self._base.entries:
            if layer := re.search(r"(?:^|\.)(\d+)\.", name):
                stacks.setdefault(name[: layer.start(1)], set()).add(int(layer[1]))
        fitting = [prefix for prefix, layers in stacks.items() if {*range(self.count)} <= layers]
        if len(fitting) != 1:
            what = f"which of {', '.join(sorted(stacks)) or 'its tensors'} are its {self.count} layers is not clear"
            raise MicotaError(what, where=str(self._base.path), why="only models with one stack of layers are stacked")
        return fitting[0]

    @cached_property
    def places(self) -> dict[str, Place]:
        """Where each tensor of the result is from."""
        inside = re.compile(re.escape(self._prefix) + r"(\d+)\.")
        found: dict[str, Place] = {}
        for name in self._base.entries:
            if not inside.match(name):
                part_of = 0 if name.endswith(_FIRST) else len(self.parts) - 1
                found[name] = Place(part_of, 0.0, (name,) * len(self.parts[0].sources))
        out = 0
        for i, part in enumerate(self.parts):
            for k in range(part.layers):
                at = k / (part.layers - 1) if part.layers > 1 else 1.0
                folder, start = part.sources[0]
                for rest in self._rests(folder, start + k):
                    names = tuple(f"{self._prefix}{layer + k}.{rest}" for _, layer in part.sources)
                    found[f"{self._prefix}{out}.{rest}"] = Place(i, at, names)
                out += 1
        return found

    def _rests(self, folder: Path, layer: int) -> Iterator[str]:
        start = f"{self._prefix}{layer}."
        return (name.removeprefix(start) for name in self._folders[folder].entries if name.startswith(start))

    def inputs(self) -> list[Checkpoint]:
        """The stacked inputs, the base first; their tensors have the names of the result."""
        inputs = []
        for i, (folder, _) in enumerate(self.parts[0].sources):
            checkpoint = Checkpoint(folder)
            checkpoint.entries = {name: self._entry(name, place, i) for name, place in self.places.items()}
            inputs.append(checkpoint)
        return inputs

    def _entry(self, name: str, place: Place, i: int) -> Entry:
        folder = self._folders[self.parts[place.part].sources[i][0]]
        if place.names[i] not in folder.entries:
            raise MicotaError(
                f"tensor {place.names[i]} is missing", where=str(folder.path), why=f"{name} is made of it"
            )
        return replace(folder.entries[place.names[i]], name=name)

    def stored(self, entry: Entry) -> Entry:
        """A tensor of the result in the dtype that the first of all models has for it."""
        name = self.places[entry.name].names[0]
        ours = self._base.entries.get(name)
        return replace(entry, dtype=ours.dtype) if ours else entry

    def config(self, config: dict[str, Any]) -> dict[str, Any]:
        """A configuration of the result: the number of layers, and what it says of each layer."""
        order = [first + k for part in self.parts for first in (part.sources[0][1],) for k in range(part.layers)]

        def changed(part: dict[str, Any]) -> dict[str, Any]:
            if by_number := [key for key in NUMBERS if part.get(key)]:
                what = f"{by_number[0]} of config.json names layers by their numbers"
                raise MicotaError(what, where=str(self._base.path), why="in a stack they have others")
            listed = {
                key: [value[i] for i in order]
                for key, value in part.items()
                if EACH.search(key) and isinstance(value, list) and len(value) == self.count
            }
            counts = {key: len(order) for key in COUNTS if part.get(key) == self.count}
            inner = {key: changed(part[key]) for key in TEXT if isinstance(part.get(key), dict)}
            return part | listed | counts | inner

        return changed(config)


def layers_of(config: Mapping[str, Any]) -> int | None:
    """How many layers a configuration says that its language model has; None if it does not say it."""
    texts = [*(part for key in TEXT if isinstance(part := config.get(key), dict)), config]
    return next((value for part in texts for key in COUNTS if isinstance(value := part.get(key), int)), None)


def refuse_beyond(stop: int, count: int, where: str, start: int) -> None:
    """Raise MicotaError for layers, from `start` on, that end behind the last."""
    if stop > count:
        what = f"layers {start} to {stop} are wanted, the model has {count}"
        raise MicotaError(what, where=where, fix=f"a range that ends at {count} or before")
