"""Merge model folders: stream the weights of a base and its descendants into a new folder, and say what was
seen.

    facts = merge_folders(out, base, [tuned], ["tuned"], Settings("dare_ties", (0.6,), density=0.7))

Memory holds one block of each input, whatever the model's size. A merge that was killed goes on at the shard
it was writing, and the bytes come out the same. The last file is config.json: without it nothing loads the
folder. `merge.json` says what was merged and how, and lets a merge recognise its own unfinished work.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.checkpoints.compatibility import compare, read_json, weights
from micota.checkpoints.safetensor_files import DTYPES, INDEX, Checkpoint, Entry
from micota.checkpoints.shards import SHARD_BYTES, Shard, Writer, write_json
from micota.errors import MicotaError
from micota.merging import Settings, check, check_labels, merge_blocks
from micota.merging.tally import Tally, facts

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "Writer", "compare", "copy_companions", "merge_folders"]

RECORD, CONFIG = "merge.json", "config.json"
_TOKENIZER = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "vocab.txt", "merges.txt", "tokenizer.model"),
)
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja")


def merge_folders(
    out: Path,
    base: Path,
    models: Sequence[Path],
    labels: Sequence[str],
    settings: Settings,
    *,
    progress: Callable[[int, int], None] | None = None,
    shard_bytes: int = SHARD_BYTES,
    record_in: Path | None = None,
) -> dict[str, Any]:
    """Merge `models` into `base` and write the model folder `out`; returns facts of the merge, JSON-safe.

    Weights have the base's names, shapes (padded vocabulary rows included) and dtypes. Everything else comes
    from the first model, the fine-tuned one, because the merged model is asked with its template and has to
    stop at its end token: config.json (its `dtype` set to the weights'), generation_config.json, and the
    tokenizer with its chat templates, as a whole. What the first model's folder lacks comes from the base.

    The record of the work lies in `out`, or in the folder `record_in`.
    `progress(done, total)` counts bytes of weights, shard by shard. A label names a model in the facts and
    seeds its masks. Facts: `models` (label -> L2 `norm` of the task vector, the same per `layers`, share
    `kept`), `sign_conflicts` (share of entries where surviving, weighted task vectors disagree; None for one
    model), `cosines` between task vectors, `parameters`, `remarks` of `check`, `findings` of `compare`,
    `sources` of files.
    """
    record_file = (record_in or out) / RECORD
    remarks = check(settings, len(models))
    check_labels(labels, len(models))
    findings = compare(base, models)
    checkpoint, entries = weights(base)
    inputs = [checkpoint, *(Checkpoint(model) for model in models)]
    writer = Writer(out, sorted(entries.values(), key=_natural), shard_bytes=shard_bytes)
    record = _open_record(out, record_file, _identity(inputs, labels, settings, shard_bytes), writer.shards)
    if "facts" in record:
        return dict(record["facts"])
    _write_weights(writer, record_file, record, inputs, labels, settings, progress)
    dtype = DTYPES[max(entries.values(), key=lambda entry: entry.numel).dtype][0]
    sources = _write_companions(out, [(labels[0], models[0]), ("base", base)], dtype)
    tallies = {name: Tally(**tally) for name, tally in record["tensors"].items()}
    said = {"remarks": remarks, "findings": findings, "sources": sources}
    record = {"merge": record["merge"], "facts": facts(tallies, labels) | said}
    write_json(record_file, record)
    return dict(record["facts"])


def _natural(entry: Entry) -> list[tuple[int, str]]:
    """Sorting key: layer 2 before layer 10, whatever files the tensors lie in."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in entry.name.split(".")]


def _identity(
    inputs: Sequence[Checkpoint], labels: Sequence[str], settings: Settings, shard_bytes: int
) -> dict[str, Any]:
    """What makes an unfinished folder the work of this very merge."""
    prints = [checkpoint.fingerprint() for checkpoint in inputs]
    how = json.loads(json.dumps(dataclasses.asdict(settings)))
    return {"inputs": prints, "labels": list(labels), "settings": how, "shard_bytes": shard_bytes}


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


def _write_weights(
    writer: Writer,
    record_file: Path,
    record: dict[str, Any],
    inputs: Sequence[Checkpoint],
    labels: Sequence[str],
    settings: Settings,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Merge every tensor of every unfinished shard; tallies go into the record before a shard can be seen."""
    tensors: dict[str, dict[str, Any]] = record["tensors"]

    def blocks(entry: Entry) -> Iterator[torch.Tensor]:
        tally = Tally()
        base, *models = (partial(checkpoint.block, entry.name) for checkpoint in inputs)
        yield from merge_blocks(entry.name, entry.numel, base, models, labels, settings, tally)
        tensors[entry.name] = dataclasses.asdict(tally)

    done, total = 0, sum(shard.nbytes for shard in writer.shards)
    for shard in writer.shards:
        if not (shard.is_finished() and all(entry.name in tensors for entry in shard.entries)):
            writer.write(shard, blocks, before_rename=lambda: write_json(record_file, record))
        done += shard.nbytes
        if progress is not None:
            progress(done, total)
    writer.finish()


def copy_companions(source: Path, out: Path) -> None:
    """Copy what a model folder holds beside weights and config.json: tokenizer, templates, generation config."""
    for name in _present(source, (*_TOKENIZER, *_TEMPLATES, "generation_config.json")):
        (out / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / name, out / name)


def _write_companions(out: Path, folders: Sequence[tuple[str, Path]], dtype: str) -> dict[str, str]:
    """Copy what is not a weight, config.json last; returns file -> label of the folder it came from."""
    sources: dict[str, str] = {}
    for telling, others in ((_TOKENIZER, _TEMPLATES), (("generation_config.json",), ()), ((CONFIG,), ())):
        found = [(label, folder) for label, folder in folders if _present(folder, telling)]
        for label, folder in found[:1]:
            for name in _present(folder, telling + others):
                _copy(folder / name, out / name, dtype)
                sources[name] = label
    return sources


def _copy(source: Path, target: Path, dtype: str) -> None:
    if target.name != CONFIG:
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(source, target)
        return
    config = read_json(source)  # transformers before 4.56 called the key torch_dtype
    key = "torch_dtype" if "torch_dtype" in config and "dtype" not in config else "dtype"
    write_json(target, config | {key: dtype})


def _present(folder: Path, patterns: Sequence[str]) -> list[str]:
    files = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
    return [file.relative_to(folder).as_posix() for file in files]
