"""Writing the weights of a model folder as a stream, in shards, so that a kill loses one shard at most.

The whole layout is known before the first byte: a shard's header is written, then the tensors' bytes as they come,
under another name, and the shard is renamed when it is complete and on the disk. So memory never holds more than the
piece in hand, and a shard under its final name is whole.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.atomic import files_only
from micota.errors import MicotaError
from micota.merging.buffers import Bytes
from micota.merging.model_files import write_object
from micota.merging.safetensor_files import INDEX, SINGLE, Entry

Put = Callable[[Entry, int, Bytes], None]
"""Takes elements of a tensor, as bytes, from a position (counted in elements) on, and keeps none of their memory; may
be called by several threads, in any order."""
SHARD_BYTES = 2**30
"""Default size of a shard: what a killed merge can lose."""


@dataclass(frozen=True)
class Shard:
    """One file to be written: its header's bytes, and the tensors in the order of their bytes."""

    file: Path
    header: bytes
    entries: tuple[Entry, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return len(self.header) + sum(entry.nbytes for entry in self.entries)

    @property
    def partial(self) -> Path:
        """The file's name while it is not whole."""
        return self.file.with_name(self.file.name + ".partial")

    def is_finished(self) -> bool:
        """Whether the file stands under its final name with this header and size."""
        if not self.file.is_file() or self.file.stat().st_size != self.nbytes:
            return False
        with self.file.open("rb") as stream:
            return stream.read(len(self.header)) == self.header


def lay_out(folder: Path, entries: Sequence[Entry], shard_bytes: int = SHARD_BYTES) -> tuple[Shard, ...]:
    """Tensors in shards of at most `shard_bytes` (a larger tensor: alone), in the order in which they are given.

    Within a shard wider dtypes come first, so that every tensor is aligned.
    """
    groups: list[list[Entry]] = [[]]
    for entry in entries:
        if groups[-1] and sum(other.nbytes for other in groups[-1]) + entry.nbytes > shard_bytes:
            groups.append([])
        groups[-1].append(entry)
    names = [f"model-{i + 1:05}-of-{len(groups):05}.safetensors" for i in range(len(groups))]
    names = [SINGLE] if len(groups) == 1 else names
    return tuple(_shard(folder / name, group) for name, group in zip(names, groups, strict=True))


def _shard(file: Path, entries: Sequence[Entry]) -> Shard:
    entries = sorted(entries, key=lambda entry: -entry.itemsize)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for entry in entries:
        offsets = [start, start + entry.nbytes]
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
        start += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Shard(file, len(text).to_bytes(8, "little") + text, tuple(entries))


def write_index(folder: Path, shards: Sequence[Shard]) -> None:
    """Write the index, if there is more than one shard: the folder now holds a whole set of weights."""
    if len(shards) == 1:
        return
    size = sum(entry.nbytes for shard in shards for entry in shard.entries)
    places = {entry.name: shard.file.name for shard in shards for entry in shard.entries}
    write_object(folder / INDEX, {"metadata": {"total_size": size}, "weight_map": places})


class ShardFile:
    """A shard that is being written: several threads `put` elements, what is written goes to the disk meanwhile.

    It is on the disk and has its name once `finish` returns. `close` gives up what is not finished.
    """

    FLUSH = 2**28
    """Bytes after which the system is asked to write."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self._starts, start = {}, len(shard.header)
        for entry in shard.entries:
            self._starts[entry.name] = start
            start += entry.nbytes
        self._written = self._flushed = 0
        self._lock = threading.Lock()
        self._flusher = ThreadPoolExecutor(1, "flush")
        self._flushing: Future[None] | None = None
        with self._named("cannot write weights"):
            self._descriptor: int | None = files_only(str(shard.partial), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            _reserve(self._descriptor, shard.nbytes)
            self._write(memoryview(shard.header), 0)

    def put(self, entry: Entry, start: int, elements: Bytes) -> None:
        """Write elements of a tensor, from element `start` on, in any order and from any thread."""
        with self._named(f"writing failed at tensor {entry.name}"):
            self._write(elements.data, self._starts[entry.name] + start * entry.itemsize)

    def finish(self, before_rename: Callable[[], None] = lambda: None) -> None:
        """Wait until the shard is on the disk, and rename it; `before_rename` is called just before that."""
        assert self._descriptor is not None
        try:
            with self._named("cannot write weights"):
                if self._flushing is not None:
                    self._flushing.result()
                os.fsync(self._descriptor)
                before_rename()
                os.replace(self.shard.partial, self.shard.file)
        finally:
            self.close()
        assert self._written == self.shard.nbytes, f"{self._written} bytes instead of {self.shard.nbytes}"

    def close(self) -> None:
        """Give the file back to the system; the second time nothing happens."""
        self._flusher.shutdown()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, data: memoryview, position: int) -> None:
        assert self._descriptor is not None
        done = 0
        while done < len(data):
            done += os.pwrite(self._descriptor, data[done:], position + done)
        with self._lock:
            self._written += done
            if self._written - self._flushed >= self.FLUSH and (self._flushing is None or self._flushing.done()):
                self._flushed = self._written
                self._flushing = self._flusher.submit(os.fdatasync, self._descriptor)

    @contextmanager
    def _named(self, what: str) -> Iterator[None]:
        """An error of the system says what failed and in which file."""
        try:
            yield
        except OSError as error:
            fix = "make room; the same command continues at this shard" if error.errno == errno.ENOSPC else None
            raise MicotaError(what, where=str(self.shard.file), why=error.strerror, fix=fix) from error


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _reserve(descriptor: int, size: int) -> None:
    """Take a file's room on the disk at once, where that can be done: the system then writes it in half the time.

    Where it cannot, nothing happens; `os.posix_fallocate` would write into every block.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).fallocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size))
