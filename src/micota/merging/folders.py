"""Merge model folders: stream the weights of a base and its descendants into a new folder, and say what was seen.

    facts = merge_folders(out, base, [tuned], ["tuned"], Settings("dare_ties", (0.6,), density=0.7))

Memory holds a few blocks of each input, whatever the model's size. A merge that was killed continues at the shard that
it was writing, and the bytes come out the same. The last file is config.json: without it nothing loads the folder.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.merging import kernels
from micota.merging.buffers import FLOATS, Bytes
from micota.merging.compatibility import ModelFolder, check_ends, checkpoints, compare, kept
from micota.merging.merge_record import RECORD, MergeRecord, identity
from micota.merging.model_files import write_model_files
from micota.merging.safetensor_files import NAMES, Checkpoint, Entry
from micota.merging.settings import Settings, check, check_labels
from micota.merging.shards import SHARD_BYTES, Shard, ShardFile, lay_out, write_index
from micota.merging.stacks import Stack
from micota.merging.streaming import merge_entries
from micota.merging.tally import facts

Progress = Callable[[int, int], None]


def merge_folders(
    out: Path,
    base: Path,
    models: Sequence[Path],
    labels: Sequence[str],
    settings: Settings | Callable[[str], Settings],
    *,
    like: Sequence[tuple[str, Path]] = (),
    dtype: str | None = None,
    threads: int = 1,
    progress: Progress = lambda done, total: None,
    shard_bytes: int = SHARD_BYTES,
    record_in: Path | None = None,
    checksums: bool = False,
    stack: Stack | None = None,
) -> dict[str, Any]:
    """Merge `models` into `base` and write the model folder `out`; returns facts, see `tally.facts`.

    Weights have the base's names, shapes (padded vocabulary rows included) and, without `dtype` (torch's name), dtypes.
    `settings` are for all tensors, or a function of a tensor's name. A label names a model in the facts and seeds its
    masks. Other files come from the first folder of `like`, (label, folder), that has them: the first model, then base.
    With a `stack` the layers are as it says; passthrough then has no `models`.

    The record is in `out` or `record_in`, with the SHA-256 of each shard if `checksums`; `progress(done, total)` counts
    bytes. More facts: `seed`, `remarks` of `check`, `findings` of `compare`, `sources` (file -> label).
    """
    like = like or [*zip(labels[:1], models[:1], strict=True), ("base", base)]
    check_labels(labels, len(models))
    findings = _compared(base, models, like, stack)
    inputs, entries = _tensors(base, models, stack, dtype)
    each = {entry.name: settings if isinstance(settings, Settings) else settings(entry.name) for entry in entries}
    remarks, seed = _remarks(each, len(models)), each[entries[0].name].seed
    each |= {} if stack or not models else kept(inputs)
    shards = lay_out(out, entries, shard_bytes)
    out.mkdir(parents=True, exist_ok=True)
    record = MergeRecord((record_in or out) / RECORD, identity(inputs, labels, each, shard_bytes, dtype), out, shards)
    if record.facts is not None:
        return record.facts
    _check_room(out, shards)
    _Weights(shards, record, inputs, labels, each, threads, checksums, progress).write()
    write_index(out, shards)
    about = {"seed": seed, "remarks": remarks, "findings": findings}
    sources = write_model_files(out, like, entries, stack.config if stack else dict)
    return record.finish(facts(record.tallies, labels) | about | {"sources": sources})


def _compared(base: Path, models: Sequence[Path], like: Sequence[tuple[str, Path]], stack: Stack | None) -> list[str]:
    """What differs between the folders and only needs a choice; what is dangerous stops the merge."""
    others = [folder for folder in (stack.folders if stack else models) if folder != base or folder in models]
    findings = compare(base, others)
    check_ends(like, (base, *others))
    return findings


def _tensors(
    base: Path, models: Sequence[Path], stack: Stack | None, dtype: str | None
) -> tuple[list[Checkpoint], list[Entry]]:
    """The inputs, and the tensors of the result in their order."""
    reference = ModelFolder(base)
    inputs = stack.inputs() if stack else checkpoints(reference, models)
    listed = map(stack.stored, inputs[0].entries.values()) if stack else reference.entries.values()
    return inputs, [_stored_as(entry, dtype) for entry in sorted(listed, key=_natural)]


@dataclass
class _Weights:
    """The weights of one merge, shard by shard: while the disk is busy with one shard the next is merged."""

    shards: Sequence[Shard]
    record: MergeRecord
    inputs: Sequence[Checkpoint]
    labels: Sequence[str]
    settings: Mapping[str, Settings]
    threads: int
    checksums: bool
    progress: Progress
    _done: int = 0

    def write(self) -> None:
        """Merge every tensor of every unfinished shard."""
        kernels.prepare(sum(entry.numel for shard in self.shards for entry in shard.entries))
        with ThreadPoolExecutor(1, "close") as closer:
            closing: Future[None] | None = None
            for shard in self.shards:
                if self.record.has(shard):
                    self._step(shard.nbytes)
                    continue
                file, note = self._merge(shard)
                if closing is not None:
                    closing.result()
                closing = closer.submit(file.finish, note)
            if closing is not None:
                closing.result()

    def _merge(self, shard: Shard) -> tuple[ShardFile, Callable[[], None]]:
        """The shard's file, and what notes it in the record: before the shard can be seen."""
        digest = hashlib.sha256(shard.header)
        file = ShardFile(shard)

        def after(merged: Bytes) -> None:
            if self.checksums:
                digest.update(merged.data)  # while it is in the processor's cache: in the file it would be read again
            self._step(merged.nbytes)

        try:
            settings = self.settings
            tallies = merge_entries(shard.entries, self.inputs, self.labels, settings, self.threads, file.put, after)
        except BaseException:
            file.close()
            raise
        self._step(len(shard.header))
        return file, lambda: self.record.add(shard, tallies, digest.hexdigest() if self.checksums else "")

    def _step(self, size: int) -> None:
        self._done += size
        self.progress(self._done, self._total)

    @cached_property
    def _total(self) -> int:
        return sum(shard.nbytes for shard in self.shards)


def _natural(entry: Entry) -> list[tuple[int, str]]:
    """Sorting key: layer 2 before layer 10, whatever files the tensors lie in."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in entry.name.split(".")]


def _stored_as(entry: Entry, dtype: str | None) -> Entry:
    """A tensor as it will be written: numbers that are merged may get another dtype, others keep theirs."""
    return replace(entry, dtype=NAMES[dtype]) if dtype and entry.torch_dtype in FLOATS else entry


def _remarks(settings: Mapping[str, Settings], models: int) -> list[str]:
    """What holds for every tensor's settings; of one tensor's alone it would say too much."""
    remarks = [check(each, models) for each in dict.fromkeys(settings.values())]
    return [remark for remark in remarks[0] if all(remark in others for others in remarks)] if remarks else []


def _check_room(out: Path, shards: Sequence[Shard]) -> None:
    """A disk that cannot hold what is still to be written is named before the first byte."""
    needed = sum(shard.nbytes for shard in shards if not shard.is_finished())
    free = shutil.disk_usage(out).free + sum(file.stat().st_size for file in out.glob("model*.partial"))
    if needed > free:
        what = f"the merge needs {needed / 1e9:,.1f} GB more, {free / 1e9:,.1f} GB are free"
        raise MicotaError(what, where=str(out), fix="make room, or choose a folder on another disk")
