"""Merge model folders: stream the weights of a base and its descendants into a new folder, and say what was seen.

    facts = merge_folders(out, base, [tuned], ["tuned"], Settings("dare_ties", (0.6,), density=0.7))

Memory holds a few blocks of each input, whatever the model's size. A merge that was killed goes on at the shard it was
writing, and the bytes come out the same. The last file is config.json: without it nothing loads the folder.
`merge.json` says what was merged and how, and lets a merge recognise its own unfinished work.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.merging import Settings, check, check_labels
from micota.merging.companions import CONFIG, copy_companions, end_tokens, write_companions
from micota.merging.compatibility import check_ends, compare, read_json, weights
from micota.merging.job import Job
from micota.merging.safetensor_files import DTYPES, FLOATS, INDEX, Checkpoint, Entry
from micota.merging.shards import SHARD_BYTES, Shard, Writer, write_json
from micota.merging.tally import Tally, facts

__all__ = ["RECORD", "Checkpoint", "Writer", "compare", "copy_companions", "end_tokens", "merge_folders"]

RECORD = "merge.json"


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
    progress: Callable[[int, int], None] | None = None,
    shard_bytes: int = SHARD_BYTES,
    record_in: Path | None = None,
    checksums: bool = False,
) -> dict[str, Any]:
    """Merge `models` into `base` and write the model folder `out`; returns facts of the merge, JSON-safe.

    Weights have the base's names and shapes, padded vocabulary rows included, and its dtypes unless `dtype` (torch's
    name) is given. `settings` are one for all tensors, or a function of the tensor's name. Everything else comes from
    the first folder of `like` that has it, a list of (label, folder): by default the first model, the fine-tuned one,
    because the merged model is asked with its template and has to stop at its end token; then the base. It is
    config.json (its `dtype` set to the weights'), generation_config.json, and the tokenizer with its chat templates,
    as a whole.

    The record of the work lies in `out`, or in the folder `record_in`; with `checksums` it has the SHA-256 of each
    shard. `progress(done, total)` counts bytes of weights.
    A label names a model in the facts and seeds its masks. Facts: `models` (label -> L2 `norm` of the task vector, the
    same per `layers`, share `kept`), `sign_conflicts` (share of entries where surviving, weighted task vectors
    disagree; None for one model), `cosines` between task vectors, `parameters`, `seed`, `remarks` of `check`,
    `findings` of `compare`, `sources` of files.
    """
    like = like or [(labels[0], models[0]), ("base", base)]
    record_file = (record_in or out) / RECORD
    check_labels(labels, len(models))
    findings = compare(base, models)
    check_ends(like, (base, *models))
    checkpoint, found = weights(base)
    entries = [_stored_as(entry, dtype) for entry in sorted(found.values(), key=_natural)]
    each = {entry.name: settings if isinstance(settings, Settings) else settings(entry.name) for entry in entries}
    remarks = _remarks(each, len(models))
    inputs = [checkpoint, *(Checkpoint(model) for model in models)]
    writer = Writer(out, entries, shard_bytes=shard_bytes)
    record = _open_record(out, record_file, _identity(inputs, labels, each, shard_bytes, dtype), writer.shards)
    if "facts" in record:
        return dict(record["facts"])
    _check_room(out, writer.shards)
    Job(writer, record_file, record, inputs, labels, each, threads, checksums, progress).run()
    sources = write_companions(out, like, entries)
    tallies = {name: Tally(**tally) for name, tally in record["tensors"].items()}
    seen = facts(tallies, labels if any(tally.kept for tally in tallies.values()) else [])
    said = {"seed": each[entries[0].name].seed, "remarks": remarks, "findings": findings, "sources": sources}
    record = {"merge": record["merge"], "facts": seen | said, "sums": record.get("sums", {})}
    write_json(record_file, record)
    return dict(record["facts"])


def _natural(entry: Entry) -> list[tuple[int, str]]:
    """Sorting key: layer 2 before layer 10, whatever files the tensors lie in."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in entry.name.split(".")]


def _stored_as(entry: Entry, dtype: str | None) -> Entry:
    """A tensor as it will be written: numbers that are merged may get another dtype, others keep theirs."""
    if dtype is None or entry.dtype not in FLOATS:
        return entry
    return replace(entry, dtype=next(name for name in FLOATS if DTYPES[name][0] == dtype))


def _remarks(settings: Mapping[str, Settings], models: int) -> list[str]:
    """What holds for every tensor's settings; of one tensor's alone it would say too much."""
    different = list(dict.fromkeys(settings.values()))
    said = [check(one, models) for one in different]
    return [remark for remark in said[0] if all(remark in others for others in said)] if said else []


def _identity(
    inputs: Sequence[Checkpoint],
    labels: Sequence[str],
    settings: Mapping[str, Settings],
    shard_bytes: int,
    dtype: str | None,
) -> dict[str, Any]:
    """What makes an unfinished folder the work of this very merge."""
    prints = [checkpoint.fingerprint() for checkpoint in inputs]
    plain = {name: dataclasses.asdict(one) for name, one in settings.items()}
    how = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return {"inputs": prints, "labels": list(labels), "settings": how, "shard_bytes": shard_bytes, "dtype": dtype}


def _open_record(out: Path, record_file: Path, identity: dict[str, Any], shards: Sequence[Shard]) -> dict[str, Any]:
    """The record to go on with; what another, unfinished merge left behind is removed."""
    out.mkdir(parents=True, exist_ok=True)
    record = read_json(record_file)
    whole = all(shard.is_finished() for shard in shards)
    if record.get("merge") == identity and ("tensors" in record or whole):
        return record
    leftovers = [file for file in (*out.glob("model*.safetensors"), out / INDEX, out / CONFIG) if file.exists()]
    if leftovers and (not record or ("facts" in record and record["merge"] != identity)):
        fix = "choose another folder, or delete this one"
        raise MicotaError("the folder already holds another model", where=str(out), fix=fix)
    for file in (*leftovers, *out.glob("model*.partial")):
        file.unlink()
    return {"merge": identity, "tensors": {}}


def _check_room(out: Path, shards: Sequence[Shard]) -> None:
    """A disk that cannot hold what is still to be written is named before the first byte."""
    needed = sum(shard.nbytes for shard in shards if not shard.is_finished())
    free = shutil.disk_usage(out).free + sum(file.stat().st_size for file in out.glob("model*.partial"))
    if needed > free:
        what = f"the merge needs {needed / 1e9:,.1f} GB more, {free / 1e9:,.1f} GB are free"
        raise MicotaError(what, where=str(out), fix="make room, or choose a folder on another disk")
