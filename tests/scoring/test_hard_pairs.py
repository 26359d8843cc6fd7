"""The committed hard pairs: written by hand, half of them negatives, hard for string comparison."""

from __future__ import annotations

import json
from pathlib import Path

from micota.grading import exact_match, semantic

PAIRS = [
    json.loads(line) for line in (Path(__file__).parent / "hard_pairs.jsonl").read_text(encoding="utf-8").splitlines()
]


def boxed(answer: str) -> str:
    return f"Hence the answer is $\\boxed{{{answer}}}$."


def test_the_file_is_large_balanced_and_without_repeats() -> None:
    assert len(PAIRS) >= 1000
    assert len({(pair["answer"], pair["gold"]) for pair in PAIRS}) == len(PAIRS)
    assert all(pair["why"] and set(pair) == {"answer", "gold", "verdict", "why"} for pair in PAIRS)
    negatives = sum(pair["verdict"] == "wrong" for pair in PAIRS)
    assert 0.48 <= negatives / len(PAIRS) <= 0.55


def test_semantic_is_right_on_them() -> None:
    missed = [pair for pair in PAIRS if semantic(boxed(pair["answer"]), pair["gold"]).verdict != pair["verdict"]]
    assert len(missed) <= 0.01 * len(PAIRS), missed


def test_exact_match_is_not() -> None:
    right = sum(
        (exact_match(boxed(pair["answer"]), pair["gold"]).verdict == "correct") == (pair["verdict"] == "correct")
        for pair in PAIRS
    )
    assert right <= 0.60 * len(PAIRS)
