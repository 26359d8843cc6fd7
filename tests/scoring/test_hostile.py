"""Hostile, random and mutated responses: no crash, no hang, nothing evaluated, memory bounded."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz import hostile, responses

import micota.grading
from micota.grading import Grader, Item, Verdict, exact_match, strict_match
from micota.grading.semantic import FAILED

SECONDS = 3.0  # of CPU, for the scorers that run in this process
DEADLINE = 2.5  # of a grading in a process of its own, which the grader enforces


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader(deadline=DEADLINE) as grader:
        yield grader


def test_hostile_texts_end_in_time(grader: Grader) -> None:
    for text in hostile():
        grade = grader.grade([Item(text, "7")])[0]
        began = time.process_time()
        exact_match(text, "7")
        exact_match(text, "7", "gsm8k")
        strict_match(text, "7")
        assert time.process_time() - began <= SECONDS, text[:80]
        assert isinstance(grade.verdict, Verdict)
        assert not grade.reason.startswith(FAILED), grade
    assert peak_mb(resource.RUSAGE_SELF) < 1500


def peak_mb(whose: int) -> float:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(whose).ru_maxrss / unit


def test_two_thousand_random_and_mutated_responses(grader: Grader) -> None:
    items = list(responses(2000))
    grades = grader.grade(items)
    assert len(grades) == len(items)
    assert not [grade for grade in grades if grade.reason.startswith(FAILED)]
    for item in items:
        exact_match(item.response, item.gold, item.benchmark)
        strict_match(item.response, item.gold)


def test_hostile_golds_end_in_time(grader: Grader) -> None:
    for text in hostile()[::3]:
        assert isinstance(grader.grade([Item(r"\boxed{x+1}", text)])[0].verdict, Verdict)


def test_nothing_in_the_room_evaluates_text() -> None:
    folder = Path(micota.grading.__file__).parent
    for path in folder.glob("*.py"):
        found = re.findall(r"(?<![\w.])(?:eval|exec|compile|sympify|parse_expr|__import__)\(", path.read_text())
        assert not found, (path, found)
