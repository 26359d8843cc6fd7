"""A training in several processes over the nodes of a Ray cluster, which Ray Train's TorchTrainer starts and watches.

Each process runs the whole stage, as behind `accelerate launch`. When one is lost, all start again, from the last
checkpoint in the work folder. Errors of micota's own end the training at once.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from threading import Thread
from typing import Any

from micota.errors import ClaimLost, MicotaError
from micota.machine import TrainConfig, cluster
from micota.run.child import STOPPED, arrive, attempt, idle
from micota.store import task as tasks
from micota.store.task import ERROR, Task

LOOK_S = 0.5
GRACE_S = 10.0  # how long the other processes may go on after an error of one, for which they may wait
SHARDING = {
    "none": {},
    "fsdp": {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_RESHARD_AFTER_FORWARD": "true",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    },
    "zero3": {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "true",
        "ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "true",
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "none",
        "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "none",
    },
}
"""What `accelerate launch` of the profiles `ddp`, `fsdp2` and `zero3` gives its processes."""


def train(ray: Any, task: Task, room: cluster.Room) -> int:
    """Train to the end, in the processes that the machine profile asks for; an exit code, as `micota stage` has it.

    Raises MicotaError where the cluster, and not the stage, is at fault.
    """
    head, failures, since = cluster.Head(ray), list[BaseException](), 0.0
    thread = Thread(target=_fit, args=(task, failures), daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_S)
        head.check()
        if idle(task):
            room.check()
            task.progress.report(0, 1, "stage", room.note())
            if task.progress.stop.is_set():
                break
        if (task.work / ERROR).exists() or _lost(task):
            since = since or time.monotonic()
            if time.monotonic() - since > GRACE_S:
                break
    if (task.work / ERROR).exists():
        return 2
    if (task.work / "result.json").exists():  # whatever became of the processes afterwards
        return 0
    if failures:
        raise _failure(failures[0], task)
    return STOPPED


def _fit(task: Task, failures: list[BaseException]) -> None:
    """TorchTrainer from its start to its end, in a thread: it waits for room without a look at anything else."""
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    place = task.machine.training(task.spec)
    config = place.ray
    assert config is not None and config.workers is not None
    asks = config.asks(place.gpus)
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(task.machine.threads))
    other = {"py_executable": config.python} if config.python else {}
    scaling = ScalingConfig(
        num_workers=config.workers,
        use_gpu="GPU" in asks,
        resources_per_worker=asks,
        label_selector=config.select or None,
    )
    run = RunConfig(
        name=task.spec.id,
        storage_path=str(task.scratch / "ray-train"),  # Ray wants one; checkpoints are micota's own
        failure_config=FailureConfig(max_failures=config.retries),
        worker_runtime_env={"env_vars": threads, **other},
    )
    try:
        TorchTrainer(work, train_loop_config={"work": str(task.work)}, scaling_config=scaling, run_config=run).fit()
    except Exception as error:
        failures.append(error)


def work(settings: dict[str, str]) -> None:
    """In each process: the whole stage. What becomes of it stands in the work folder."""
    from ray.train import get_context

    folder = Path(settings["work"])
    arrive(folder)
    task = tasks.load(folder)
    os.environ.update(accelerate_settings(task.machine.training(task.spec)))
    rank, ranks = get_context().get_world_rank(), get_context().get_world_size()
    cluster.say(f"rank {rank} of {ranks} begins on {socket.gethostname()}")
    attempt(task, first=rank == 0)


def accelerate_settings(place: TrainConfig) -> dict[str, str]:
    """The environment variables by which accelerate learns how the model is sharded, and that there is no GPU."""
    return SHARDING[place.sharding] | ({"ACCELERATE_USE_CPU": "true"} if place.device == "cpu" else {})


def _lost(task: Task) -> bool:
    """Whether another run has taken the stage over."""
    try:
        task.progress.check()
    except ClaimLost:
        return True
    return False


def _failure(error: BaseException, task: Task) -> MicotaError:
    """What a failed TorchTrainer says: the error of a process if it is micota's own, else what became of them."""
    causes = [getattr(one, "cause", one) for one in getattr(error, "worker_failures", {}).values()]
    if own := next((one for one in causes if isinstance(one, MicotaError)), None):
        return own
    why = " ".join(str(causes[0] if causes else error).split())[-400:]
    what = f"{task.spec.kind} was lost with its processes"
    return MicotaError(what, why=why, fix="see the log; the same command continues from its last checkpoint")
