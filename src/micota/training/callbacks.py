"""The trainer's callback: progress, complete checkpoints, requests to stop, broken losses."""

from __future__ import annotations

import itertools
import statistics
import time
from pathlib import Path
from typing import Any

from micota.errors import MicotaError
from micota.store.task import Task
from micota.training import checkpoints, packing_check
from micota.training.sft_examples import InSteps


def callback(task: Task, precision: str, order: InSteps | None = None) -> Any:
    """Reports each step, marks complete checkpoints, and turns a request to stop into a checkpoint and an end."""
    import transformers

    class Callback(transformers.TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.ends: list[float] = []  # when the steps of this process ended

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            if getattr(args, "padding_free", False):
                packing_check.check(model, precision, task.machine.training(task.spec).attention)

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            # of several processes that go on inside an epoch, accelerate does not tell the sampler which epoch it is
            if order is not None:
                order.set_epoch(int(state.epoch + 1e-9))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ends.append(time.monotonic())
            loss = next((f"loss {log['loss']:.3f}" for log in reversed(state.log_history) if "loss" in log), "")
            if state.is_world_process_zero:
                task.progress.report(state.global_step, state.max_steps, "steps", loss)
            if agreed(task.progress.stop.is_set(), args.device):
                task.progress.stop.set()
                control.should_save = control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            agreed(False, args.device)  # every process has written its part
            if state.is_world_process_zero:
                checkpoints.mark(Path(args.output_dir, f"checkpoint-{state.global_step}"))

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs and not float(logs["loss"]) < float("inf"):
                raise MicotaError(
                    f"the loss is {logs['loss']} at step {state.global_step}",
                    why="the weights are lost from here on",
                    fix="lower lr, or remove broken rows from the data",
                )

    return Callback()


def seconds_of_a_step(ends: list[float]) -> float | None:
    """The median time from the end of a step to the end of the next, which leaves out checkpoints and measurements."""
    return statistics.median(b - a for a, b in itertools.pairwise(ends)) if len(ends) > 1 else None


def agreed(wanted: bool, device: Any) -> bool:
    """Whether any process wants it. All must call this: one that stopped earlier would let the others wait for ever."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return wanted
    flag = torch.tensor(int(wanted), device=device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag)
