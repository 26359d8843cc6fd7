"""Grading many responses: fast rules here, everything that could hang or grow in processes that may be killed.

The deadline is hard. A process that passes it, or dies, is replaced; its answer is `unverifiable` and the rest
goes on. Extraction and the fast rules run in the calling process, because they are linear in the text.
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
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from micota.errors import MicotaError
from micota.grading.exact import exact_match
from micota.grading.semantic import gold_text, judge, quick_grade
from micota.grading.tokens import LONGEST
from micota.grading.verdict import Grade, Item, Verdict

BATCH = 256
"""Responses that are graded between two reports of progress."""
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
    with _grader(by, workers) as grader:
        while batch := list(islice(remaining, BATCH)):
            grades += grader.grade(batch)
            progress(len(grades))
    return grades


class _UserGrader:
    def __init__(self, function: UserGrader) -> None:
        self._function = function

    def grade(self, items: Sequence[Item]) -> list[Grade]:
        return [_as_grade(self._function(item.response, item.gold)) for item in items]


def _as_grade(result: Grade | str | bool) -> Grade:
    if isinstance(result, Grade):
        return result
    word = result if isinstance(result, str) else "correct" if result else "wrong"
    if word not in _VERDICTS:
        fix = f"return a bool, a micota.grading.Grade, or one of {', '.join(_VERDICTS)}"
        raise MicotaError(f"the grader returned {word!r}, which is no verdict", fix=fix)
    return Grade(Verdict(word), None, "the user's grader")


def _grader(by: By, workers: int) -> AbstractContextManager[Grader | _UserGrader]:
    return nullcontext(_UserGrader(by)) if callable(by) else Grader(by, workers)


class Grader:
    """Grades items in order, from any thread; a context manager that owns its processes.

    `deadline` is in seconds and `memory_mb` in MiB, both for one answer. Processes start when first needed.

    >>> with Grader(by="exact_match") as grader:
    ...     [grade.verdict.value for grade in grader.grade([Item("\\\\boxed{4}", "4")])]
    ['correct']
    """

    def __init__(
        self,
        by: Literal["exact_match", "semantic"] = "semantic",
        workers: int = 1,
        deadline: float = 3.0,
        memory_mb: int = 1024,
    ) -> None:
        self.by, self.workers, self.deadline, self.memory_mb = by, max(1, workers), deadline, memory_mb
        self._crew: list[_Process] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; grading again starts new ones."""
        while self._crew:
            self._crew.pop().kill()

    def __del__(self) -> None:
        self.close()

    def grade(self, items: Sequence[Item]) -> list[Grade]:
        """One grade for each item, in order."""
        if self.by == "exact_match":
            return [exact_match(item.response, item.gold, item.benchmark) for item in items]
        grades: list[Grade | None] = []
        jobs: deque[_Job] = deque()
        for at, item in enumerate(items):
            grade = _in_parent(item)
            grades.append(grade if isinstance(grade, Grade) else None)
            if isinstance(grade, str):
                jobs.append(_Job(at, grade, gold_text(item.gold, item.benchmark)))
        with self._lock:
            self._work_off(jobs, grades)
        return [grade for grade in grades if grade is not None]

    def _work_off(self, jobs: deque[_Job], grades: list[Grade | None]) -> None:
        try:
            while jobs or any(process.job for process in self._crew):
                self._hand_out(jobs)
                for process, grade in self._finished():
                    assert process.job is not None
                    grades[process.job.at] = grade
                    process.job = None
                    if process.dead:
                        self._crew.remove(process)
        except BaseException:
            self.close()  # a reply that nobody waits for would be taken for the next one
            raise

    def _hand_out(self, jobs: deque[_Job]) -> None:
        while jobs:
            free = next((process for process in self._crew if process.job is None), None)
            if free is None:
                if len(self._crew) >= self.workers:
                    return
                free = _Process(self.deadline, self.memory_mb)
                self._crew.append(free)
            free.send(jobs.popleft())

    def _finished(self) -> list[tuple[_Process, Grade]]:
        """Wait until a process replies, dies or passes its deadline; those with their grades."""
        busy = [process for process in self._crew if process.job]
        with selectors.DefaultSelector() as selector:
            for process in busy:
                selector.register(process.output, selectors.EVENT_READ, process)
            wait = min(process.due for process in busy) - time.monotonic()
            ready = [key.data for key, _ in selector.select(max(0.0, wait))]
        graded = [(process, grade) for process in ready if (grade := process.receive()) is not None]
        done = {id(process) for process, _ in graded}
        late = [process for process in busy if process.due <= time.monotonic() and id(process) not in done]
        return graded + [(process, process.give_up(f"no verdict within {self.deadline:g} s")) for process in late]


def _in_parent(item: Item) -> Grade | str:
    """The grade where no process is needed, otherwise the answer to be judged in one."""
    quick = quick_grade(item.response, item.gold, item.benchmark, item.truncated)
    if isinstance(quick, str):
        gold = gold_text(item.gold, item.benchmark)
        if max(len(quick), len(gold)) > LONGEST:
            return judge(quick, gold)
    return quick


class _Job:
    def __init__(self, at: int, answer: str, gold: str) -> None:
        self.at, self.answer, self.gold = at, answer, gold


class _Process:
    """A running worker, its current job and when that is due."""

    def __init__(self, deadline: float, memory_mb: int) -> None:
        self.deadline, self.due, self.dead = deadline, 0.0, False
        self.job: _Job | None = None
        self._pending = b""
        self._child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, _ROOT, str(deadline), str(memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._child.stdin is not None and self._child.stdout is not None
        self._input, self._output = self._child.stdin, self._child.stdout
        self.output = self._output.fileno()
        self._await_ready(memory_mb)

    def _await_ready(self, memory_mb: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            ready = selector.select(_START_SECONDS)
        if not ready or os.read(self.output, 64) != b"ready\n":
            self.kill()
            raise MicotaError(
                "a grading process does not start",
                where=f"{sys.executable} with {_ROOT} on its path and {memory_mb} MiB of memory",
                why="answers that could hang are compared in a process that may be killed",
                fix="give it more memory (256 MiB or more), or run with the interpreter that has micota",
            )

    def send(self, job: _Job) -> None:
        self.job, self.due = job, time.monotonic() + self.deadline
        with contextlib.suppress(BrokenPipeError):  # it has died: its closed output says so
            self._input.write(json.dumps({"answer": job.answer, "gold": job.gold}).encode() + b"\n")
            self._input.flush()

    def receive(self) -> Grade | None:
        """The grade if a whole reply, or the end of the process, has arrived."""
        data = os.read(self.output, 1 << 16)
        if not data:
            return self.give_up("the grading process died")
        self._pending += data
        if not self._pending.endswith(b"\n"):
            return None
        reply, self._pending = json.loads(self._pending), b""
        return Grade(Verdict(reply["verdict"]), reply["answer"], reply["reason"])

    def give_up(self, reason: str) -> Grade:
        assert self.job is not None
        self.kill()
        return Grade(Verdict.unverifiable, self.job.answer, reason)

    def kill(self) -> None:
        self.dead = True
        self._child.kill()
        self._child.wait()
        for pipe in (self._input, self._output):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
