"""A teacher's likeliest next tokens at each place of responses, kept beside the pools: STORE/targets/ID/*.arrow.

A row is keyed by the tokens that were read, so that every epoch, every recipe and every student with this tokenizer
finds it again. Files are written whole, a part of the rows each, and read through memory maps.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from micota.atomic import atomic
from micota.errors import MicotaError
from micota.store.checked import say

ENTRIES = 2**23
"""So many log-probabilities are held before they are written."""
COLUMNS = ["key", "check", "ids", "logs", "rest"]


class Targets(NamedTuple):
    """Of each token of a response: the teacher's likeliest tokens (token, k), their log-probabilities, and that of all
    others together, -inf where there are none."""

    ids: Any
    logs: Any
    rest: Any


def row_key(prompt: Sequence[int], response: Sequence[int]) -> str:
    """The key of a response behind a prompt: 32 hexadecimal digits over their tokens."""
    words = f"{len(prompt)} " + " ".join(map(str, (*prompt, *response)))
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()


class TeacherTable:
    """The rows of one folder, by their keys."""

    def __init__(self, folder: Path, top_k: int) -> None:
        self.folder, self.top_k = folder, top_k
        self._files: dict[Path, Any] = {}
        self._places: dict[str, tuple[Path, int]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look for rows that were written since; a file that is damaged has none."""
        import pyarrow as pa

        for path in sorted(set(self.folder.glob("*.arrow")) - self._files.keys()):
            try:
                batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).select(COLUMNS)
                batch.validate(full=True)
                keys = batch.column("key").to_pylist()
            except (pa.ArrowException, ValueError, OSError, LookupError) as error:
                say(f"{path} is not read, its responses are scored again: {error}")
                self._files[path] = None
                continue
            self._files[path] = batch
            self._places |= {key: (path, at) for at, key in enumerate(keys) if key not in self._places}

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def read(self, key: str, tokens: int) -> Targets:
        """The targets of a response of so many tokens, as arrays. Raises MicotaError where the file has others,
        or these changed since."""
        path, at = self._places[key]
        ids, logs, rest = (self._files[path].column(name)[at].values.to_numpy() for name in ("ids", "logs", "rest"))
        if not len(ids) == len(logs) == tokens * self.top_k == len(rest) * self.top_k:
            what = f"a row of {path} has {len(rest)} tokens, and the response has {tokens}"
            raise MicotaError(what, fix=f"remove {self.folder}: the teacher scores its responses again")
        row = Targets(ids.reshape(tokens, -1), logs.reshape(tokens, -1), rest)
        if _check(key, row) != self._files[path].column("check")[at].as_py():
            raise MicotaError(f"a row of {path} is damaged", fix="remove the file: the teacher scores its rows again")
        return row

    def add(self, rows: Iterable[tuple[str, Targets]]) -> Iterator[int]:
        """Write rows as they come; yields how many are on the disk after each file."""
        held: list[tuple[str, Targets]] = []
        done = size = 0
        for row in rows:
            held.append(row)
            size += row[1].logs.size
            if size >= ENTRIES:
                self._write(held)
                done, size, held = done + len(held), 0, []
                yield done
        if held:
            self._write(held)
            yield done + len(held)

    def _write(self, rows: Sequence[tuple[str, Targets]]) -> None:
        import pyarrow as pa

        columns = [pa.array([key for key, _ in rows]), pa.array([_check(*row) for row in rows], pa.uint32())]
        for name, kind in (("ids", pa.int32()), ("logs", pa.float32()), ("rest", pa.float32())):
            columns.append(pa.array([getattr(row, name).ravel() for _, row in rows], pa.large_list(kind)))
        batch = pa.record_batch(columns, names=COLUMNS)
        path = self.folder / f"{rows[0][0]}-{os.getpid()}-{time.monotonic_ns()}.arrow"
        with atomic(path) as whole, pa.ipc.new_file(str(whole), batch.schema) as file:
            file.write_batch(batch)


def _check(key: str, row: Targets) -> int:
    """The CRC-32 of a row: Arrow keeps none, and a changed bit would be learnt."""
    return zlib.crc32(b"".join([key.encode(), *(part.tobytes() for part in row)]))
