"""What graders take and give: an item, a verdict, a grade.

A verdict is one of four words, because "there is no answer" and "nobody can tell" are not the same as
"the answer is wrong". A grade carries the verdict together with the extracted answer and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a scorer says about a response; only `correct` counts as a point."""

    correct = "correct"
    wrong = "wrong"
    no_answer = "no_answer"
    unverifiable = "unverifiable"


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict with the answer that was read from the response (None: none found) and why."""

    verdict: Verdict
    answer: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Item:
    """One response to grade against its gold.

    `gold` is what the benchmark's row holds: AIME's string, AMC's float, OlympiadBench's `final_answer`
    list, MATH-500's answer, GSM8K's whole solution; without a benchmark, the bare answer.
    `truncated` says that the response was cut by the length limit.
    """

    response: str
    gold: object
    benchmark: str | None = None
    truncated: bool = False


def label(correct: bool, answer: str | None, reason: str) -> Grade:
    """The grade of a comparison that has only two outcomes."""
    return Grade(Verdict.correct if correct else Verdict.wrong, answer, reason)
