"""Golds of the five benchmarks and of MATH 12K: understood, accepted when rewritten, rejected when changed.

The identical-string rule is off throughout. `MICOTA_LONG=1` draws 20,000 of each instead of 2,000.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from rewrites import PERTURBATIONS, REWRITES, changes

from micota.grading import Verdict
from micota.grading.answers import Text
from micota.grading.reading import read
from micota.grading.semantic import gold_text, judge

COUNT = 20_000 if os.environ.get("MICOTA_LONG") else 2_000
SEED = 20


@pytest.fixture(scope="module")
def golds(request: pytest.FixtureRequest) -> list[str]:
    folder = Path(request.getfixturevalue("shared")) / "data"
    found = []
    for name in ("aime24", "amc23", "olympiadbench", "math500", "gsm8k", "math12k"):
        for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found.append(gold_text(row["final_answer"] if name == "olympiadbench" else row["answer"], name))
    return found


def test_golds_are_understood_and_grade_themselves(golds: list[str]) -> None:
    texts = [gold for gold in golds if isinstance(read(gold)[0], Text)]
    assert len(texts) <= 0.02 * len(golds), texts
    own = [gold for gold in set(golds) if gold and judge(gold, gold, identical=False).verdict != Verdict.correct]
    assert len(own) <= 0.001 * len(golds), own


def test_rewrites_that_keep_the_meaning_are_accepted(golds: list[str]) -> None:
    drawn = changes(sorted(set(golds)), REWRITES, COUNT, SEED)
    missed = [case for case in drawn if judge(case[1], case[0], identical=False).verdict != Verdict.correct]
    assert len(missed) <= 0.005 * COUNT, missed[:20]


def test_perturbations_are_rejected(golds: list[str]) -> None:
    drawn = changes(sorted(set(golds)), PERTURBATIONS, COUNT, SEED)
    missed = [case for case in drawn if judge(case[1], case[0], identical=False).verdict == Verdict.correct]
    assert len(missed) <= 0.001 * COUNT, missed[:20]
