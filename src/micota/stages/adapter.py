"""Add a LoRA adapter that was trained elsewhere to its base."""

from __future__ import annotations

from pathlib import Path

from micota.errors import MicotaError
from micota.specs import Adapter
from micota.store.artifacts import Result
from micota.store.resolution import content_hash
from micota.store.task import Task
from micota.training.adapters import write_merged


def run(task: Task) -> Result:
    """Write a model folder; the facts are the adapter's rank and factor."""
    spec = task.spec
    assert isinstance(spec, Adapter)
    folder = Path(spec.path)
    if not folder.is_dir() or content_hash(folder) != spec.content:
        what = f"{folder} {'has changed' if folder.is_dir() else 'is gone'} since the run began"
        raise MicotaError(what, fix="start the run again: it takes the folder as it is then")
    return Result(write_merged(folder, task.model(spec.base), task.out))
