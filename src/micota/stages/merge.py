"""Merge fine-tuned models into their base, tensor by tensor."""

from __future__ import annotations

from micota.specs import Merge
from micota.store.artifacts import Result
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write a model folder; the facts are the norms of the task vectors and what the settings did."""
    from micota.merging import settings_of
    from micota.merging.folders import merge_folders

    spec = task.spec
    assert isinstance(spec, Merge)
    facts = merge_folders(
        task.out,
        task.model(spec.base),
        [task.model(model) for model in spec.models],
        [str(i) for i in range(len(spec.models))],
        settings_of(spec),
        threads=task.machine.threads,
        record_in=task.scratch,
        progress=lambda done, total: task.progress(done, total, "bytes"),
    )
    return Result(facts)
