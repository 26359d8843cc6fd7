"""A function in processes of its own, which end when a job takes too long or too much memory: for strangers' texts.

A process is a plain child of the interpreter: no main module is run again, and it works alike from threads, notebooks
and scripts. The system's timer ends it, also inside a computation that no Python code could interrupt.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Final

from micota.errors import MicotaError

_PROGRAM: Final = "import sys; sys.path.insert(0, sys.argv[1]); from micota.bounded import serve; serve(*sys.argv[2:])"
_ROOT: Final = str(Path(__file__).resolve().parents[1])
_PATIENCE: Final = 20
"""Seconds by the clock that a job may take for each of its seconds of the processor: others use that too."""
_START_SECONDS: Final = 60.0
_TOO_LARGE: Final = 70
"""The exit code of a process that found itself too large, where the system sets no limit (macOS)."""


class Failed(Exception):
    """A job that raised an error, or passed its bounds; the message says which."""


class Died(Failed):
    """A job over which two processes ended within its bounds: no fact of the job, another try may succeed."""


class Bounded:
    """`Bounded("package.module:function")(x=1)` is `function(x=1)`; arguments and result are JSON.

    A job has `seconds` of the processor and `memory_mb` MiB; one that passed them is not tried again. A process that
    ends within these bounds, or hears nothing of the processor, is replaced, and its job given to another once. Up to
    `workers` jobs run at a time, from any threads, each in a process that starts when it is needed and serves further
    ones; after a fork each side has its own. `needs` is a module that is imported before the first job: that time is
    not counted.
    """

    def __init__(self, function: str, seconds: float, memory_mb: int, needs: str, workers: int = 1) -> None:
        self._words = (function, str(seconds), str(memory_mb), needs)
        self._excess = {
            -signal.SIGPROF: f"it takes more than {seconds:g} seconds",
            _TOO_LARGE: f"it takes more than {memory_mb} MiB of memory",
        }
        self._workers, self._patience = workers, seconds * _PATIENCE
        self._begin()
        _EVERY.add(self)

    def _begin(self) -> None:
        """Begin without processes; those that came through a fork are the other side's."""
        self._free = threading.BoundedSemaphore(self._workers)
        self._idle: list[_Process] = []
        self._failed: dict[str, str] = {}

    def __call__(self, **job: Any) -> Any:
        """The function's result. Raises Failed, and MicotaError if no process starts."""
        text = json.dumps(job)
        with self._free:
            reply = {"error": self._failed[text]} if text in self._failed else self._reply(text)
        if "error" in reply:
            raise Failed(reply["error"])
        return reply["result"]

    def close(self) -> None:
        """End the processes that wait for a job; a further job starts new ones."""
        while self._idle:
            self._idle.pop().end()

    def __del__(self) -> None:
        self.close()

    def _reply(self, job: str) -> dict[str, Any]:
        for again in (False, True):
            try:
                process, reply, code = self._process(again), None, 0
            except Died:
                continue
            try:
                reply = process.reply(job, self._patience)
            finally:
                if reply is None:
                    code = process.end()
                else:
                    self._idle.append(process)
            if reply is not None:
                return reply
            if code in self._excess:
                self._failed[job] = self._excess[code]
                return {"error": self._failed[job]}
        raise Died("two processes died over it")

    def _process(self, new: bool) -> _Process:
        """One that waits for a job, else, or if it is to be `new`, one that is started."""
        try:
            waiting = self._idle.pop()
        except IndexError:
            return _Process(self._words)
        if not new:
            return waiting
        waiting.end()
        return _Process(self._words)


_EVERY: Final[weakref.WeakSet[Bounded]] = weakref.WeakSet()


def _after_fork() -> None:
    for bounded in _EVERY:
        bounded._begin()


os.register_at_fork(after_in_child=_after_fork)


class _Process:
    """A running process, which does one job at a time."""

    def __init__(self, words: tuple[str, ...]) -> None:
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._child = subprocess.Popen([sys.executable, "-c", _PROGRAM, _ROOT, *words], bufsize=0, **pipes)
        assert self._child.stdin is not None and self._child.stdout is not None
        self._input, self._output, self._jobs = self._child.stdin, self._child.stdout, 0
        self._ready, self._room = select.poll(), select.poll()
        self._ready.register(self._output, select.POLLIN)
        self._room.register(self._input, select.POLLOUT)
        os.set_blocking(self._input.fileno(), False)
        if self._line(time.monotonic() + _START_SECONDS) != b"ready\n":
            if self._killed():
                raise Died("a process was killed while it started")
            raise MicotaError(
                f"a process for {words[0]} does not start",
                where=f"{sys.executable} with {_ROOT} on its path and {words[2]} MiB of memory",
                why="what could take for ever runs in a process with limits of time and memory",
                fix="run with the interpreter that has micota, on a machine with memory to spare",
            )

    def reply(self, job: str, seconds: float) -> dict[str, Any] | None:
        """The reply to a job; None if the process ends before, or does not reply in time.

        A job and its reply carry an id that names this process too, so no reply is taken for another job's.
        """
        self._jobs += 1
        name, due = f"{os.getpid()}-{self._jobs}", time.monotonic() + seconds
        with contextlib.suppress(BrokenPipeError):  # it has died: its closed output says so
            self._send(f'{{"id": "{name}", "job": {job}}}\n'.encode("ascii"), due)
        with contextlib.suppress(ValueError):  # what a job has printed is no reply
            reply = json.loads(self._line(due))
            if isinstance(reply, dict) and reply.get("id") == name:
                return reply
        return None

    def _send(self, data: bytes, due: float) -> None:
        while data and (left := due - time.monotonic()) > 0 and self._room.poll(left * 1e3):
            data = data[os.write(self._input.fileno(), data[: 1 << 16]) :]

    def _line(self, due: float) -> bytes:
        """The next line of its output; a part of one if it has ended, or does not come in time."""
        line = b""
        while not line.endswith(b"\n") and (left := due - time.monotonic()) > 0 and self._ready.poll(left * 1e3):
            if not (data := os.read(self._output.fileno(), 1 << 16)):
                break
            line += data
        return line

    def _killed(self) -> bool:
        """End it; whether a signal from elsewhere had done so."""
        try:
            code = self._child.wait(1.0)
        except subprocess.TimeoutExpired:
            code = 0
        self.end()
        return code < 0

    def end(self) -> int:
        """End the process, whatever it does: its exit code, which is negative for a signal."""
        self._child.kill()
        code = self._child.wait()
        for pipe in (self._input, self._output):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return code


def serve(function: str, seconds: str, memory_mb: str, needs: str) -> None:
    """Serve jobs from standard input until it closes: one line of JSON for each, one for each result."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", newline="\n")
    os.dup2(2, 1)  # whatever a library prints must not end up among the replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    importlib.import_module(needs)
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    _limit_memory(int(memory_mb) * 2**20)
    print("ready", file=replies, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, float(seconds))  # of the processor; unhandled, it ends the process
        try:
            answer = {"result": call(**asked["job"])}
        except MemoryError:
            answer = {"error": f"it takes more than {memory_mb} MiB of memory"}
        except Exception as error:  # a program of a stranger can raise anything
            answer = {"error": str(error) or type(error).__name__}
        text = json.dumps({"id": asked["id"], **answer})
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(text, file=replies, flush=True)


def _limit_memory(size: int) -> None:
    """Let allocations of more bytes than this fail; where the system does not enforce that (macOS), watch and leave."""
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (size + _mapped(), size + _mapped()))
    if sys.platform == "darwin":
        threading.Thread(target=_watch, args=(size,), daemon=True).start()


def _mapped() -> int:
    """Bytes that this process has mapped already: a library for accelerators maps many GiB and uses few."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _watch(size: int) -> None:
    import resource

    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < size:
        time.sleep(0.05)
    os._exit(_TOO_LARGE)
