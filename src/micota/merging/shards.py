"""Writing the weights of a model folder as a stream, in shards, so that a kill loses one shard at most.

The whole layout is known before the first byte: a shard's header is written, then the tensors' bytes as they
come, under another name, and the shard is renamed when it is complete and on the disk. So memory never holds
more than the piece in hand, and a shard under its final name is whole.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.merging.buffers import Bytes
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
        return len(self.header) + sum(entry.nbytes for entry in self.entries)

    def places(self) -> Iterator[tuple[Entry, int]]:
        """Each tensor with the position of its first byte in the file."""
        start = len(self.header)
        for entry in self.entries:
            yield entry, start
            start += entry.nbytes

    def is_finished(self) -> bool:
        """Whether the file stands under its final name with this header and size."""
        if not self.file.is_file() or self.file.stat().st_size != self.nbytes:
            return False
        with self.file.open("rb") as stream:
            return stream.read(len(self.header)) == self.header


class Writer:
    """Writes tensors, as their bytes arrive, into shards of at most `shard_bytes` (a larger tensor: alone).

    Call `write` for the shards that are not finished, then `finish`. Tensors keep the order they are given
    in, except that within a shard wider dtypes come first, so that every tensor is aligned.
    """

    def __init__(self, folder: Path, entries: Sequence[Entry], *, shard_bytes: int = SHARD_BYTES) -> None:
        self.folder = Path(folder)
        groups = _group(entries, shard_bytes)
        names = [f"model-{i + 1:05}-of-{len(groups):05}.safetensors" for i in range(len(groups))]
        names = [SINGLE] if len(groups) == 1 else names
        self.shards = tuple(_shard(self.folder / name, group) for name, group in zip(names, groups, strict=True))

    def write(self, shard: Shard, fill: Callable[[Put], None]) -> Written:
        """Write one shard: `fill(put)` hands its tensors' elements to `put(entry, start, elements)`, in any order and
        from any thread. The shard is on the disk, and to be seen, when what is returned is closed.
        """
        places = {entry.name: start for entry, start in shard.places()}

        def put(entry: Entry, start: int, elements: Bytes) -> None:
            try:
                stream.write(elements.data, places[entry.name] + start * entry.itemsize)
            except OSError as error:
                raise _failed(shard, f"writing failed at tensor {entry.name}", error) from error

        try:
            stream = _Stream(partial(shard.file), shard.nbytes)
            try:
                stream.write(memoryview(shard.header), 0)
                fill(put)
            except BaseException:
                stream.close()
                raise
        except OSError as error:
            raise _failed(shard, "cannot write weights", error) from error
        return Written(shard, stream)

    def finish(self) -> None:
        """Write the index, if there is more than one shard: the folder now holds a whole set of weights."""
        if len(self.shards) == 1:
            return
        entries = [(entry, shard.file.name) for shard in self.shards for entry in shard.entries]
        index = {
            "metadata": {"total_size": sum(entry.nbytes for entry, _ in entries)},
            "weight_map": {entry.name: file for entry, file in entries},
        }
        write_json(self.folder / INDEX, index)


class Written:
    """A shard whose bytes have been handed to the system, and are not yet all on the disk."""

    def __init__(self, shard: Shard, stream: _Stream) -> None:
        self._shard, self._stream = shard, stream

    def close(self, before_rename: Callable[[], None] = lambda: None) -> None:
        """Wait until the shard is on the disk, and rename it; `before_rename` is called just before that."""
        file = self._shard.file
        try:
            self._stream.settle()
            before_rename()
            os.replace(partial(file), file)
        except OSError as error:
            raise _failed(self._shard, "cannot write weights", error) from error
        finally:
            self._stream.close()
        written, size = self._stream.written, self._shard.nbytes
        assert written == size, f"{file}: {written} bytes instead of {size}"


def partial(file: Path) -> Path:
    """The name of a shard that is not whole yet."""
    return file.with_name(file.name + ".partial")


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(file: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    aside = partial(file)
    with aside.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(value, indent=2) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(aside, file)


def _failed(shard: Shard, what: str, error: OSError) -> MicotaError:
    fix = "the same command goes on at this shard, once there is room" if error.errno == errno.ENOSPC else None
    return MicotaError(what, where=str(shard.file), why=error.strerror, fix=fix)


class _Stream:
    """A file that several threads write into, at positions; what is written goes to the disk meanwhile."""

    FLUSH = 2**28

    def __init__(self, file: Path, size: int) -> None:
        self.written = 0
        self._flushed = 0
        self._lock = threading.Lock()
        self._flusher = ThreadPoolExecutor(1, "flush")
        self._flushing: Future[None] | None = None

        self._descriptor = os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o666)
        _reserve(self._descriptor, size)

    def close(self) -> None:
        self._flusher.shutdown()
        os.close(self._descriptor)

    def write(self, data: memoryview, position: int) -> None:
        done = 0
        while done < len(data):
            done += os.pwrite(self._descriptor, data[done:], position + done)
        with self._lock:
            self.written += done
            if self.written - self._flushed >= self.FLUSH and (self._flushing is None or self._flushing.done()):
                self._flushed = self.written
                self._flushing = self._flusher.submit(os.fdatasync, self._descriptor)

    def settle(self) -> None:
        """Returns when every byte is on the disk."""
        if self._flushing is not None:
            self._flushing.result()
        os.fsync(self._descriptor)


def _reserve(descriptor: int, size: int) -> None:
    """Take a file's room on the disk at once, where that can be done: the system then writes it in half the time.

    Where it cannot, nothing happens; `os.posix_fallocate` would write into every block.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).fallocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size))


def _group(entries: Sequence[Entry], shard_bytes: int) -> list[list[Entry]]:
    groups: list[list[Entry]] = [[]]
    for entry in entries:
        if groups[-1] and sum(e.nbytes for e in groups[-1]) + entry.nbytes > shard_bytes:
            groups.append([])
        groups[-1].append(entry)
    return [sorted(group, key=lambda entry: -entry.itemsize) for group in groups]


def _shard(file: Path, entries: Sequence[Entry]) -> Shard:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for entry in entries:
        offsets = [start, start + entry.nbytes]
        header[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": offsets}
        start += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return Shard(file, len(text).to_bytes(8, "little") + text, tuple(entries))
