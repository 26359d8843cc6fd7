"""Grading many responses: fast rules here, everything that could hang or grow in processes that may be killed.

An answer that passes the deadline is `unverifiable`, and the rest goes on. One over which two processes died is so by
an accident (`DIED`), no fact of the answer. Extraction and the fast rules run in the calling process, because they are
linear in the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, Final, Literal, Self

from micota.bounded import Bounded, Died, Failed
from micota.errors import MicotaError
from micota.grading.choice import LETTERS, choice
from micota.grading.exact import exact_match
from micota.grading.extract import FinalAnswer, answered
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
Job = tuple[FinalAnswer, str]
"""A final answer and the reference answer, to be compared in a process."""
By = Literal["exact_match", "semantic", "choice"] | UserGrader


def grade_responses(
    items: Iterable[Item], by: By = "semantic", workers: int = 1, progress: Callable[[int], object] = lambda done: None
) -> list[Grade]:
    """One grade for each item, in order; `items` is read in batches, so it may be a generator over a large file.

    `by` is a scorer's name or a function of the user's own, which runs in this process. For `choice` a gold is the
    right letter and then the texts of all options. `workers` is the number of processes that the semantic grader
    compares answers in. `progress` is called with the number of grades so far.

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
    is_bool = isinstance(result, bool) or type(result).__name__ in ("bool_", "bool")  # NumPy's too
    word = ("correct" if result else "wrong") if is_bool else result
    if word not in _VERDICTS:
        fix = f"return a bool, a micota.grading.Grade, or one of {', '.join(_VERDICTS)}"
        raise MicotaError(f"the grader returned {word!r:.80}, which is no verdict", fix=fix)
    return Grade(Verdict(word), None, "the user's grader")


class Grader:
    """Grades items in order, from any thread; a context manager that owns its processes.

    `deadline` is in seconds of the processor and `memory_mb` in MiB, both for one answer. Processes start when needed.

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
        self.by, self.workers = by, max(1, workers)
        self._judged = Bounded("micota.grading.semantic:judged", deadline, memory_mb, "mpmath.ctx_mp", self.workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the processes; grading again starts new ones."""
        self._judged.close()

    def grade(self, items: Sequence[Item]) -> list[Grade]:
        """One grade for each item, in order."""
        if callable(self.by):
            return [_as_grade(self.by(answered(item.response), item.gold)) for item in items]
        if self.by == "exact_match":
            return [exact_match(answered(item.response), item.gold, item.benchmark) for item in items]
        read = [self._read(item) for item in items]
        jobs = [one for one in read if not isinstance(one, Grade)]
        if self.workers == 1:  # without a thread, which would wait for this one's lock of the interpreter
            judged = iter([self._judge(job) for job in jobs])
        else:
            with ThreadPoolExecutor(self.workers) as threads:
                judged = iter([*threads.map(self._judge, jobs)])
        return [one if isinstance(one, Grade) else next(judged) for one in read]

    def _read(self, item: Item) -> Grade | Job:
        """The grade where no process is needed, otherwise what a process has to compare."""
        if self.by == "choice":
            parts: Any = item.gold
            right, *choices = map(str, parts)
            answer, gold = choice(item.response, [right, *choices], item.truncated), choices[LETTERS.index(right)]
        else:
            answer = quick_grade(item.response, item.gold, item.benchmark, item.truncated)
            gold = gold_text(item.gold, item.benchmark)
        if isinstance(answer, Grade):
            return answer
        if max(len(answer.answer or ""), len(gold)) > LONGEST:
            return settled(judge(answer.answer or "", gold), answer)
        return answer, gold

    def _judge(self, job: Job) -> Grade:
        final, gold = job
        answer = final.answer or ""
        try:
            verdict, answer, reason = self._judged(answer=answer, gold=gold)
        except Failed as error:
            verdict, reason = Verdict.unverifiable, DIED if isinstance(error, Died) else str(error)
        return settled(Grade(Verdict(verdict), answer, reason), final)
