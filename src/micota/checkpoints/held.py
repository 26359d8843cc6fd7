"""Models held in memory, so that many merges of them can be tried after one reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.checkpoints.companions import write_companions
from micota.checkpoints.compatibility import compare, weights
from micota.checkpoints.safetensor_files import Checkpoint, Entry
from micota.checkpoints.shards import Put, Writer
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
    """A base and its descendants, read once: `merge` hands a merge of them on, tensor by tensor, `write` makes a model
    folder of one, as often as wanted.

    It needs the memory that all inputs have together. The merges are those of `merge_folders`, bit for bit.
    """

    def __init__(self, base: Path, models: Sequence[Path], labels: Sequence[str], threads: int) -> None:
        check_labels(labels, len(models))
        compare(base, models)  # what is dangerous stops it
        checkpoint, entries = weights(base)
        self.entries: tuple[Entry, ...] = tuple(entries.values())
        self._labels, self._threads = labels, threads
        self._folders = [(labels[0], models[0]), ("base", base)]
        sources = [checkpoint, *(Checkpoint(model) for model in models)]
        self._held = [Held(one, list(entries)) for one in sources]

    def merge(self, settings: Settings, put: Put) -> None:
        """Hand every element of the merged model to `put`, in the base's dtypes."""
        check(settings, len(self._labels))
        self._merge(self.entries, settings, put)

    def write(self, settings: Settings, out: Path) -> None:
        """Write the merged model as a folder that can be loaded, its other files as `merge_folders` chooses them."""
        check(settings, len(self._labels))
        out.mkdir(parents=True)
        writer = Writer(out, self.entries)
        for shard in writer.shards:
            entries = shard.entries
            writer.write(shard, lambda put, entries=entries: self._merge(entries, settings, put)).close()  # type: ignore[misc]
        writer.finish()
        write_companions(out, self._folders, self.entries)

    def _merge(self, entries: Sequence[Entry], settings: Settings, put: Put) -> None:
        each = {entry.name: settings for entry in entries}
        merge_entries(entries, self._held, self._labels, each, self._threads, put)
