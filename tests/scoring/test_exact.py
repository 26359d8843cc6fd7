"""The paper's scorer against the labels of the paper's harness, and its known faults by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from micota.grading import Verdict, exact_match, strict_match


def read(path: Path) -> list[Any]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def golds(shared: Path) -> dict[str, list[Any]]:
    rows = {
        name: read(shared / "data" / f"{name}.jsonl")
        for name in ("aime24", "amc23", "olympiadbench", "math500", "gsm8k")
    }
    return {
        name: [row["final_answer"] if name == "olympiadbench" else row["answer"] for row in table]
        for name, table in rows.items()
    }


def test_every_harness_label(shared: Path) -> None:
    gold = golds(shared)
    for row in read(shared / "golden" / "harness_labels.jsonl"):
        name, response = row["benchmark"], row["response"]
        target = gold[name][row["index"]]
        expected = row["flexible_extract"] if name == "gsm8k" else row["exact_match"]
        assert (exact_match(response, target, name).verdict == Verdict.correct) == expected, row
        if name == "gsm8k":
            assert (strict_match(response, target).verdict == Verdict.correct) == row["strict_match"], row


def test_every_real_output(shared: Path) -> None:
    for row in read(shared / "golden" / "real_outputs.jsonl"):
        verdict = exact_match(row["response"], row["gold"]).verdict
        assert (verdict == Verdict.correct) == row["exact_match"], row


@pytest.mark.parametrize(
    ("response", "gold", "benchmark", "verdict"),
    [
        (r"\boxed{033}", "33", "aime24", "correct"),
        (r"\boxed{27}", 27.0, "amc23", "correct"),
        (r"\boxed{27.0.}", 27.0, "amc23", "correct"),
        (r"\boxed{27.00}", "27", None, "wrong"),
        (r"\boxed {204}", "204", "aime24", "wrong"),
        (r"\boxed 204$ and", "204", "aime24", "correct"),
        (r"\boxed{}", ["0"], "olympiadbench", "correct"),
        (r"\boxed{2}", ["$2$"], "olympiadbench", "wrong"),
        (r"\boxed{$2$}", ["$2$"], "olympiadbench", "correct"),
        (r"\boxed{1} then \boxed{2", "1", None, "no_answer"),
        (r"\fbox{x=3}", "3", None, "correct"),
        (r"\fbox{3} or \boxed{4}", "3", None, "wrong"),
        ("it is 3", "3", None, "no_answer"),
        (r"\boxed{\tfrac12}", "0.5", None, "correct"),
        (r"\boxed{3/4}", r"\dfrac{3}{4}", None, "correct"),
        (r"\boxed{a/b}", "a/b", None, "correct"),
        (r"\boxed{\frac{ a/b }}", r"\frac{a/b}", None, "wrong"),
        (r"\boxed{5\text{ cm}\text{ or so}}", "5", None, "wrong"),
        (r"\boxed{.5^\circ}", "0.5", None, "correct"),
        ("#### 1,234.", "so\n#### 1234", "gsm8k", "correct"),
        ("So $$\\boxed{18}$$", "#### 18", "gsm8k", "wrong"),
        ("none", "#### 18", "gsm8k", "no_answer"),
    ],
)
def test_rules(response: str, gold: object, benchmark: str | None, verdict: str) -> None:
    assert exact_match(response, gold, benchmark).verdict == verdict


def test_strict_match_takes_the_first_line_of_its_form() -> None:
    text = "Final Answer: \\boxed{1,200}\nFinal Answer: \\boxed{7}"
    assert strict_match(text, "#### 1200").verdict == Verdict.correct
    assert strict_match("\\boxed{7}", "#### 7").verdict == Verdict.no_answer
