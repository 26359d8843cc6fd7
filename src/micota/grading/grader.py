"""Grading many responses: fast rules here, everything that could hang or grow in processes that may be killed.

The deadline is hard. A process that passes it is replaced, its answer is `unverifiable`, and the rest goes on. One
that dies before is replaced too, and its answer given to another once: a second death is an accident (`DIED`), no fact
of the answer. Extraction and the fast rules run in the calling process, because they are linear in the text.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final, Literal, Self

from micota.errors import MicotaError
from micota.grading.exact import exact_match
from micota.grading.extract import FinalAnswer
from micota.grading.semantic import gold_text, judge, quick_grade, settled
from micota.grading.tokens import LONGEST
from micota.grading.verdict import Grade, Item, Verdict

BATCH = 256
"""Responses that are graded between two reports of progress."""
DIED: Final = "two grading processes died over it"
"""The reason of a verdict that an accident left open: grading the answer again may give another."""
_VERDICTS: Final = tuple(map(str, Verdict))
UserGrader = Callable[[str, object], "Grade | str | bool"]
"""A user's own grader: `(response, gold)` gives a Grade, one of the four verdicts as a word, or a bool."""
By = Literal["exact_match", "semantic"] | UserGrader
_START_SECONDS: Final = 60.0
_PROGRAM: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); from micota.grading.worker import main;"
    " main(float(sys.argv[2]), int(sys.argv[3]))"
)
_ROOT: Final = str(Path(__file__).resolve().parents[2])


def grade_responses(
    items: Iterable[Item], by: By = "semantic", workers: int = 1, progress: Callable[[int], object] = lambda done: None
) -> list[Grade]:
    """One grade for each item, in order; `items` is read in batches, so it may be a generator over a large file.

    `by` is a scorer's name or a function of the user's own, which runs in this process. `workers` is the number of
    processes that the semantic grader compares answers in. `progress` is called with the number of grades so far.

    >>> [grade.verdict.value for grade in grade_responses([Item("\\\\boxed{4}", "4")], by="exact_match")]
    ['correct']
    """
    grades: list[Grade] = []
    remaining = iter(items)
    with Grader(by, workers) as grader:
        while batch := list(islice(remaining, BATCH)):
            grades += grader.grade(batch)
            progress(len(grades))
    return grades


def _as_grade(result: Grade | str | bool) -> Grade:
    if isinstance(result, Grade):
        return result
    word = result if isinstance(result, str) else "correct" if result else "wrong"
    if word not in _VERDICTS:
        fix = f"return a bool, a micota.grading.Grade, or one of {', '.join(_VERDICTS)}"
        raise MicotaError(f"the grader returned {word!r}, which is no verdict", fix=fix)
    return Grade(Verdict(word), None, "the user's grader")


class Grader:
    """Grades items in order, from any thread; a context manager that owns its processes.

    `deadline` is in seconds and `memory_mb` in MiB, both for one answer. Processes start when first needed.

    >>> with Grader(by="exact_match") as grader:
    ...     [grade.verdict.value for grade in grader.grade([Item("\\\\boxed{4}", "4")])]
    ['correct']
    """

    def __init__(
        self,
        by: By = "semantic",
        workers: int = 1,
        deadline: float = 3.0,
        memory_mb: int = 1024,
    ) -> None:
        self.by, self.workers, self.deadline, self.memory_mb = by, max(1, workers), deadline, memory_mb
        self._own()

    def _own(self) -> None:
        """Begin without processes; those that came through a fork are the other process's."""
        self._owner, self._lock = os.getpid(), threading.Lock()
        self._processes: list[_Process] = []
        self._idle: list[_Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; grading again starts new ones."""
        if self._owner != os.getpid():
            return self._own()
        self._idle.clear()
        while self._processes:
            self._processes.pop().kill()
        return None

    def __del__(self) -> None:
        self.close()

    def grade(self, items: Sequence[Item]) -> list[Grade]:
        """One grade for each item, in order."""
        if callable(self.by):
            return [_as_grade(self.by(item.response, item.gold)) for item in items]
        if self.by == "exact_match":
            return [exact_match(item.response, item.gold, item.benchmark) for item in items]
        if self._owner != os.getpid():
            self._own()
        with self._lock, ThreadPoolExecutor(self.workers) as threads:
            try:
                results = [self._submit(item, threads) for item in items]
                return [result.result() if isinstance(result, Future) else result for result in results]
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                self.close()
                raise

    def _submit(self, item: Item, threads: Executor) -> Grade | Future[Grade]:
        """The grade where no process is needed, otherwise that of a process, to come."""
        answer = quick_grade(item.response, item.gold, item.benchmark, item.truncated)
        if isinstance(answer, Grade):
            return answer
        gold = gold_text(item.gold, item.benchmark)
        if max(len(answer.answer or ""), len(gold)) > LONGEST:
            return settled(judge(answer.answer or "", gold), answer)
        return threads.submit(self._judge, answer, gold)

    def _judge(self, final: FinalAnswer, gold: str) -> Grade:
        for _ in range(2):
            process = self._process()
            grade = process.judge(final.answer or "", gold)
            if process.is_alive:
                self._idle.append(process)
            else:
                self._processes.remove(process)
            if grade.reason != DIED:
                break
        return settled(grade, final)

    def _process(self) -> _Process:
        try:
            return self._idle.pop()
        except IndexError:
            process = _Process(self.deadline, self.memory_mb)
            self._processes.append(process)
            return process


class _Process:
    """A running worker process, which judges one answer at a time."""

    def __init__(self, deadline: float, memory_mb: int) -> None:
        self.deadline, self.is_alive, self._jobs = deadline, True, 0
        self._child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, _ROOT, str(deadline), str(memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._child.stdin is not None and self._child.stdout is not None
        self._input, self._output = self._child.stdin, self._child.stdout
        if self._line(_START_SECONDS) != b"ready\n":
            self.kill()
            raise MicotaError(
                "a grading process does not start",
                where=f"{sys.executable} with {_ROOT} on its path and {memory_mb} MiB of memory",
                why="answers that could hang are compared in a process with a time and memory limit",
                fix="give it more memory (256 MiB or more), or run with the interpreter that has micota",
            )

    def judge(self, answer: str, gold: str) -> Grade:
        """The grade of an answer; `unverifiable` if the process dies or passes its deadline, which ends it.

        A job and its reply carry an id that names this process too, so no reply is taken for another job's.
        """
        self._jobs += 1
        job = f"{os.getpid()}-{self._jobs}"
        with contextlib.suppress(BrokenPipeError):  # it has died: its closed output says so
            self._input.write(json.dumps({"id": job, "answer": answer, "gold": gold}).encode() + b"\n")
            self._input.flush()
        line = self._line(self.deadline)
        if line is not None and line.endswith(b"\n") and (reply := json.loads(line))["id"] == job:
            return Grade(Verdict(reply["verdict"]), reply["answer"], reply["reason"])
        self.kill()
        late = f"no verdict within {self.deadline:g} s"
        return Grade(Verdict.unverifiable, answer, late if line is None else DIED)

    def _line(self, seconds: float) -> bytes | None:
        """The next line of its output, b"" or part of one if it has ended, None if it does not come in time."""
        due, line = time.monotonic() + seconds, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while not line.endswith(b"\n"):
                if not selector.select(max(0.0, due - time.monotonic())):
                    return None
                data = os.read(self._output.fileno(), 1 << 16)
                if not data:
                    break
                line += data
        return line

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.is_alive = False
        self._child.kill()
        self._child.wait()
        for pipe in (self._input, self._output):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
