"""One grading process: reads jobs as JSON lines, replies to each with a verdict as a JSON line.

It is started as a plain child of the interpreter, not through `multiprocessing`: so no main module is run
again, and it works alike from threads, notebooks and scripts without a main guard, on Linux and macOS. It
limits its own memory, ends a job shortly before the parent would kill it, and leaves when its input closes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Final

from micota.grading.semantic import judge

_SOFT: Final = 0.8
"""The share of the deadline after which a job ends itself, which spares a new process."""


class _Late(BaseException):
    """Raised by the timer; no `except Exception` on the way may swallow it."""


def main(deadline: float, memory_mb: int) -> None:
    """Serve jobs `{"id": ..., "answer": ..., "gold": ...}` from standard input until it closes."""
    replies = os.fdopen(os.dup(1), "w", encoding="ascii", newline="\n")
    os.dup2(2, 1)  # whatever a library prints must not end up among the replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _ring)
    limit_memory(memory_mb)
    judge(r"\pi + 1", r"1 + \pi")  # so that the first job does not wait for imports
    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        job = json.loads(line)
        replies.write(json.dumps({"id": job["id"], **_reply(job, deadline * _SOFT)}) + "\n")
        replies.flush()


def _ring(signum: int, frame: FrameType | None) -> None:
    raise _Late


def _reply(job: dict[str, Any], seconds: float) -> dict[str, Any]:
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        grade = judge(job["answer"], job["gold"])
        signal.setitimer(signal.ITIMER_REAL, 0)
        return {"verdict": grade.verdict, "answer": grade.answer, "reason": grade.reason}
    except _Late:
        reason = "no verdict in time"
    except (MemoryError, RecursionError) as error:
        reason = f"beyond the limits of a grading process: {type(error).__name__}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return {"verdict": "unverifiable", "answer": job["answer"], "reason": reason}


def limit_memory(memory_mb: int) -> None:
    """Let allocations beyond the limit fail; where the system does not enforce that (macOS), watch and leave."""
    import resource

    size = memory_mb * 2**20
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    if sys.platform == "darwin":
        threading.Thread(target=_watch, args=(size,), daemon=True).start()


def _watch(size: int) -> None:
    import resource

    while resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < size:
        time.sleep(0.05)
    os._exit(70)
