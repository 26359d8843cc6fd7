"""A model's folder on a node of a Ray cluster that does not see it: a copy in the node's cache, by the content's hash.

It comes once for each node, in pieces through Ray's objects, from a node that sees the folder.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.machine.cluster import say
from micota.store.locks import locked
from micota.store.resolution import cache_folder, content_files, content_hash

PIECE = 32 * 2**20  # bytes
AHEAD = 4  # pieces that are under way at most
Piece = tuple[str, bytes]
"""A file's name in the folder, and what comes next of it."""


@dataclass(frozen=True)
class Home:
    """The node that sees all models, and the interpreter there."""

    node: str
    python: str

    @classmethod
    def here(cls, ray: Any) -> Home:
        """This one."""
        return cls(ray.get_runtime_context().get_node_id(), sys.executable)


def model_here(folder: Path, home: Home) -> Path:
    """The folder where it is visible, else this node's copy. Raises MicotaError if what came is not what was there."""
    if folder.exists():
        return folder
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    there: dict[str, Any] = {
        "num_cpus": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(home.node, soft=False),
        "runtime_env": {"py_executable": home.python},
    }
    try:
        hashed = str(ray.get(ray.remote(content).options(**there).remote(folder)))
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, MicotaError) else error from None
    copy = cache_folder() / "models" / hashed
    copy.parent.mkdir(parents=True, exist_ok=True)
    with locked(copy.with_suffix(".lock")):
        if not copy.exists():
            say(f"the model {folder} is not visible here: it is copied to {copy}")
            more = {"num_returns": "streaming", "_generator_backpressure_num_objects": AHEAD}
            stream = ray.remote(pieces).options(**there, **more).remote(folder)
            _write((ray.get(one) for one in stream), copy, hashed)
    return copy


def content(folder: Path) -> str:
    """There: the hash of a folder's content."""
    if folder.is_dir():
        return content_hash(folder)
    why = "engines elsewhere get models that were made here, or lie in a folder, from the node that micota runs on"
    fix = "run micota on a node that sees the store, or put it on a file system that all nodes share"
    raise MicotaError(
        "the model's folder is not visible where it was to come from", where=str(folder), why=why, fix=fix
    )


def pieces(folder: Path) -> Iterator[Piece]:
    """There: all that the hash covers."""
    for name, path in content_files(folder):
        with open(path, "rb") as file:
            data = file.read(PIECE)
            yield name, data
            while data := file.read(PIECE):
                yield name, data


def _write(stream: Iterator[Piece], copy: Path, hashed: str) -> None:
    part = copy.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for name, data in stream:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            with open(part / name, "ab") as file:
                file.write(data)
        if (came := content_hash(part)) != hashed:
            why = f"its files have the hash {came[:12]} in place of {hashed[:12]}"
            fix = "was the model changed meanwhile? the same command tries again"
            raise MicotaError("a model has come to a node as another", where=str(part), why=why, fix=fix)
        part.rename(copy)
    finally:
        shutil.rmtree(part, ignore_errors=True)
