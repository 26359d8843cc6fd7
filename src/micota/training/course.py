"""The course of a training: from its newest whole checkpoint to its end, and what a manifest keeps of it."""

from __future__ import annotations

from typing import Any

from micota.errors import Stopped
from micota.store.task import Task
from micota.training import checkpoints
from micota.training.callbacks import agreed, seconds_of_a_step


def begin(task: Task) -> None:
    """Give this process its threads, and leave progress and warnings to micota."""
    import torch
    import transformers

    torch.set_num_threads(task.machine.threads)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def go(trainer: Any, task: Task) -> Any:
    """Train to the end; returns what the trainer says of it. Every process comes here. Raises Stopped if asked to."""
    folder = task.scratch / "checkpoints"
    if trainer.is_world_process_zero():
        checkpoints.sieve(folder)
    agreed(False, trainer.args.device)  # only then do all processes look for the same one
    outcome = trainer.train(resume_from_checkpoint=checkpoints.newest(folder))
    if agreed(task.progress.stop.is_set(), trainer.args.device):
        raise Stopped("stopped at a checkpoint")
    return outcome


def facts(trainer: Any, task: Task, outcome: Any, ends: list[float]) -> dict[str, Any]:
    """Steps, losses, processes, seconds of a step, and damaged checkpoints; `ends` is when steps ended."""
    losses = [(log["step"], round(log["loss"], 5)) for log in trainer.state.log_history if "loss" in log]
    seconds = seconds_of_a_step(ends)
    return {
        "steps": trainer.state.global_step,
        "distributed": _distributed(trainer.accelerator),
        "loss": losses[:: max(1, len(losses) // 200)],
        "final_loss": outcome.training_loss if not losses else losses[-1][1],
        **({"seconds_of_a_step": round(seconds, 4)} if seconds else {}),
        **checkpoints.damaged(task.scratch / "checkpoints"),
    }


def _distributed(accelerator: Any) -> str:
    """How the model was distributed, as in `2 processes, FSDP2`."""
    if accelerator.num_processes == 1:
        return "1 process"
    kind = "FSDP2" if accelerator.is_fsdp2 else accelerator.distributed_type.value
    return f"{accelerator.num_processes} processes, {kind}"
