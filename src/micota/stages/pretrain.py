"""Pre-train a model of the lab, or tune one lightly, on generated documents; always on one thread.

Continues from its last checkpoint and ends with the same bits; a request to stop writes one.
"""

from __future__ import annotations

from micota.specs import Pretrain
from micota.store.artifacts import Result
from micota.store.task import Task
from micota.training.pretraining import pretrain


def run(task: Task) -> Result:
    """Write a model folder."""
    spec = task.spec
    assert isinstance(spec, Pretrain)
    facts = pretrain(
        spec,
        task.out,
        task.scratch / "checkpoint.pt",
        base=task.model(spec.base) if spec.base else None,
        report=lambda done, total, note: task.progress.report(done, total, "steps", note),
        stop=task.progress.stop.is_set,
        every=task.machine.pretrain.checkpoint_every,
    )
    return Result(facts)
