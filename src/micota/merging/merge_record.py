"""merge.json: what a merge remembers of itself, so that it recognizes and continues its own unfinished work."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.merging.model_files import CONFIG, read_object, write_object
from micota.merging.safetensor_files import INDEX, Checkpoint
from micota.merging.settings import Settings
from micota.merging.shards import Shard
from micota.merging.tally import Tally

RECORD = "merge.json"


def identity(
    inputs: Sequence[Checkpoint],
    labels: Sequence[str],
    settings: Mapping[str, Settings],
    shard_bytes: int,
    dtype: str | None,
) -> dict[str, Any]:
    """What makes an unfinished folder the work of this very merge."""
    prints = [checkpoint.fingerprint() for checkpoint in inputs]
    plain = {name: each.identity for name, each in settings.items()}
    how = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    return {"inputs": prints, "labels": list(labels), "settings": how, "shard_bytes": shard_bytes, "dtype": dtype}


class MergeRecord:
    """The record of a merge into the folder `out`: tallies and checksums of finished shards, in the end the facts."""

    def __init__(self, file: Path, merge: dict[str, Any], out: Path, shards: Sequence[Shard]) -> None:
        for aside in out.glob(".*.json.*"):  # a killed write left it
            aside.unlink()
        self._file = file
        self._data = read_object(file)
        whole = all(shard.is_finished() for shard in shards)
        if self._data.get("merge") == merge and ("tensors" in self._data or whole):
            return
        leftovers = [path for path in (*out.glob("model*.safetensors"), out / INDEX, out / CONFIG) if path.exists()]
        if leftovers and (not self._data or ("facts" in self._data and self._data["merge"] != merge)):
            fix = "choose another folder, or delete this one"
            raise MicotaError("the folder already holds another model", where=str(out), fix=fix)
        for path in (*leftovers, *out.glob("model*.partial")):
            path.unlink()
        self._data = {"merge": merge, "tensors": {}}

    @property
    def facts(self) -> dict[str, Any] | None:
        """The facts of a merge that is finished."""
        return self._data.get("facts")

    @property
    def tallies(self) -> dict[str, Tally]:
        """What was seen of the tensors of finished shards."""
        return {name: Tally(**tally) for name, tally in self._data["tensors"].items()}

    def has(self, shard: Shard) -> bool:
        """Whether a shard is finished and its tensors are counted."""
        return shard.is_finished() and all(entry.name in self._data["tensors"] for entry in shard.entries)

    def add(self, shard: Shard, tallies: Mapping[str, Tally], checksum: str) -> None:
        """Note the tensors of a shard, and its SHA-256 if there is one ("" if not)."""
        self._data["tensors"] |= {name: dataclasses.asdict(tally) for name, tally in tallies.items()}
        if checksum:
            self._data["sums"] = self._data.get("sums", {}) | {shard.file.name: checksum}
        write_object(self._file, self._data)

    def finish(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Put the facts in the place of the tallies; returns them."""
        self._data = {"merge": self._data["merge"], "facts": facts, "sums": self._data.get("sums", {})}
        write_object(self._file, self._data)
        return facts
