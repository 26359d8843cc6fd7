"""Models held in memory, so that many merges of them can be tried after one reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from micota.merging import Settings, check, check_labels
from micota.merging.buffers import Bytes
from micota.merging.companions import write_companions
from micota.merging.compatibility import compare, weights
from micota.merging.safetensor_files import Checkpoint, Entry
from micota.merging.shards import Put, Writer
from micota.merging.streaming import merge_entries


class Held:
    """A checkpoint's tensors in memory."""

    def __init__(self, checkpoint: Checkpoint, names: Sequence[str]) -> None:
        self._entries = {name: checkpoint[name] for name in names}
        self._bytes = {name: checkpoint.block(name, 0, one.numel) for name, one in self._entries.items()}

    def __getitem__(self, name: str) -> Entry:
        return self._entries[name]

    def block(self, name: str, start: int, stop: int, into: Bytes | None = None) -> Bytes:
        """Elements [start, stop) of a tensor, as bytes; `into` is not needed."""
        size = self._entries[name].itemsize
        return self._bytes[name][start * size : stop * size]


class InMemoryMerge:
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
