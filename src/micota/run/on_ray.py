"""A whole stage on a node of a Ray cluster: a launcher, as `python -m micota.run.on_ray [PREFIX...] WORK/`.

`PREFIX micota stage WORK/` runs there in a task that asks for what the profile's `ray:` says, and this process ends
with its exit code. A lost node costs what the stage has done since its last checkpoint: Ray starts the task again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from micota.atomic import files_only
from micota.errors import MicotaError
from micota.machine import MachineProfile, cluster
from micota.machine.cluster import RayConfig
from micota.run import torch_trainer
from micota.run.child import STOPPED, arrive, end_with_parent, idle, micota_command, on_signals, search_path
from micota.specs import Spec
from micota.store import task as tasks
from micota.store.task import ERROR, STOP, Task

LOOK_S = 1.0
CHECK = "--check"


def check(machine: MachineProfile, specs: Iterable[Spec]) -> None:
    """Before anything is made: is there a cluster, and can a node hold each stage? Raises MicotaError.

    In a process of its own, since Ray ends one that has lost its cluster. What may wait for a node is not asked.
    """
    places = {spec.kind: machine.place(spec) for spec in specs if not spec.made_elsewhere}
    shared = set(RayConfig.model_fields)
    wanted = [
        (kind, place.ray.model_dump(include=shared), place.gpus, place.workers or 1)
        for kind, place in places.items()
        if place.ray
    ]
    wanted = [one for one in wanted if not one[1]["wait_s"]]
    if not wanted:
        return
    command = [sys.executable, "-m", "micota.run.on_ray", CHECK, json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **machine.address})
    if done.returncode == 2:
        raise MicotaError(**json.loads(done.stdout.splitlines()[-1]))
    if done.returncode:
        raise MicotaError("the Ray cluster cannot be looked at", why=done.stderr[-400:], fix="ray status")


def _check(wanted: str) -> int:
    """Print the first misfit as JSON."""
    try:
        ray = cluster.join()
        for kind, config, gpus, times in json.loads(wanted):
            if why := cluster.misfit(ray, RayConfig(**config), gpus, times):
                raise cluster.unfit(kind, why)
    except MicotaError as error:
        print(json.dumps({"what": error.what, "where": error.where, "why": error.why, "fix": error.fix}))
        return 2
    return 0


def main(words: list[str]) -> int:
    """Run the stage of the work folder that is named last, behind the words before it; its exit code."""
    if words[:1] == [CHECK]:
        return _check(words[1])
    end_with_parent()
    *prefix, last = words
    task = tasks.load(Path(last))
    try:
        return _run(task, prefix)
    except MicotaError as error:
        (task.work / ERROR).write_text(str(error), encoding="utf-8")
        return 2


def _run(task: Task, prefix: list[str]) -> int:
    config, workers = task.place.ray, task.place.workers
    assert config is not None, "the profile has `ray:` for this stage"
    ray = cluster.join()
    on_signals((task.work / STOP).touch)  # Ray has set a handler of its own
    room = cluster.Room(ray, task.spec.kind, config, task.place.gpus, workers or 1)
    while not room.check():
        if task.progress.stop.is_set():
            return STOPPED
        time.sleep(LOOK_S)
    return torch_trainer.train(ray, task, room) if workers else _on_a_node(ray, task, room, prefix)


def _on_a_node(ray: Any, task: Task, room: cluster.Room, prefix: list[str]) -> int:
    """The whole stage in a task, behind its prefix."""
    head, config = cluster.Head(ray), task.place.ray
    assert config is not None
    options = config.options() | {"max_retries": config.retries, "name": task.spec.id}
    running = ray.remote(launch).options(**options).remote(prefix, str(task.work), task.machine.threads)
    while not ray.wait([running], timeout=LOOK_S)[0]:
        head.check()
        if idle(task):
            room.check()
            task.progress.report(0, 1, "stage", room.note())
            if task.progress.stop.is_set():
                ray.cancel(running, force=True)
                return STOPPED
    try:
        return int(ray.get(running))
    except ray.exceptions.RayTaskError as error:
        raise error.cause if isinstance(error.cause, MicotaError) else error from None
    except ray.exceptions.RayError as error:
        what, why = f"{task.spec.kind} was lost with its node", " ".join(str(error).split())[-400:]
        raise MicotaError(what, why=why, fix="the same command continues from its last checkpoint") from None


def launch(prefix: list[str], work: str, threads: int) -> int:
    """On the node: run the stage and wait for it; its exit code. It ends when this process does, by the pipe."""
    folder = Path(work)
    arrive(folder)
    numbers = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    own: dict[str, Any] = {**os.environ, **numbers, "MICOTA_PARENT_PIPE": "1", "PATH": search_path()}
    with open(folder / "log.txt", "ab", opener=files_only) as log:
        command = [*prefix, *micota_command(), "stage", work]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=own)
        return process.wait()


if __name__ == "__main__":
    from micota.run import on_ray  # by its own name, so that nodes import what they run

    sys.exit(on_ray.main(sys.argv[1:]))
