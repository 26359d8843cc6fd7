"""A function in a process of its own, which ends when a job takes too long or too much memory: for strangers' programs.

The process is a plain child of the interpreter: no main module is run again, and it works alike from threads, notebooks
and scripts. The system's timer ends it, also inside a computation that no Python code could interrupt.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

_PROGRAM: Final = "import sys; sys.path.insert(0, sys.argv[1]); from micota.bounded import serve; serve(*sys.argv[2:])"
_ROOT: Final = str(Path(__file__).resolve().parents[1])


class Failed(Exception):
    """A job that raised an error, or passed its bounds; the message says which."""


class Bounded:
    """`Bounded("package.module:function")(x=1)` is `function(x=1)`; arguments and result are JSON.

    One job runs at a time, for at most `seconds` of the processor, in `memory_mb` MiB. The process starts with the
    first job, serves further ones, and is started again after a job that ended it, which is not tried twice; after a
    fork each side has its own. `needs` is a module that is imported before the first job: that time is not counted.
    """

    def __init__(self, function: str, seconds: float, memory_mb: int, needs: str) -> None:
        self._function, self._seconds, self._memory_mb, self._needs = function, seconds, memory_mb, needs
        self._forget()

    def __call__(self, **job: Any) -> Any:
        """The function's result. Raises Failed."""
        if self._owner != os.getpid():
            self._forget()
        with self._lock:
            self._jobs += 1
            text = json.dumps(job)
            reply = self._beyond.get(text) or self._ask(text)
        if "error" in reply:
            raise Failed(reply["error"])
        return reply["result"]

    def _forget(self) -> None:
        self._owner, self._lock, self._jobs = os.getpid(), threading.Lock(), 0
        self._child: subprocess.Popen[str] | None = None
        self._beyond: dict[str, dict[str, Any]] = {}

    def __del__(self) -> None:
        if self._owner == os.getpid():
            self._end()

    def _end(self) -> None:
        if (child := self._child) is not None:
            self._child = None
            child.kill()
            with contextlib.suppress(BrokenPipeError):
                child.communicate()

    def _ask(self, job: str) -> dict[str, Any]:
        child = self._child = self._child or self._start()
        assert child.stdin is not None and child.stdout is not None
        reply = ""
        with contextlib.suppress(BrokenPipeError):  # it has ended: its closed output says so
            child.stdin.write(f'{{"id": {self._jobs}, "job": {job}}}\n')
            child.stdin.flush()
            reply = child.stdout.readline()
        if reply.endswith("\n") and (answer := json.loads(reply))["id"] == self._jobs:
            return dict(answer)
        self._end()
        self._beyond[job] = {
            "error": f"it takes more than {self._seconds:g} seconds or {self._memory_mb} MiB of memory"
        }
        return self._beyond[job]

    def _start(self) -> subprocess.Popen[str]:
        words = (self._function, str(self._seconds), str(self._memory_mb), self._needs)
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([sys.executable, "-c", _PROGRAM, _ROOT, *words], text=True, encoding="ascii", **pipes)


def serve(function: str, seconds: str, memory_mb: str, needs: str) -> None:
    """Serve jobs from standard input until it closes: one line of JSON for each, one for each result."""
    import resource

    replies = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # whatever a library prints must not end up among the replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    importlib.import_module(needs)
    module, _, name = function.partition(":")
    call = getattr(importlib.import_module(module), name)
    with contextlib.suppress(ValueError, OSError):
        limit = int(memory_mb) * 2**20 + _mapped()
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        asked = json.loads(line)
        signal.setitimer(
            signal.ITIMER_PROF, float(seconds)
        )  # of the processor; nothing handles it: it ends the process
        try:
            answer = {"result": call(**asked["job"])}
        except MemoryError:
            answer = {"error": f"it takes more than {memory_mb} MiB of memory"}
        except Exception as error:  # a program of a stranger can raise anything
            answer = {"error": str(error) or type(error).__name__}
        text = json.dumps({"id": asked["id"], **answer})
        signal.setitimer(signal.ITIMER_PROF, 0)
        replies.write(text + "\n")
        replies.flush()


def _mapped() -> int:
    """Bytes that this process has mapped already: a library for accelerators maps many GiB and uses few."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
