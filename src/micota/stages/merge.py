"""Merge fine-tuned models into their base, tensor by tensor."""

from __future__ import annotations

from micota.specs import Merge
from micota.store.artifacts import Result
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write a model folder; the facts are the norms of the task vectors and what the settings did."""
    from micota.merging import settings_of
    from micota.merging.folders import merge_folders
    from micota.merging.stacks import Part, Stack

    spec = task.spec
    assert isinstance(spec, Merge)
    parts = [Part(((task.model(one.model), one.layers[0]),), one.layers[1] - one.layers[0]) for one in spec.slices]
    models = [] if parts else [task.model(model) for model in spec.models]
    facts = merge_folders(
        task.out,
        task.model(spec.base),
        models,
        [str(i) for i in range(len(models))],
        settings_of(spec),
        stack=Stack(parts) if parts else None,
        threads=task.machine.threads,
        record_in=task.scratch,
        progress=lambda done, total: task.progress(done, total, "bytes"),
    )
    return Result(facts)
