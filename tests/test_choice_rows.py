"""Rows of multiple choice: labels of their own, rows without an answer, and options that refer to their order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import micota as mc
from micota.data import problem_sets
from micota.errors import MicotaError
from micota.grading.choice import LETTERS


def asked(path: Path, row: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A row as a problem, read from a file of its own."""
    (path / "mine.jsonl").write_text(json.dumps({"question": "Which?"} | row) + "\n")
    spec = mc.problems(path / "mine.jsonl", **{"problem": "question", "choices": "options", **fields})
    return next(iter(problem_sets.read(spec)))


@pytest.mark.parametrize(
    ("labels", "texts", "answer", "right"),
    [
        (["A", "B", "C", "D"], ["w", "x", "y", "z"], "C", "y"),
        (["D", "C", "B", "A"], ["w", "x", "y", "z"], "D", "w"),
        (["1", "2", "3", "4"], ["w", "x", "y", "z"], "2", "x"),
        ([1, 2, 3, 4], ["w", "x", "y", "z"], 4, "z"),
        (["1", "2", "3", "4"], ["4", "3", "2", "1"], "1", "4"),
        (["A", "B", "C", "D"], ["w", "x", "y", "z"], "z", "z"),
        (["E", "F", "G"], ["w", "x", "y"], "(g)", "y"),
    ],
)
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_an_answer_is_looked_up_among_the_labels_of_a_row(
    labels: list[Any], texts: list[str], answer: Any, right: str, seed: int | None, tmp_path: Path
) -> None:
    row = {"options": {"text": texts, "label": labels}, "answer": answer}
    read = asked(tmp_path, row, **({} if seed is None else {"shuffle": seed}))
    assert read["choices"][LETTERS.index(read["answer"])] == right
    assert sorted(read["choices"]) == sorted(texts)


@pytest.mark.parametrize(
    ("labels", "answer", "says"),
    [
        (["E", "F", "G"], "A", "is neither a letter"),
        (["1", "2", "3"], "A", "is neither a letter"),
        (["A", "B", "C"], 0, "is neither a letter"),
        (["A", "A", "C"], "A", "has no label of its own"),
        (["A", "B"], "A", "has no label of its own"),
    ],
)
def test_labels_that_name_no_option_are_refused(labels: list[str], answer: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(MicotaError, match=says):
        asked(tmp_path, {"options": {"text": ["w", "x", "y"], "label": labels}, "answer": answer})


def test_no_answer_is_not_the_option_none(tmp_path: Path) -> None:
    row = {"options": ["All", "None", "Some"]}
    with pytest.raises(MicotaError, match=r"answer of row 1 .* None, is neither"):
        asked(tmp_path, row | {"answer": None})
    assert asked(tmp_path, row | {"answer": "None"})["answer"] == "B"


@pytest.mark.parametrize(
    "options",
    [
        ["2", "3", "All of the above"],
        ["2", "3", "none of the above"],
        ["2", "3", "Neither of the two above"],
        ["2", "3", "5", "Both A and B"],
        ["2", "3", "5", "A and C only"],
        ["2", "3", "5", "(A), (B) and (C)"],
        ["2", "3", "5", "Option B, doubled"],
        ["2", "3", "5", "B only"],
        ["A) 2", "B) 3", "C) 5"],
        ["A. 2", "B. 3", "C. 5"],
        ["(A) 2", "(B) 3", "(C) 5"],
    ],
)
def test_options_that_refer_to_their_order_are_not_shuffled(options: list[str], tmp_path: Path) -> None:
    row = {"options": options, "answer": "A"}
    assert asked(tmp_path, row)["choices"] == options
    with pytest.raises(MicotaError, match="refers to the order of the options") as caught:
        asked(tmp_path, row, shuffle=0)
    assert "leave `shuffle` out" in str(caught.value.fix)


def test_options_that_only_look_so_are_shuffled(tmp_path: Path) -> None:
    options = ["A. thaliana", "Vitamin A", "above 5 m", "None of these"]
    read = asked(tmp_path, {"options": options, "answer": "A"}, shuffle=0)
    assert sorted(read["choices"]) == sorted(options)


def test_all_of_the_above_stays_last_among_columns(tmp_path: Path) -> None:
    row = {"w": "All of the above", "x": "2", "y": "3", "z": "5", "answer": "All of the above"}
    for seed in range(5):
        read = asked(tmp_path, row, choices=["w", "x", "y", "z"], shuffle=seed)
        assert (read["answer"], read["choices"][3]) == ("D", "All of the above")
