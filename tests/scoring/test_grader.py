"""The grader: order, deadline, memory limit, dying processes, threads."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from micota.errors import MicotaError
from micota.grading import DIED, Grade, Grader, Item, Verdict, grade_responses, semantic

SLOW = Item(rf"\boxed{{{'+'.join(rf'1/{k}^{{5000}}' for k in range(3, 163, 2))}}}", "7")
EASY = Item(r"\boxed{\pi+1}", r"1+\pi")
ITEMS = [
    Item(r"\boxed{4}", "4"),
    EASY,
    Item(r"\boxed{x+1}", "x+2"),
    Item("nothing", "4"),
    Item(r"\boxed{(1,2)}", "(1,2]"),
    Item(r"\boxed{y=2x}", "2x"),
]
EXPECTED = ["correct", "correct", "wrong", "no_answer", "wrong", "correct"]


def verdicts(grader: Grader, items: list[Item]) -> list[str]:
    return [grade.verdict.value for grade in grader.grade(items)]


def children() -> list[psutil.Process]:
    """The grading processes of this one."""
    return [
        child for child in psutil.Process().children() if "micota.grading.semantic:judged" in " ".join(child.cmdline())
    ]


def wait_for_death(child: psutil.Process) -> None:
    """Wait until a killed child is a zombie: the grader has yet to collect it."""
    while child.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def test_grades_come_in_order_from_one_or_more_workers() -> None:
    for workers in (1, 3):
        with Grader(workers=workers) as grader:
            assert verdicts(grader, ITEMS * 5) == EXPECTED * 5
            assert grader.grade([]) == []


def test_it_says_what_semantic_says() -> None:
    with Grader() as grader:
        assert grader.grade(ITEMS) == [semantic(i.response, i.gold, i.benchmark, i.truncated) for i in ITEMS]


def test_exact_match_needs_no_process() -> None:
    with Grader(by="exact_match") as grader:
        assert verdicts(grader, ITEMS[:4]) == ["correct", "wrong", "wrong", "no_answer"]
        assert not children()


def test_a_slow_answer_is_unverifiable_and_the_rest_goes_on() -> None:
    with Grader(deadline=1.0) as grader:
        grades = grader.grade([EASY, SLOW, EASY])
    assert [grade.verdict.value for grade in grades] == ["correct", "unverifiable", "correct"]
    assert grades[1].reason == "it takes more than 1 seconds"


def test_a_stopped_process_is_replaced_and_its_answer_graded() -> None:
    with Grader(deadline=0.2) as grader:
        grader.grade([EASY])
        children()[0].suspend()
        assert verdicts(grader, [EASY, EASY]) == ["correct", "correct"]


def test_a_dead_process_is_replaced_and_its_answer_graded() -> None:
    with Grader() as grader:
        grader.grade([EASY])
        child = children()[0]
        child.kill()
        wait_for_death(child)
        assert verdicts(grader, [EASY, EASY]) == ["correct", "correct"]


def test_it_works_from_threads() -> None:
    results: list[list[str]] = []
    with Grader() as grader:
        threads = [threading.Thread(target=lambda: results.append(verdicts(grader, ITEMS))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [EXPECTED] * 4


def test_closing_ends_the_processes_and_grading_again_starts_new_ones() -> None:
    grader = Grader()
    grader.grade([EASY])
    grader.close()
    assert not children()
    assert verdicts(grader, [EASY]) == ["correct"]
    grader.close()


def test_a_user_grader_may_return_a_bool_a_word_or_a_grade() -> None:
    results = iter([True, "no_answer", Grade(Verdict.wrong, "5", "because")])
    grades = grade_responses(ITEMS[:3], by=lambda response, gold: next(results))
    assert [grade.verdict.value for grade in grades] == ["correct", "no_answer", "wrong"]
    assert grades[2].reason == "because"


@pytest.mark.parametrize("verdict", ["yes", 0.5, 2, 1, 0, None, [True], float("nan")], ids=repr)
def test_a_user_grader_that_returns_no_verdict_is_named(verdict: Any) -> None:
    """A share, or nothing where a `return` is forgotten, is no verdict: it would count as all or nothing."""
    with pytest.raises(MicotaError, match="which is no verdict"):
        grade_responses(ITEMS[:1], by=lambda response, gold: verdict)


def test_a_user_grader_may_return_a_bool_of_numpy() -> None:
    grades = grade_responses(ITEMS[:2], by=lambda response, gold: np.equal(len(response), len(ITEMS[0].response)))
    assert grades[0].verdict == "correct"


def test_items_are_read_in_batches_and_progress_is_reported() -> None:
    reports: list[tuple[int, int]] = []
    read: list[Item] = []

    def items() -> Iterator[Item]:
        for _ in range(600):
            read.append(ITEMS[0])
            yield ITEMS[0]

    grades = grade_responses(items(), "exact_match", progress=lambda done: reports.append((done, len(read))))
    assert len(grades) == 600
    assert [done for done, _ in reports] == [at for _, at in reports] == [256, 512, 600]


def test_an_answer_that_two_processes_died_over_is_an_accident_and_the_rest_goes_on() -> None:
    killed: set[int] = set()

    def kill() -> None:
        while len(killed) < 2:
            with contextlib.suppress(psutil.Error):
                for child in children():
                    if child.pid not in killed and child.cpu_times().user > 1.0:
                        child.kill()
                        killed.add(child.pid)
            time.sleep(0.02)

    with Grader(deadline=120) as grader:
        thread = threading.Thread(target=kill)
        thread.start()
        grades = grader.grade([SLOW, EASY])
        thread.join()
    assert [grade.verdict for grade in grades] == [Verdict.unverifiable, Verdict.correct]
    assert grades[0].reason == DIED


def test_a_grader_that_lives_through_a_fork_answers_each_process_by_itself() -> None:
    items = [Item(rf"\boxed{{x+{k}}}", f"{k}+x" if k % 3 else f"{k}-x") for k in range(40)]
    expected = ["correct" if k % 3 else "wrong" for k in range(40)]
    with Grader() as grader:
        grader.grade(items[:3])
        child = os.fork()
        if child == 0:
            os._exit(0 if verdicts(grader, items) == expected else 3)
        assert verdicts(grader, items) == expected
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert verdicts(grader, items[:3]) == expected[:3]
