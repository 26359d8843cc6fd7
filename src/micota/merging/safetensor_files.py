"""The weights in a model folder: what is in its safetensors files, and any piece of it on demand.

`Checkpoint` knows every tensor's name, shape, dtype and place from the files' headers, and reads a tensor or a piece
only when asked, without torch. The format is https://huggingface.co/docs/safetensors, in shards with an index as
transformers writes them.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError
from micota.merging.buffers import Bytes, typed

if TYPE_CHECKING:
    import torch

HEADER = 2**24
"""Bytes of a header that is looked through for what is wrong with it."""
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

DTYPES = {
    **{"F64": ("float64", 8), "F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2)},
    **{"F8_E4M3": ("float8_e4m3fn", 1), "F8_E5M2": ("float8_e5m2", 1), "BOOL": ("bool", 1)},
    **{"I64": ("int64", 8), "I32": ("int32", 4), "I16": ("int16", 2), "I8": ("int8", 1), "U8": ("uint8", 1)},
}
"""Safetensors' name for a dtype -> (torch's name, bytes per element)."""
NAMES = {torch_dtype: name for name, (torch_dtype, _) in DTYPES.items()}
"""Torch's name for a dtype -> safetensors'."""


@dataclass(frozen=True)
class Entry:
    """One tensor of a model folder, without its values."""

    name: str
    dtype: str
    """As safetensors spells it: BF16, F32, ..."""
    shape: tuple[int, ...]
    file: Path = Path()
    start: int = 0
    """Where its bytes begin in `file`."""

    @property
    def numel(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def torch_dtype(self) -> str:
        """Torch's name of its dtype."""
        return DTYPES[self.dtype][0]

    @property
    def is_float(self) -> bool:
        """Whether it holds floating-point numbers of two bytes or more; those of one byte need scales beside them."""
        return self.torch_dtype.endswith(("16", "32", "64")) and "float" in self.torch_dtype

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return DTYPES[self.dtype][1]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.numel * self.itemsize


class Checkpoint:
    """The weights in a folder: one model.safetensors, or shards with their index. Only headers are read here.

    `Checkpoint(Path("TA")).read("model.norm.weight")` is a tensor, `Checkpoint(Path("TA")).entries` the list.
    A folder without weights, a truncated file or an index that does not fit its files is a `MicotaError`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.entries: dict[str, Entry] = {}
        self._memory: dict[str, Bytes] = {}
        self._descriptors: dict[Path, int] = {}
        self._lock = threading.Lock()
        for file in _weight_files(self.folder):
            for entry in read_header(file):
                if entry.name in self.entries:
                    raise MicotaError(f"tensor {entry.name} stands in two files", where=str(self.folder))
                self.entries[entry.name] = entry
        _check_index(self.folder, self.entries)

    def __getitem__(self, name: str) -> Entry:
        if name not in self.entries:
            raise MicotaError(f"tensor {name} is missing", where=str(self.folder))
        return self.entries[name]

    def read(self, name: str) -> torch.Tensor:
        """A whole tensor, in its own shape and dtype."""
        entry = self[name]
        return typed(self.block(name, 0, entry.numel), entry.torch_dtype).reshape(entry.shape)

    def block(self, name: str, start: int, stop: int, into: Bytes | None = None) -> Bytes:
        """Elements [start, stop) of a tensor, as bytes; they may lie in `into`, if that is large enough."""
        entry = self[name]
        assert 0 <= start <= stop <= entry.numel, f"{name}: [{start}, {stop}) of {entry.numel}"
        place = slice(start * entry.itemsize, stop * entry.itemsize)
        return self._memory[name][place] if name in self._memory else self._bytes(entry, place.start, place.stop, into)

    def load(self, names: Iterable[str]) -> None:
        """Read whole tensors into memory: `block` then takes them from there."""
        self._memory |= {name: self.block(name, 0, self[name].numel) for name in names}

    def fingerprint(self) -> str:
        """Hex digest of all names, shapes and dtypes, and of both ends (4 KiB) of every tensor's bytes.

        It tells two trainings of one model apart without reading the files, whatever their shards.
        """
        digest = hashlib.sha256()
        for name, entry in sorted(self.entries.items()):
            digest.update(json.dumps([name, entry.dtype, entry.shape]).encode())
            digest.update(self._bytes(entry, 0, min(4096, entry.nbytes)).data)
            digest.update(self._bytes(entry, max(0, entry.nbytes - 4096), entry.nbytes).data)
        return digest.hexdigest()

    def _bytes(self, entry: Entry, start: int, stop: int, into: Bytes | None = None) -> Bytes:
        import numpy as np

        fits = into is not None and stop - start <= len(into)
        data = into[: stop - start] if into is not None and fits else np.empty(stop - start, dtype=np.uint8)
        view, done = data.data, 0
        try:
            opened = self._opened(entry.file)
            while done < len(data):
                count = os.preadv(opened, [view[done:]], entry.start + start + done)
                if not count:
                    raise MicotaError(f"the file ends inside tensor {entry.name}", where=str(entry.file))
                done += count
        except OSError as error:
            what = f"reading failed at tensor {entry.name}"
            raise MicotaError(what, where=str(entry.file), why=error.strerror) from error
        return data

    def _opened(self, file: Path) -> int:
        """The descriptor for all reads of a file, by any thread: only of such a one does the system read ahead."""
        with self._lock:
            if file not in self._descriptors:
                self._descriptors[file] = os.open(file, os.O_RDONLY)
                weakref.finalize(self, os.close, self._descriptors[file])
            return self._descriptors[file]


def read_header(file: Path) -> list[Entry]:
    """What a safetensors file holds; the library checks its header and its size."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np"), file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header: dict[str, Any] = json.loads(stream.read(length), object_pairs_hook=_once)
    except (SafetensorError, OSError, ValueError) as error:
        fix = "copy the file again: it is truncated or no safetensors file"
        what = f"cannot read {file.name}{_odd_entry(file)}"
        raise MicotaError(what, where=str(file), why=str(error), fix=fix) from error
    header.pop("__metadata__", None)
    return [_entry(name, item, file, 8 + length) for name, item in header.items()]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise ValueError("a name stands there twice")
    return entries


def _odd_entry(file: Path) -> str:
    """The first tensor of a header whose entry cannot be right, for a message; "" if that cannot be told."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            entries = json.loads(stream.read(length)) if length <= HEADER else {}
        room = file.stat().st_size - 8 - length
        pairs = [*entries.items()]
    except (OSError, ValueError, RecursionError, AttributeError):
        return ""
    for name, item in pairs:
        match item:
            case {"dtype": str(kind), "shape": [*shape], "data_offsets": [int(start), int(end)]} if kind in DTYPES:
                whole = all(type(side) is int and side >= 0 for side in shape)
                if whole and 0 <= start <= end <= room and end - start == math.prod(shape) * DTYPES[kind][1]:
                    continue
        if name != "__metadata__":
            return f": tensor {name[:200]} is {str(item)[:200]}"
    return ""


def _entry(name: str, item: dict[str, Any], file: Path, data: int) -> Entry:
    if item["dtype"] not in DTYPES:
        raise MicotaError(f"tensor {name} has the dtype {item['dtype']}, unknown here", where=str(file))
    return Entry(name, item["dtype"], tuple(item["shape"]), file, data + item["data_offsets"][0])


def _weight_files(folder: Path) -> list[Path]:
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file() and index.is_file():
        why = f"both {SINGLE} and {INDEX} are there, and either may be a leftover"
        raise MicotaError("the folder holds two sets of weights", where=str(folder), why=why)
    if single.is_file():
        return [single]
    if not index.is_file():
        others = sorted(p.name for p in folder.glob("*") if p.suffix in (".safetensors", ".bin", ".pt", ".gguf"))
        there = f"found only {', '.join(others[:4])}" if others else None
        fix = "save the whole model with save_pretrained (an adapter: merge it into its model first)"
        what = f"no {SINGLE} and no {INDEX}" if folder.is_dir() else "no such folder"
        raise MicotaError(f"{what}: a model folder is needed", where=str(folder), why=there, fix=fix)
    files = sorted({folder / name for name in _weight_map(folder).values()})
    for file in files:
        if not file.is_file():
            raise MicotaError(f"{file.name} is missing", where=str(folder), why=f"{INDEX} names it")
    return files


def _weight_map(folder: Path) -> dict[str, str]:
    try:
        places = dict(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"])
        if not places or any(not name or Path(name).name != name for name in places.values()):
            raise ValueError("it names files in other folders, or none")
    except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
        raise MicotaError(f"{INDEX} holds no weight_map", where=str(folder), why=str(error)[:200]) from error
    return places


def _check_index(folder: Path, entries: dict[str, Entry]) -> None:
    if not (folder / INDEX).is_file():
        return
    listed = _weight_map(folder)
    for name in sorted(listed.keys() | entries.keys()):
        place = entries[name].file.name if name in entries else "no file"
        if listed.get(name, "no file") != place:
            why = f"the index says {listed.get(name, 'no file')}, it stands in {place}"
            raise MicotaError(f"{INDEX} is wrong about tensor {name}", where=str(folder), why=why)
