"""A stage in a process of its own: the run starts it behind a launcher, and it runs as `micota stage WORK/`."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import micota
from micota.atomic import files_only, write_json, write_text
from micota.errors import ClaimLost, MicotaError, StageFailed, Stopped, of_system
from micota.run.plan import STAGES
from micota.store import task as tasks
from micota.store.artifacts import Result
from micota.store.locks import locked
from micota.store.task import ERROR, STOP, Task

ENDS = ("result.json", ERROR, "stopped")  # what a stage leaves in its work folder, one of them
STOPPED = 75  # the exit code of a stage that stopped on request and can resume; a launcher may change it
FAULT = re.compile(r"(\[rank\d+\]:\s*)?[\w.]*(Error|Exception)\b(?<!ChildFailedError)")


def stage(kind: str) -> Callable[[Task], Result]:
    """The function of a kind of stage."""
    run: Callable[[Task], Result] = importlib.import_module(STAGES[kind]).run
    return run


class Child:
    """`PREFIX micota stage WORK/` for one task. It ends when this process does, by the pipe on its input.

    What runs on Ray has a process of its own too: Ray ends one that has lost its cluster.
    """

    def __init__(self, task: Task, prefix: str) -> None:
        self._task = task
        command = [*shlex.split(prefix), *micota_command(), "stage", str(task.work)]
        if task.place.on_ray:
            command = [sys.executable, "-m", "micota.run.on_ray", *shlex.split(prefix), str(task.work)]
        command[0] = shutil.which(command[0], path=search_path()) or command[0]
        for name in ENDS:
            (task.work / name).unlink(missing_ok=True)
        try:
            with open(task.work / "log.txt", "ab", opener=files_only) as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=_environment(task),
                    start_new_session=True,
                )
        except FileNotFoundError:
            raise MicotaError(
                f"the launcher '{command[0]}' is not installed",
                where=f"machine profile '{task.machine.name}', {task.spec.kind}.prefix",
                fix="install it, or change the prefix",
            ) from None

    def stop(self, force: bool = False) -> None:
        """Ask the stage to stop where it can resume; `force` kills it, with all that its launcher started."""
        with contextlib.suppress(FileNotFoundError):  # another run has taken it over
            (self._task.work / STOP).touch()
        if force:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def result(self) -> Result:
        """Wait for the end. Raises Stopped, ClaimLost, the stage's own MicotaError, or StageFailed with its log."""
        code = self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._task.progress.check()
        with locked(self._task.work / "lock"):  # a launcher can end before the stage that it started
            pass
        work = self._task.work
        if code == 0 and (work / "result.json").exists():
            data = json.loads((work / "result.json").read_text())
            return Result(data["facts"], data["pools"])
        if code == STOPPED or (work / "stopped").exists() or self._task.progress.stop.is_set():
            raise Stopped("stopped")
        if error := self._task.error():
            raise MicotaError(error)
        lines = (work / "log.txt").read_text(errors="replace").splitlines()
        errors = dict.fromkeys(line for line in lines if FAULT.match(line))
        raise StageFailed("\n    ".join([f"exit code {code}", *list(errors)[-3:], "the log ends with", *lines[-8:]]))


def run_alone(work: Path) -> int:
    """`micota stage WORK/`: run the stage of a work folder; its exit code. Under a launcher every rank comes here."""
    task, first = tasks.load(work), int(os.environ.get("RANK", 0)) == 0
    on_signals(task.progress.stop.set)
    end_with_parent()
    code = attempt(task, first)
    if code == 0 and _left_group() and not (first and getattr(task.place, "report_to", None)):
        sys.stdout.flush()
        os._exit(0)
    return code


def on_signals(stop: Callable[[], None]) -> None:
    """What asks a stage to stop: a scheduler sends one of them before it takes the machine away, a closed connection
    the last."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, lambda *_: stop())


def attempt(task: Task, first: bool) -> int:
    """Run a stage in this process, and leave in its work folder what became of it; returns an exit code.

    Of several processes the `first` one writes. Raises what is no error of micota's own or of the system's.
    """
    work = task.work
    with locked(work / "lock") if first else contextlib.nullcontext():
        try:
            result = stage(task.spec.kind)(task)
        except ClaimLost as error:
            print(error, file=sys.stderr)
            return STOPPED
        except Stopped:
            if first:
                (work / "stopped").touch()
            return STOPPED
        except Exception as error:
            own = of_system(error, work) if isinstance(error, OSError) and error.errno else error
            if not isinstance(own, MicotaError):
                raise
            if first or not (work / ERROR).exists():  # others may see what the first does not, and it waits for them
                with contextlib.suppress(OSError):
                    write_text(work / ERROR, str(own))
            print(own, file=sys.stderr)
            return 2
        if first:
            write_json(work / "result.json", {"facts": result.facts, "pools": result.pools})
    return 0


def idle(task: Task) -> bool:
    """Whether no process runs the stage, nor has ended it: its first one would hold the lock of the work folder."""
    with locked(task.work / "lock", wait=False) as free:
        return free and not any((task.work / name).exists() for name in ENDS)


def arrive(work: Path) -> None:
    """On a node of a cluster. Raises MicotaError if the work folder is not visible there."""
    if not (work / "task.json").exists():
        fix = "put the store on a file system that all nodes share, or `select` nodes that see it"
        raise MicotaError(f"the store is not visible on node {socket.gethostname()}", where=str(work), fix=fix)


def _left_group() -> bool:
    """Destroy the process group, if there is one; returns whether there was.

    Torch's threads abort one process in many when the interpreter exits, which would fail a finished stage. So a
    process of a group exits at once; the first one only if no tracker has anything left to send.
    """
    torch = sys.modules.get("torch")
    if not (torch and torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    torch.distributed.destroy_process_group()
    return True


def micota_command() -> list[str]:
    """The command for micota: its script, which any launcher accepts; without one, the package's `__main__.py`."""
    script = Path(sys.executable).parent / "micota"
    return [str(script)] if script.exists() else [str(Path(micota.__file__).parent / "__main__.py")]


def search_path() -> str:
    """PATH with the programs of this environment first."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _environment(task: Task) -> dict[str, str]:
    threads = str(task.machine.threads)
    own = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "MICOTA_PARENT_PIPE": "1", "PATH": search_path()}
    return {**os.environ, **own, **task.machine.address}


def end_with_parent() -> None:
    """End this process when the run that started it has ended, so that no orphan goes on writing.

    Not behind a launcher that gives its stage another input (sbatch: none).
    """
    if os.environ.pop("MICOTA_PARENT_PIPE", None) is None or not stat.S_ISFIFO(os.fstat(0).st_mode):
        return

    def watch() -> None:
        while os.read(0, 1024):  # not sys.stdin: its lock would be held when the interpreter ends
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
