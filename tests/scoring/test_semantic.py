"""The second scorer: extraction, the four verdicts, and the types of answer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from micota.grading import Verdict, semantic
from micota.grading.answers import Clock, Group, Matrix, Numeral, Quantity, Ratio, Relation, Text, Union
from micota.grading.extract import final_answer
from micota.grading.reading import read
from micota.grading.semantic import decide, judge


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"first \boxed{1}, then \boxed{2}.", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed {204} is it", "204"),
        (r"\boxed 5$ is it", "5"),
        (r"\fbox{7}", "7"),
        (r"\boxed{x = \boxed{3}}", "3"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{3} and \boxed{4}", "3, 4"),
        (r"$\boxed{3}$ or $\boxed{3}$", "3"),
        (r"$x = \boxed{3}$ and $y = \boxed{4}$", "3, 4"),
        (r"\boxed{3}. In the end \boxed{4}", "4"),
        (r"\boxed{3}. Done \boxed{}", "3"),
        (r"\boxed{3} and then \boxed{4", None),
        (r"\boxed{}", None),
        (r"<think>\boxed{1}</think> So \boxed{2}.", "2"),
        (r"<think>\boxed{1}</think> That is all.", "1"),
        ("The final answer is $x + 1$.", "$x + 1$"),
        ("Final Answer: 42", "42"),
        ("**Final Answer**\n\n42", "42"),
        (r"\boxed{5\\}", r"5\\"),
        ("I do not know, perhaps 42", None),
    ],
)
def test_extraction(response: str, answer: str | None) -> None:
    assert final_answer(response).answer == answer


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("6 * 3 = 18\n#### 18", "18"),
        ("She has 10 left, 3 of them red. The answer is $1,200.", "$1,200"),
        ("so **24** apples remain", "24"),
        ("A: 15.", "15"),
        ("The answer is **24** apples, not 25", "24"),
        ("Nothing at all", None),
    ],
)
def test_extraction_for_gsm8k(response: str, answer: str | None) -> None:
    assert final_answer(response, "gsm8k").answer == answer


@pytest.mark.parametrize(
    "response",
    [
        "Then 2 + 2 = 4 and therefore 4",
        "The answer is 4",
        "#### 4",
        r"<think>perhaps \boxed{4}, but wait",
        r"and so \boxed{4",
        r"<think>\boxed{4}</think> The answer",
        "",
    ],
)
def test_a_truncated_response_without_a_final_box_has_no_answer(response: str) -> None:
    for benchmark in (None, "gsm8k"):
        assert semantic(response, "4", benchmark, truncated=True).verdict == Verdict.no_answer


def test_a_truncated_response_with_a_final_box_is_graded() -> None:
    assert semantic(r"<think>x</think> \boxed{4} since", "4", truncated=True).verdict == Verdict.correct
    assert semantic(r"\boxed{5} since", "4", truncated=True).verdict == Verdict.wrong


@pytest.mark.parametrize(
    ("response", "gold", "benchmark", "verdict"),
    [
        (r"\boxed{204}", "204", "aime24", "correct"),
        (r"\boxed{16}", "016", "aime24", "correct"),
        (r"\boxed{27}", 27.0, "amc23", "correct"),
        (r"\boxed{2n}", ["$2 n$"], "olympiadbench", "correct"),
        (r"\boxed{1, 3}", ["3", "1"], "olympiadbench", "correct"),
        ("So $$\\boxed{18}$$", "thus 9 * 2 = <<9*2=18>>18\n#### 18", "gsm8k", "correct"),
        (r"\boxed{18.00}", "#### 18", "gsm8k", "correct"),
        (r"\boxed{1331 \text{ and } 1728}", "1728", None, "wrong"),
        (r"\boxed{1\frac{1}{2}}, or \boxed{1.5}", r"\frac32", None, "correct"),
        (r"\boxed{1331} or \boxed{1728}", "1728", None, "wrong"),
        (r"\boxed{9^{9^{9^{9}}}}", "7", None, "unverifiable"),
        (r"\boxed{9^{9^{9^{9}}}}", "9^{9^{9^{9}}}", None, "correct"),
        (r"\boxed{" + "7" * 5000 + "}", "7", None, "unverifiable"),
        ("no idea", "7", None, "no_answer"),
    ],
)
def test_verdicts(response: str, gold: object, benchmark: str | None, verdict: str) -> None:
    grade = semantic(response, gold, benchmark)
    assert grade.verdict == verdict
    assert grade.reason


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("8 April", "8 April", True), (r"8\text{ April}", "April 8", True), ("April 8th", "8 April", True),
        ("8 Apr.", "8 April", True), ("8th of April", "April the 8th", True), ("08 April", "8 April", True),
        ("Sept. 3, 1999", "3 September 1999", True), ("8 MAY", "8 May", True),
        ("8", "8 April", False), ("8 April", "8", False), ("April", "8 April", False), ("8 May", "8 April", False),
        ("8 May", "8", False), ("9 April", "8 April", False), ("18 April", "8 April", False),
        ("8 April 2020", "8 April 2021", False), ("April 2020", "8 April 2020", False), ("4/8", "8 April", False),
        ("8 marbles", "8", True), ("8 meters", "8 m", True), ("8 seconds", "8", True),
    ],
)  # fmt: skip
def test_a_date_is_its_day_and_month_however_it_is_written(answer: str, gold: str, right: bool) -> None:
    assert (semantic(rf"\boxed{{{answer}}}", gold).verdict == "correct") == right


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        ("12", Quantity), (r"2\sqrt{3}\text{ cm}", Quantity), ("2n-1", Quantity), ("(1,2)", Group), ("(1,2]", Group),
        (r"(-\infty,2)\cup(3,\infty)", Union), (r"\{1,2\}", Group), (r"1\pm\sqrt{5}", Group), ("1, 2", Group),
        ("y = 2x + 3", Relation), (r"x \ge 2", Relation), (r"\text{(C)}", Text), (r"\text{even}", Text),
        ("52_8", Numeral), (r"\text{4:30 p.m.}", Clock), ("2:3", Ratio),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", Matrix),
    ],
)  # fmt: skip
def test_types(gold: str, kind: type) -> None:
    assert isinstance(read(gold)[0], kind)


def rows(shared: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (shared / name).read_text(encoding="utf-8").splitlines()]


def test_real_outputs(shared: Path) -> None:
    """One disagreement, in which the label is wrong: `4:30 \\text{ p.m.}` is `\\text{4:30 p.m.}`."""
    differing = Counter(
        (grade.answer, row["gold"])
        for row in rows(shared, "golden/real_outputs.jsonl")
        if ((grade := semantic(row["response"], row["gold"])).verdict == Verdict.correct) != bool(row["label"])
    )
    assert set(differing) <= {(r"4:30 \text{ p.m.}", r"\text{4:30 p.m.}")}


def test_reference_solutions_are_correct(shared: Path) -> None:
    for row in rows(shared, "data/math500.jsonl"):
        assert semantic(row["solution"], row["answer"]).verdict == Verdict.correct, row["answer"]
    for row in rows(shared, "data/gsm8k.jsonl"):
        assert semantic(row["answer"], row["answer"], "gsm8k").verdict == Verdict.correct, row["answer"]


def test_the_fast_rules_change_no_verdict(shared: Path) -> None:
    pairs = {
        (answer, row["gold"])
        for row in rows(shared, "golden/real_outputs.jsonl")
        if (answer := final_answer(row["response"]).answer) is not None
    }
    pairs |= {(pair["answer"], pair["gold"]) for pair in rows(Path(__file__).parent, "hard_pairs.jsonl")}
    decided = [(pair, fast) for pair in sorted(pairs) if (fast := decide(*pair)) is not None]
    assert len(decided) > 100
    for (answer, gold), fast in decided:
        slow = judge(answer, gold, identical=False).verdict
        assert slow == (Verdict.correct if fast else Verdict.wrong), (answer, gold)


@pytest.mark.parametrize(
    ("response", "gold", "verdict"),
    [
        (r"x=\boxed{1} or x=\boxed{2}", "1,2", "correct"),
        (r"x=\boxed{1} or x=\boxed{2}", "2", "wrong"),
        (r"The answers are $\boxed{1}$, $\boxed{2}$, and $\boxed{3}$.", "1,2,3", "correct"),
        (r"First \boxed{3}. No, wait. So \boxed{4}.", "3", "wrong"),
        (r"\boxed{\textbf{(E) }27}", 27.0, "correct"),
        (r"\boxed{\textbf{(E) }27}", r"\text{(E)}", "correct"),
        (r"\boxed{\textbf{(E) }28}", 27.0, "wrong"),
        (r"\boxed{\textbf{(C)}, \textbf{(D)}}", r"\text{(C)}", "wrong"),
        (r"\boxed{m+n = 3+5 = 8}", "8", "correct"),
        (r"\boxed{m+n = 3+6 = 8}", "8", "wrong"),
        (r"\boxed{2x = 8}", "8", "wrong"),
        ("<think>so it is \\boxed{7}</think> The answer is \\boxed{8}.", "7", "wrong"),
    ],
)
def test_whole_responses(response: str, gold: object, verdict: str) -> None:
    assert semantic(response, gold).verdict == verdict
