"""Models held in memory, so that many merges of them can be tried after one reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.checkpoints.compatibility import compare, weights
from micota.checkpoints.safetensor_files import Checkpoint, Entry
from micota.checkpoints.shards import Put
from micota.checkpoints.streaming import merge_entries
from micota.merging import Settings, check, check_labels

if TYPE_CHECKING:
    import numpy as np
    import torch


class Held:
    """A checkpoint's tensors in memory."""

    def __init__(self, checkpoint: Checkpoint, names: Sequence[str]) -> None:
        self._tensors = {name: checkpoint.read(name).reshape(-1) for name in names}

    def block(self, name: str, start: int, stop: int, into: np.ndarray[Any, Any] | None = None) -> torch.Tensor:
        """Elements [start, stop) of a tensor, flat; `into` is not needed."""
        return self._tensors[name][start:stop]


class Trial:
    """A base and its descendants, read once; `merge` hands a merge of them on, tensor by tensor, as often as wanted.

    It needs the memory that all inputs have together. The merges are those of `merge_folders`, bit for bit.
    """

    def __init__(self, base: Path, models: Sequence[Path], labels: Sequence[str], threads: int) -> None:
        check_labels(labels, len(models))
        compare(base, models)  # what is dangerous stops it
        checkpoint, entries = weights(base)
        self.entries: tuple[Entry, ...] = tuple(entries.values())
        self._labels, self._threads = labels, threads
        sources = [checkpoint, *(Checkpoint(model) for model in models)]
        self._held = [Held(one, list(entries)) for one in sources]

    def merge(self, settings: Settings, put: Put) -> None:
        """Hand every element of the merged model to `put`, in the base's dtypes."""
        check(settings, len(self._labels))
        each = {entry.name: settings for entry in self.entries}
        merge_entries(self.entries, self._held, self._labels, each, self._threads, put)
