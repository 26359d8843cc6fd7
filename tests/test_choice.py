"""Multiple choice: 600 answers, half of them right; problem sets with options, and the benchmarks that have them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Quiet

import micota as mc
from micota.benchmarks import BENCHMARKS, PAPER
from micota.checks import recipes as inspection
from micota.data import problem_sets
from micota.errors import MicotaError
from micota.grading import Item, Verdict, grade_responses
from micota.grading.choice import LETTERS
from micota.machine import GenerateConfig, MachineProfile
from micota.run.execution import Run
from micota.store.artifacts import Store

DATA: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "data" / "choice.yaml").read_text(encoding="utf-8"))
SETS = [(one["right"], list(map(str, one["options"]))) for one in DATA["sets"]]


def said(phrase: str, letter: str, options: list[str]) -> str:
    """A phrase that chooses a letter; M is the letter behind it."""
    at = LETTERS.index(letter)
    other = (at + 1) % len(options)
    words = {"L": letter, "l": letter.lower(), "T": options[at], "M": LETTERS[other], "U": options[other]}
    return phrase.format(**words, A="A", B="B", a=options[0], b=options[1])


def cases() -> list[tuple[str, str, list[str], Verdict]]:
    """(response, right letter, options, verdict)."""
    made = []
    for phrase in DATA["choices"]:
        for right, options in SETS:
            wrong = LETTERS[(LETTERS.index(right) + len(options) // 2) % len(options)]
            made.append((said(phrase, right, options), right, options, Verdict.correct))
            made.append((said(phrase, wrong, options), right, options, Verdict.wrong))
    return made


def test_there_are_six_hundred_half_of_them_negative() -> None:
    assert Counter(verdict for *_, verdict in cases()) == {Verdict.correct: 300, Verdict.wrong: 300}
    assert len(set(DATA["choices"])) == 60


def test_six_hundred_answers_get_the_right_verdict() -> None:
    made = cases()
    grades = grade_responses([Item(text, (right, *options)) for text, right, options, _ in made], by="choice")
    missed = [
        (text, right, grade)
        for (text, right, _, verdict), grade in zip(made, grades, strict=True)
        if grade.verdict != verdict
    ]
    assert missed == []


@pytest.mark.parametrize("verdict", DATA["never"])
@pytest.mark.parametrize(("right", "options"), SETS)
def test_what_chooses_nothing_is_never_right(verdict: str, right: str, options: list[str]) -> None:
    texts = [said(phrase, right, options) for phrase in DATA["never"][verdict]]
    grades = grade_responses([Item(text, (right, *options)) for text in texts], by="choice")
    assert [(text, grade) for text, grade in zip(texts, grades, strict=True) if grade.verdict != verdict] == []


READINGS = [
    (list(map(str, group["options"])), text, "" if letter == "none" else letter)
    for group in DATA["readings"]
    for letter, texts in group.items()
    if letter != "options"
    for text in texts
]


@pytest.mark.parametrize(("options", "text", "chosen"), READINGS)
def test_one_option_at_most_is_right(options: list[str], text: str, chosen: str) -> None:
    """Whichever option is right, no response is right but that which chooses it."""
    letters = LETTERS[: len(options)]
    grades = grade_responses([Item(text, (right, *options)) for right in letters], by="choice")
    assert [right for right, grade in zip(letters, grades, strict=True) if grade.verdict == "correct"] == [*chosen]


QUESTIONS: list[dict[str, Any]] = [
    {"question": f"What is {n}+{n}?", "options": [str(2 * n), str(2 * n + 1), "neither"], "answer": "A"}
    for n in range(1, 9)
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def asked(path: Path, **fields: Any) -> list[dict[str, Any]]:
    spec = mc.problems(path, **{"problem": "question", "choices": "options", **fields})
    return list(problem_sets.read(spec))


def test_options_stand_below_the_question_and_the_answer_is_a_letter(tmp_path: Path) -> None:
    first = asked(write(tmp_path / "mine.jsonl", QUESTIONS))[0]
    assert first["problem"] == "What is 1+1?\n\n(A) 2\n(B) 3\n(C) neither"
    assert (first["answer"], first["choices"]) == ("A", ["2", "3", "neither"])


@pytest.mark.parametrize("answer", ["A", "(a)", "A.", 0, "2"])
def test_an_answer_is_a_letter_a_number_or_a_text(answer: Any, tmp_path: Path) -> None:
    row = QUESTIONS[0] | {"answer": answer, "options": ["2", "3", "four"]}
    assert asked(write(tmp_path / "mine.jsonl", [row]))[0]["answer"] == "A"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"answer": "D"}, "is neither a letter, a number nor the text"),
        ({"answer": 3}, "is neither a letter, a number nor the text"),
        ({"answer": "6"}, "is neither a letter, a number nor the text"),
        ({"answer": "B", "options": ["B", "C", "D"]}, "is one option's letter or number and another's text"),
        ({"options": ["only one"]}, "has no list of options"),
        ({"options": []}, "has no list of options"),
    ],
)
def test_a_row_without_a_right_option_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(MicotaError, match=says):
        asked(write(tmp_path / "mine.jsonl", [QUESTIONS[1] | changes]))


def test_a_shuffle_is_seeded_keeps_the_right_option_and_is_identity(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", QUESTIONS)
    plain, first, again, other = asked(path), asked(path, shuffle=0), asked(path, shuffle=0), asked(path, shuffle=1)
    assert first == again != other and {row["answer"] for row in first} > {"A"}
    for before, row in zip(plain, first, strict=True):
        assert sorted(row["choices"]) == sorted(before["choices"])
        assert row["choices"][LETTERS.index(row["answer"])] == before["choices"][0]
        assert f"({row['answer']}) {before['choices'][0]}\n" in row["problem"] + "\n"
    reordered = write(tmp_path / "reordered.jsonl", QUESTIONS[::-1])
    assert asked(reordered, shuffle=0)[::-1] == first  # it depends on the question, not on its place
    fields = {"problem": "question", "choices": "options"}
    specs = [mc.problems(path, **fields), *(mc.problems(path, **fields, shuffle=seed) for seed in (0, 1))]
    assert len({spec.digest for spec in specs}) == 3
    with pytest.raises(MicotaError, match="name their column with `choices`"):
        mc.problems(path, problem="question", shuffle=0)


def test_columns_with_one_option_each_may_leave_some_out(tmp_path: Path) -> None:
    rows = [
        {"question": "Which?", "w": " yes ", "x": "no", "y": None, "z": "maybe", "answer": "D"},
        {"question": "Whose?", "w": "mine", "x": "", "y": "yours", "z": "ours", "answer": "yours"},
    ]
    read = asked(write(tmp_path / "mine.jsonl", rows), choices=["w", "x", "y", "z"])
    assert [(row["answer"], row["choices"]) for row in read] == [
        ("C", ["yes", "no", "maybe"]),
        ("B", ["mine", "yours", "ours"]),
    ]


@pytest.mark.parametrize("name", ["gpqa_diamond", "mmlu_pro"])
def test_rows_as_the_benchmarks_have_them(name: str, tmp_path: Path) -> None:
    """Rows of our own with the columns that the data sets' cards name."""
    gpqa = {"Question": "Why?", "Correct Answer": "so\n", **{f"Incorrect Answer {n}": f"not {n}" for n in (1, 2, 3)}}
    pro = {"question": "Why?", "options": [*(f"not {n}" for n in range(9)), "so"], "answer": "J", "answer_index": 9}
    path = write(tmp_path / "rows.jsonl", [gpqa if name == "gpqa_diamond" else pro])
    (row,) = problem_sets.read(mc.problems(path, benchmark=name))
    assert row["choices"][LETTERS.index(row["answer"])] == "so"
    assert len(row["choices"]) == (4 if name == "gpqa_diamond" else 10)


def test_benchmarks_bring_their_options_prompt_and_grader() -> None:
    made = mc.Recipe(arms={"base": "lab:student"}, evaluate={"data": ["gpqa_diamond", "mmlu_pro", "aime25", "minerva"]})
    by = [(one.data, one.spec.by) for one in made.evaluations]
    both = [(name, by) for name in ("aime25", "minerva") for by in ("semantic", "exact_match")]
    assert by == [("gpqa_diamond", "choice"), ("mmlu_pro", "choice"), *both]
    first = made.evaluations[0].spec
    assert "letter" in first.completions.prompt.template and first.problems.shuffle == 0
    assert list(BENCHMARKS)[:5] == list(PAPER)
    text = mc.problems("lab:arithmetic", n=3, split="test", decontaminate="report")
    assert [one.benchmark for one in text.against] == list(PAPER)


def test_choice_needs_options_and_a_typo_is_no_grader() -> None:
    world = mc.problems("lab:arithmetic", n=3, split="test")
    answers = mc.generate("lab:student", world)
    with pytest.raises(MicotaError, match="choice grades options, and lab:arithmetic has none"):
        mc.verify(answers, by="choice")
    fields: dict[str, Any] = {"until": "verified", "at_most": 2, "sampling": {"temperature": 1.0}}
    for by in ("choices", "semantics"):
        with pytest.raises(MicotaError, match=f"'{by}' is no grader"):
            mc.distill("lab:student", world, by=by, **fields)


RECIPE = """
name: options
let:
  mine: {problems: {source: ./mine.jsonl, problem: question, choices: options, shuffle: 3}}
arms: {base: "endpoint:fake"}
evaluate: {models: [base], data: [mine], prompt: "{problem}", sampling: {max_tokens: 20}}
"""


def test_a_recipe_with_options_runs_and_reads_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.jsonl", QUESTIONS)
    (tmp_path / "options.yaml").write_text(RECIPE)
    rows = asked(tmp_path / "mine.jsonl", shuffle=3)
    answers = [f"So \\boxed{{\\text{{({row['answer']})}}}}" for row in rows[:4]] + ["I do not know."] + ["(Z)"] * 3
    script = [{"problem": row["problem"], "text": text} for row, text in zip(rows, answers, strict=True)]
    write(tmp_path / "script.jsonl", script)
    recipe = mc.load("options.yaml")
    store = Store(tmp_path / "store")
    place = GenerateConfig(engine="scripted", script=str(tmp_path / "script.jsonl"))
    Run(store, MachineProfile(generate=place), Quiet()).go(recipe.targets)
    (one,) = recipe.evaluations
    manifest = store.manifest(one.spec)
    assert manifest is not None
    assert manifest.facts["verdicts"] == {"correct": 4, "no_answer": 1, "wrong": 3}
    recipe.save(tmp_path / "again.yaml")
    assert {one.digest for one in mc.load("again.yaml").targets} == {one.digest for one in recipe.targets}


@pytest.mark.parametrize("until", ["", ", until: verified, at_most: 2"])
def test_a_misspelt_function_of_a_grader_is_found(until: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.jsonl", QUESTIONS)
    (tmp_path / "mygrader.py").write_text("def grade(response, gold):\n    return response in (gold, noted)\n")
    text = f"""
name: own
let:
  mine: {{problems: {{source: ./mine.jsonl, problem: question}}}}
  data: {{distill: {{from: "endpoint:fake", data: mine, sampling: {{temperature: 1.0}}, by: "mygrader:NAME"{until}}}}}
arms: {{tuned: {{train: {{base: "lab:student", data: data}}}}}}
"""
    for name in ("grade", "grad", "noted"):
        (tmp_path / "own.yaml").write_text(text.replace("NAME", name))
        targets = mc.load("own.yaml").targets
        if name == "grade":
            assert any("its file defines it" in line for line in inspection.inspect(targets)[0])
            continue
        with pytest.raises(MicotaError, match=f"has no function '{name}'") as caught:
            inspection.inspect(targets)
        assert "grade" in str(caught.value.fix)


def test_hostile_texts_end() -> None:
    """Runs of what a pattern may take twice; this test would not end if one were read in quadratic time."""
    runs = [
        "(",
        "*",
        " ",
        "\n",
        "A, ",
        "so, ",
        "final ",
        "answer ",
        "is ",
        ", and ",
        "\\text{",
        "that is ",
        "I choose ",
        "B is correct. ",
        "the answer is C is ",
        "answer: ",
        "C as well as ",
    ]
    texts = [run * (100_000 // len(run)) + tail for run in runs for tail in ("", "x", "C")]
    grades = grade_responses([Item(text, ("C", "9", "10", "12")) for text in texts], by="choice")
    assert {grade.verdict for grade in grades} <= set(Verdict)
