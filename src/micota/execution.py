"""Running stages: in this process, or behind the machine profile's prefix; with claims, so that each is made once.

Only the run that holds the claim writes the manifest, after its stage has ended well. A failure leaves its work for
the next try and does not hold up what does not depend on it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import micota
from micota.claims import holder, locked
from micota.errors import MicotaError, StageFailed, Stopped
from micota.machine import Machine, Place
from micota.plan import STAGES, Pull, heights
from micota.specs import Generate, Source, Spec
from micota.store import Result, Store, artifact_id, write_whole
from micota.task import Input, Progress, Task

POLL_S = 0.2
LOOK_AGAIN_S = 1.0  # how often to look whether another run has finished what is needed
STOPPED = 75  # the exit code of a stage that was asked to stop and can go on
PACKAGES = ("torch", "transformers", "trl", "accelerate", "tokenizers", "datasets")


class Watcher(Protocol):
    """What shows a run to its user."""

    def started(self, spec: Spec, work: Path) -> None: ...
    def finished(self, spec: Spec, seconds: float, facts: Mapping[str, Any]) -> None: ...
    def failed(self, spec: Spec, message: str) -> None: ...
    def waiting(self, spec: Spec, whom: str) -> None: ...
    def tick(self) -> None: ...


@dataclass
class Outcome:
    """What a run did: the artifacts it made and linked, and the messages of stages that failed."""

    executed: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def stage(kind: str) -> Callable[[Task], Result]:
    """The function of a kind of stage."""
    run: Callable[[Task], Result] = importlib.import_module(STAGES[kind]).run
    return run


class Run:
    """Makes what the targets need, `machine.jobs` stages at a time: of those in this process one at a time."""

    def __init__(self, store: Store, machine: Machine, watcher: Watcher) -> None:
        self.store, self.machine, self.watcher = store, machine, watcher
        self.outcome = Outcome()
        self._running: dict[Future[Result], tuple[Task, float]] = {}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = False
        self._heights: dict[str, int] = {}

    def go(self, targets: Sequence[Spec]) -> Outcome:
        """Run until nothing more can be made. Raises Stopped after a request to stop, StageFailed after failures."""
        self._heights = heights(targets)
        with ThreadPoolExecutor(self.machine.jobs) as pool:
            elsewhere = self._start_what_is_ready(targets, pool)
            looked = time.monotonic()
            while self._running or elsewhere:
                ended = wait(self._running, timeout=POLL_S, return_when=FIRST_COMPLETED)[0]
                self._collect(ended)
                if not self._running:
                    time.sleep(POLL_S)
                if ended or (elsewhere and time.monotonic() - looked > LOOK_AGAIN_S):
                    elsewhere = self._start_what_is_ready(targets, pool)
                    looked = time.monotonic()
                self.watcher.tick()
        if self._stopping:
            raise Stopped("stopped; the same command goes on from here")
        if self.outcome.failed:
            raise StageFailed("\n\n".join(self.outcome.failed.values()))
        return self.outcome

    def stop(self, force: bool = False) -> None:
        """Ask all stages to stop where they can go on later; `force` kills those in other processes."""
        self._stopping = True
        for task, _ in self._running.values():
            task.progress.stop.set()
        for child in list(self._children.values()):
            _signal(child, signal.SIGKILL if force else signal.SIGTERM)

    def _start_what_is_ready(self, targets: Sequence[Spec], pool: ThreadPoolExecutor) -> list[Spec]:
        """Start stages up to the number of jobs; return those that another run is making."""
        if self._stopping:
            return []
        pull = Pull(self.store, self.outcome.failed)
        pull.all(targets)
        self.outcome.linked += [artifact_id(spec) for spec in pull.linked]
        elsewhere = []
        running = {task.spec.digest for task, _ in self._running.values()}
        for spec in sorted(pull.ready.values(), key=lambda spec: -self._heights[spec.digest]):
            if spec.digest in running or not self._has_room(spec):
                continue
            if self._claim(spec):
                task = self._task(spec)
                self.watcher.started(spec, task.work)
                started = time.monotonic()
                self._running[pool.submit(self._execute, task, started)] = (task, started)
            else:
                elsewhere.append(spec)
        return elsewhere

    def _has_room(self, spec: Spec) -> bool:
        here = [task for task, _ in self._running.values() if task.place.prefix is None]
        inside = self.machine.place(spec.kind).prefix is None
        return len(self._running) < self.machine.jobs and not (inside and here)

    def _claim(self, spec: Spec) -> bool:
        """Claim a spec, and the pool that it fills; False if another run has it or has just finished it."""
        taken = []
        for name in self._claims(spec):
            path = self.store.claim(name)
            if not self.store.claims.take(path):
                self.watcher.waiting(spec, holder(path) or "another run")
                break
            taken.append(path)
        else:
            if not self._done_meanwhile(spec):
                return True
        for path in taken:
            self.store.claims.release(path)
        return False

    def _done_meanwhile(self, spec: Spec) -> bool:
        manifest = self.store.manifest(spec)
        return manifest is not None and self.store.whole(manifest)

    def _claims(self, spec: Spec) -> list[str]:
        pools = [f"pool-{spec.pool(str(self.store.content(spec.model)))}"] if isinstance(spec, Generate) else []
        return [artifact_id(spec), *pools]

    def _task(self, spec: Spec) -> Task:
        work = self.store.recover(spec)
        task = Task(spec, work, self._inputs(spec), self.store, self.machine, Progress(work / "progress.json"))
        task.save()
        return task

    def _inputs(self, spec: Spec) -> dict[str, Input]:
        inputs = {}
        for child in spec.children:
            content, manifest = str(self.store.content(child)), self.store.manifest(child)
            files = self.store.files(manifest) if manifest and not isinstance(child, Source) else None
            inputs[child.digest] = Input(content, files, tuple(manifest.pools) if manifest else ())
        return inputs

    def _execute(self, task: Task, started: float) -> Result:
        prefix = task.place.prefix
        result = stage(task.spec.kind)(task) if prefix is None else self._behind_prefix(task, prefix)
        self.store.finish(task.spec, result, _made(task, time.monotonic() - started))
        return result

    def _behind_prefix(self, task: Task, prefix: str) -> Result:
        """Run `PREFIX micota stage WORK/`; the child ends when this process does, by the pipe on its input."""
        command = [*shlex.split(prefix), *_micota(), "stage", str(task.work)]
        command[0] = shutil.which(command[0], path=_search_path()) or command[0]
        for name in ("result.json", "error.txt"):
            (task.work / name).unlink(missing_ok=True)
        try:
            with open(task.work / "log.txt", "ab") as log:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=_environment(task),
                    start_new_session=True,
                )
        except FileNotFoundError:
            raise MicotaError(
                f"the launcher '{command[0]}' is not there",
                where=f"machine profile '{task.machine.name}', {task.spec.kind}.prefix",
                fix="install it, or change the prefix",
            ) from None
        self._children[task.spec.digest] = child
        if task.progress.stop.is_set():  # asked to stop while the child was being started
            _signal(child, signal.SIGTERM)
        code = child.wait()
        assert child.stdin is not None
        child.stdin.close()
        with locked(task.work / "lock"):  # a launcher can end before the stage that it started
            pass
        del self._children[task.spec.digest]
        return _outcome_of(task, code)

    def _collect(self, done: set[Future[Result]]) -> None:
        for future in done:
            task, started = self._running.pop(future)
            seconds = time.monotonic() - started
            try:
                result = future.result()
                self.outcome.executed.append(artifact_id(task.spec))
                self.watcher.finished(task.spec, seconds, result.facts)
            except Stopped:
                pass
            except Exception as error:
                self._note_failure(task, error)
            finally:
                for name in self._claims(task.spec):
                    self.store.claims.release(self.store.claim(name))

    def _note_failure(self, task: Task, error: Exception) -> None:
        """Keep the whole story in the log, and for the user what matters of it."""
        name = artifact_id(task.spec)
        if not isinstance(error, MicotaError | StageFailed):
            with open(task.work / "log.txt", "a", encoding="utf-8") as log:
                log.writelines(traceback.format_exception(error))
        message = f"{name} failed: {error or type(error).__name__}\n  log: {task.work / 'log.txt'}"
        self.outcome.failed[task.spec.digest] = message
        self.watcher.failed(task.spec, message)


def run_alone(work: Path) -> int:
    """`micota stage WORK/`: run the stage of a work folder; its exit code. Under a launcher every rank comes here."""
    from micota import task as tasks

    task = tasks.load(work)
    first = int(os.environ.get("RANK", "0")) == 0
    signal.signal(signal.SIGTERM, lambda *_: task.progress.stop.set())
    _end_with_parent()
    with locked(work / "lock") if first else threading.Lock():
        try:
            result = stage(task.spec.kind)(task)
        except Stopped:
            return STOPPED
        except MicotaError as error:
            (work / "error.txt").write_text(str(error))
            print(error, file=sys.stderr)
            return 2
        if first:
            write_whole(work / "result.json", {"facts": result.facts, "pools": result.pools})
    return 0


def _outcome_of(task: Task, code: int) -> Result:
    import json

    if code == 0 and (task.work / "result.json").exists():
        data = json.loads((task.work / "result.json").read_text())
        return Result(data["facts"], data["pools"])
    if code == STOPPED or task.progress.stop.is_set():
        raise Stopped("stopped")
    if (task.work / "error.txt").exists():
        raise MicotaError((task.work / "error.txt").read_text())
    tail = (task.work / "log.txt").read_text(errors="replace").splitlines()[-8:]
    raise StageFailed("\n    ".join([f"exit code {code}; the log ends with", *tail]))


def _micota() -> list[str]:
    """How to call micota: its script, which any launcher takes; without one, the package's own."""
    script = Path(sys.executable).parent / "micota"
    return [str(script)] if script.exists() else [str(Path(micota.__file__).parent / "__main__.py")]


def _search_path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def _environment(task: Task) -> dict[str, str]:
    threads = str(task.machine.threads)
    return {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "MICOTA_PARENT_PIPE": "1"}


def _signal(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _end_with_parent() -> None:
    """End this process when the run that started it is gone, so that no orphan writes on."""
    if os.environ.pop("MICOTA_PARENT_PIPE", None) is None:
        return

    def watch() -> None:
        while os.read(0, 1024):  # not sys.stdin: its lock would be held when the interpreter ends
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _made(task: Task, seconds: float) -> dict[str, Any]:
    """By what and when an artifact was made; of the prefix only its first word, as the rest can hold secrets."""
    place: Place = task.place
    return {
        "micota": micota.__version__,
        "host": socket.gethostname(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": round(seconds, 2),
        "machine": task.machine.name,
        "threads": task.machine.threads,
        "place": place.model_dump(exclude={"prefix", "script"}),
        "launcher": shlex.split(place.prefix)[0] if place.prefix else None,
        "packages": {name: metadata.version(name) for name in PACKAGES if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
