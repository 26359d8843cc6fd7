"""More rows of embedding for a model, so that it can be merged with one of a larger vocabulary."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.atomic import atomic, check_free
from micota.errors import MicotaError
from micota.merging import kernels
from micota.merging.buffers import FLOATS, Bytes
from micota.merging.compatibility import HEAD, ModelFolder
from micota.merging.model_files import CONFIG, copy_model_files, write_object
from micota.merging.safetensor_files import Checkpoint, Entry
from micota.merging.shards import SHARD_BYTES, ShardFile, lay_out, write_index
from micota.merging.stacks import TEXT

if TYPE_CHECKING:
    import numpy as np

HEADS = (HEAD, "lm_head.bias", "embed_out.weight")
"""How the names of what makes logits end, by architecture."""


def pad_folder(folder: Path, out: Path, rows: int, shard_bytes: int = SHARD_BYTES) -> list[str]:
    """Write the model of `folder` with `rows` rows of embedding, and of its head, to `out`; returns the padded tensors.

    A new row is the mean of all others, so that no hidden state gives its token the largest logit. The tokenizer stays
    as it is; `vocab_size` of config.json is the new number. Too few rows, or files in `out`, are a MicotaError.
    """
    model = ModelFolder(folder)
    entries, embedding = model.entries, model.embedding
    if embedding is None:
        raise MicotaError("which tensor is the embedding is not known", where=str(folder))
    before = entries[embedding].shape[0]
    if rows <= before:
        fix = f"--rows with more than {before}"
        raise MicotaError(f"its embedding has {before} rows: rows are added, never cut", where=str(folder), fix=fix)
    check_free(out)
    padded = [
        name for name, e in entries.items() if e.shape[:1] == (before,) and (name == embedding or name.endswith(HEADS))
    ]
    if odd := [name for name in padded if entries[name].torch_dtype not in FLOATS]:
        raise MicotaError(f"tensor {odd[0]} is {entries[odd[0]].torch_dtype}: it cannot be padded", where=str(folder))
    sizes = [replace(e, shape=(rows, *e.shape[1:])) if e.name in padded else e for e in entries.values()]
    out.parent.mkdir(parents=True, exist_ok=True)
    needed, free = sum(e.numel * e.itemsize for e in sizes), shutil.disk_usage(out.parent).free
    if needed > free:
        what = f"{rows} rows make a model of {needed / 1e9:,.1f} GB; {free / 1e9:,.1f} GB are free"
        raise MicotaError(what, where=str(out), fix="--rows as many as the other model has, or another disk")
    with atomic(out) as temporary:
        temporary.mkdir()
        shards = lay_out(temporary, sizes, shard_bytes)
        for shard in shards:
            with closing(ShardFile(shard)) as file:
                for entry in shard.entries:
                    _write(file, model.checkpoint, entry)
                file.finish()
        write_index(temporary, shards)
        copy_model_files(folder, temporary)
        write_object(temporary / CONFIG, _with_rows(model.config, rows))
    return padded


def _write(file: ShardFile, weights: Checkpoint, entry: Entry) -> None:
    """Copy a tensor; behind its own rows come means."""
    import numpy as np

    source = weights[entry.name]
    width = max(1, source.numel // max(1, source.shape[0])) if source.shape else 1
    total = np.zeros(width)
    step = max(1, kernels.PIECE // width) * width
    for start in range(0, source.numel, step):
        block = weights.block(entry.name, start, min(start + step, source.numel))
        file.put(entry, start, block)
        if entry.numel > source.numel:
            total += kernels.rows([block], [source.torch_dtype]).reshape(-1, width).sum(axis=0, dtype=np.float64)
    if entry.numel > source.numel:
        row = _stored(total / source.shape[0], source)
        for start in range(source.numel, entry.numel, step):
            file.put(entry, start, np.tile(row, min(step, entry.numel - start) // width))


def _stored(row: np.ndarray[Any, Any], entry: Entry) -> Bytes:
    import numpy as np

    elements = np.empty(len(row) * entry.itemsize, dtype=np.uint8)
    kernels.narrow(row.astype(np.float32), entry.torch_dtype, elements)
    return elements


def _with_rows(config: dict[str, Any], rows: int) -> dict[str, Any]:
    inner = {key: _with_rows(config[key], rows) for key in TEXT if isinstance(config.get(key), dict)}
    return config | inner | ({"vocab_size": rows} if "vocab_size" in config or not inner else {})
