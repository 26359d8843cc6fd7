"""A store and storage that is no shared disk: what lies there, and how a file from there is checked.

REMOTE/pools/ID/FILE.START-END-SHA.jsonl   completions, in pieces that never change
REMOTE/artifacts/ID/files/, manifest.json  the manifest last: an artifact whose manifest is there is whole
REMOTE/names.json, REMOTE/locks/NAME.lock  names of artifacts, commits of Hub ids
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.store.artifacts import Store
from micota.store.checked import say, sha256
from micota.store.manifest import ID, Manifest, read_manifest
from micota.store.pool_pieces import Piece, piece
from micota.store.remote import Remote

LARGEST = 64 * 2**20  # bytes of a manifest, and of names
POOL = re.compile(r"(fake-)?[0-9a-f]{16}")
Report = Callable[[int, int], None]


@dataclass
class Moved:
    """What a transfer has moved, how many files were there already, and what could not be moved."""

    files: int = 0
    size: int = 0
    there: int = 0
    wrong: list[str] = field(default_factory=list)


class Transfer:
    """A store and its remote side, as both are when this begins; what comes is kept in the folder `aside` first.

    `report` is told the bytes that were moved and, about, all that will be.
    """

    def __init__(self, store: Store, remote: Remote, aside: Path, report: Report) -> None:
        self.store, self.remote, self.aside, self.moved = store, remote, aside, Moved()
        self.there = remote.files()
        if any(name.startswith(("claims/", "inputs/")) for name in self.there):
            what, fix = f"{remote.address} is a store itself", f"micota push {remote.address} FOLDER, then FOLDER here"
            raise MicotaError(what, why="its completions lie there otherwise than `push` sends them", fix=fix)
        self.total, self._report = 0, report

    def count(self, size: int) -> None:
        """So many bytes were moved."""
        self.moved.size += size
        self._report(self.moved.size, max(self.total, self.moved.size))

    def pieces(self) -> dict[str, list[Piece]]:
        """The remote pieces of each pool, in order; those of a wrong size are said and left out."""
        found: dict[str, list[Piece]] = defaultdict(list)
        for name, size in self.there.items():
            sort, pool, last = [*name.split("/"), "", ""][:3]
            one = piece(last) if sort == "pools" and POOL.fullmatch(pool) and name.count("/") == 2 else None
            if one and size == one.size:
                found[pool].append(one)
            elif one:
                self.damaged(name)
        return {pool: sorted(pieces) for pool, pieces in found.items()}

    def artifacts(self) -> list[str]:
        """The ids of the artifacts that are there."""
        found = (re.fullmatch(rf"artifacts/({ID.pattern})/manifest\.json", name) for name in self.there)
        return sorted(match[1] for match in found if match)

    def manifest(self, artifact: str) -> Manifest | None:
        """The remote manifest of an artifact; None if it cannot be read."""
        path = self.aside / artifact / "manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._small(f"artifacts/{artifact}/manifest.json"))
        return read_manifest(path)

    def words(self, name: str, kind: type = str) -> dict[str, Any]:
        """A remote JSON object, the values of one type; {} of one that is missing or anything else."""
        try:
            data = json.loads(self._small(name)) if name in self.there else {}
        except (ValueError, RecursionError):
            self.damaged(name)
            return {}
        return {key: word for key, word in data.items() if isinstance(word, kind)} if isinstance(data, dict) else {}

    def fetched(
        self, name: str, size: int, sha: str | None, check: Callable[[Path], str | None] = sha256
    ) -> Path | None:
        """A remote file, aside, behind what an earlier try has left; None if it is not what its hash says."""
        path = self.aside / name
        tries = [True, False] if path.exists() else [False]
        for old in tries if self.there.get(name) == size else ():  # a size can be said that no file has
            self.remote.fetch(name, size, path, self.count)
            if sha and check(path) == sha:
                return path
            path.unlink()
            self.moved.size -= 0 if old else size
        self.damaged(name)
        return None

    def damaged(self, name: str) -> None:
        """Say that a remote file is not as it was written."""
        say(f"{self.remote.address}/{name} is damaged: `micota push --verify`, where it is whole, sends it again")

    def _small(self, name: str) -> bytes:
        return self.remote.read(name, 0, min(self.there[name], LARGEST))
