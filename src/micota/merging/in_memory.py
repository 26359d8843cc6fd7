"""Models held in memory, so that many merges of them can be tried after one reading."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from micota.merging import kernels
from micota.merging.compatibility import ModelFolder, checkpoints, compare, kept
from micota.merging.model_files import write_model_files
from micota.merging.safetensor_files import Entry
from micota.merging.settings import Settings, check, check_labels
from micota.merging.shards import Put, ShardFile, lay_out, write_index
from micota.merging.streaming import merge_entries


class InMemoryMerge:
    """A base and its descendants, read once: `merge` hands a merge of them on, tensor by tensor, `write` makes a model
    folder of one, as often as wanted.

    It needs the memory that all inputs have together. The merges are those of `merge_folders`, bit for bit.
    """

    def __init__(self, base: Path, models: Sequence[Path], labels: Sequence[str], threads: int) -> None:
        check_labels(labels, len(models))
        compare(base, models)  # what is dangerous stops it
        reference = ModelFolder(base)
        self.entries: tuple[Entry, ...] = tuple(reference.entries.values())
        self._inputs = checkpoints(reference, models)
        for checkpoint in self._inputs:
            checkpoint.load(reference.entries)
        self._labels, self._threads = labels, threads
        self._folders = [(labels[0], models[0]), ("base", base)]

    def merge(self, settings: Settings, put: Put) -> None:
        """Hand every element of the merged model to `put`, in the base's dtypes."""
        self._merge(self.entries, settings, put)

    def write(self, settings: Settings, out: Path) -> None:
        """Write the merged model as a folder that can be loaded, its other files as `merge_folders` chooses them."""
        out.mkdir(parents=True)
        shards = lay_out(out, self.entries)
        for shard in shards:
            with closing(ShardFile(shard)) as file:
                self._merge(shard.entries, settings, file.put)
                file.finish()
        write_index(out, shards)
        write_model_files(out, self._folders, self.entries)

    def _merge(self, entries: Sequence[Entry], settings: Settings, put: Put) -> None:
        check(settings, len(self._labels))
        kernels.prepare(sum(entry.numel for entry in self.entries))
        each = {entry.name: settings for entry in entries} | kept(self._inputs)
        merge_entries(entries, self._inputs, self._labels, each, self._threads, put)
