"""The weights of one merge, shard by shard: while the disk is busy with one shard the next is merged."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.merging import Settings
from micota.merging.buffers import Bytes
from micota.merging.safetensor_files import Checkpoint
from micota.merging.shards import Put, Shard, Writer, Written, write_json
from micota.merging.streaming import merge_entries
from micota.merging.tally import Tally


@dataclass
class Job:
    """What is merged, and the record of how far it is: `record` has the tallies of the tensors of finished shards.

    Tallies go into the record before a shard can be seen, and its SHA-256 with them if `checksums` are wanted.
    `progress(done, total)` counts bytes.
    """

    writer: Writer
    record_file: Path
    record: dict[str, Any]
    inputs: Sequence[Checkpoint]
    labels: Sequence[str]
    settings: Mapping[str, Settings]
    threads: int
    checksums: bool
    progress: Callable[[int, int], None] | None
    _done: int = 0

    def run(self) -> None:
        """Merge every tensor of every unfinished shard."""
        with ThreadPoolExecutor(1, "close") as closer:
            closing: Future[None] | None = None
            for shard in self.writer.shards:
                if self._is_there(shard):
                    self._step(shard.nbytes)
                    continue
                found = self._merge(shard)
                if closing is not None:
                    closing.result()
                closing = closer.submit(self._close, shard, *found)
            if closing is not None:
                closing.result()
        self.writer.finish()

    def _is_there(self, shard: Shard) -> bool:
        return shard.is_finished() and all(entry.name in self.record["tensors"] for entry in shard.entries)

    def _merge(self, shard: Shard) -> tuple[Written, dict[str, Tally], str]:
        """Also what was seen of its tensors, and its SHA-256 if that is wanted ("" if not)."""
        tallies: dict[str, Tally] = {}
        digest = hashlib.sha256(shard.header)

        def after(merged: Bytes) -> None:
            if self.checksums:
                digest.update(merged.data)  # while it is in the processor's cache: in the file it would be read again
            self._step(merged.nbytes)

        def fill(put: Put) -> None:
            tallies.update(
                merge_entries(shard.entries, self.inputs, self.labels, self.settings, self.threads, put, after)
            )

        written = self.writer.write(shard, fill)
        self._step(len(shard.header))
        return written, tallies, digest.hexdigest() if self.checksums else ""

    def _close(self, shard: Shard, written: Written, tallies: Mapping[str, Tally], checksum: str) -> None:
        def note() -> None:
            self.record["tensors"] |= {name: dataclasses.asdict(tally) for name, tally in tallies.items()}
            if checksum:
                self.record["sums"] = self.record.get("sums", {}) | {shard.file.name: checksum}
            write_json(self.record_file, self.record)

        written.close(note)

    def _step(self, size: int) -> None:
        self._done += size
        if self.progress is not None:
            self.progress(self._done, sum(shard.nbytes for shard in self.writer.shards))
