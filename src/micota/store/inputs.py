"""The inputs of a stage, as its task.json keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from micota.store.checked import record


@dataclass(frozen=True)
class Input:
    """An input's content hash, the folder of its files, and the pools that its rows refer to."""

    content: str
    files: Path | None = None
    pools: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Task:
    inputs: dict[str, Input] = field(default_factory=dict)


def begun_with(work: Path) -> dict[str, Input]:
    """The inputs that a work folder was begun with, by their digests; none where its task.json cannot be read."""
    task = record(work / "task.json", _Task, {})[0]
    return task.inputs if task else {}
