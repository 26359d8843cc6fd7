"""Grading from the command line, golds that grade themselves, a grader of one's own, and what problem sets share."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import World, kinds
from test_recipe import command

from micota.data.overlap import shared as shared_text
from micota.grading import DIED, Item, grade_responses
from micota.report.model_rows import models
from micota.report.results import Results
from micota.specs import sha
from micota.store.records import read_rows


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def graded(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_keep_their_order_and_fields_and_get_both_grades(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[Any] = [
        {"response": r"so \boxed{\frac{1}{2}}", "gold": "0.5", "mine": [1]},
        {"response": r"so \boxed{50,625}", "gold": "50625"},
        {"response": r"so \boxed{4}", "gold": "5"},
        {"response": "it is 7, I th", "gold": "7", "finish_reason": "length"},
    ]
    out = tmp_path / "out.jsonl"
    code = command(monkeypatch, "grade", str(lines(tmp_path / "rows.jsonl", rows)), "--out", str(out))
    assert code == 0
    got = graded(out)
    assert [row["exact_match"] for row in got] == [1, 0, 0, 0]
    assert [row["semantic"] for row in got] == ["correct", "correct", "wrong", "no_answer"]
    assert got[0]["mine"] == [1]
    assert all(row["reason"] for row in got)
    said = capsys.readouterr().out
    assert "25.0 ± 25.0 %" in said  # sqrt(p (1 - p) / (n - 1))
    assert "50.0 ± 28.9 %" in said
    assert "Where the graders disagree" in said


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "it is not JSON"),
        ('{"gold": "1"}', "it has no text in `response`"),
        ('{"response": "1"}', "neither `benchmark` with `index` nor an answer in `gold`"),
        ('{"response": "1", "benchmark": "math50", "index": 0}', "did you mean 'math500'?"),
    ],
)
def test_a_row_that_cannot_be_graded_is_named_and_nothing_is_written(
    row: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"response": "1", "gold": "1"}\n' + row + "\n")
    code = command(monkeypatch, "grade", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out.jsonl"))
    said = capsys.readouterr().err
    assert (code, "line 2" in said, says in said) == (2, True, True), said
    assert not (tmp_path / "out.jsonl").exists()


def test_the_reference_answer_that_was_used_is_the_one_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"response": "\\boxed{0}", "answer": "0", "gold": "99"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    out = tmp_path / "out.jsonl"
    assert command(monkeypatch, "grade", str(tmp_path / "rows.jsonl"), "--answer", "answer", "--out", str(out)) == 0
    assert {key: json.loads(out.read_text())[key] for key in ("gold", "semantic")} == {
        "gold": "0",
        "semantic": "correct",
    }


def test_samples_of_the_harness_are_graded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doc = {"question": "?", "answer": "2 + 2 = 4\n#### 4"}
    rows = [{"doc_id": 0, "doc": doc, "target": doc["answer"], "resps": [["It makes 4."]], "exact_match": 0.0}]
    path = lines(tmp_path / "samples_gsm8k_2026.jsonl", rows)
    assert command(monkeypatch, "grade", str(path), "--out", str(tmp_path / "out.jsonl")) == 0
    (row,) = graded(tmp_path / "out.jsonl")
    assert (row["exact_match"], row["strict_match"], row["semantic"]) == (1, 0, "correct")


def test_multiple_choice_is_graded_by_the_options_that_a_row_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options of a row in its order, the right one by letter, number or text; of a benchmark in micota's order."""
    from micota.data import problem_sets
    from micota.specs import Problems
    from micota.store.resolution import local

    names = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
    question = {"Question": "Largest?", **dict(zip(names, ["nine", "one", "two", "three"], strict=True))}
    lines(tmp_path / "gpqa_diamond.jsonl", [question])
    source = local("./gpqa_diamond.jsonl", "dataset", tmp_path)
    spec = Problems(source=source, problem="Question", answer=names[0], choices=names, shuffle=0)
    (own,) = problem_sets.read(spec)
    options, said = ["9", "10", "12"], {"problem": own["problem"], "benchmark": "gpqa_diamond", "index": 0}
    rows = [
        {"response": r"so \boxed{C}", "gold": "C", "choices": options},
        {"response": "The answer is 10", "gold": 1, "choices": options},
        {"response": r"\boxed{B}", "gold": "12", "choices": options},
        {**said, "response": f"\\boxed{{{own['answer']}}}"},
        {**said, "response": r"\boxed{nine}"},
        {"response": r"\boxed{4}", "gold": "4"},
    ]
    path, out = lines(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl"
    assert command(monkeypatch, "grade", str(path), "--out", str(out), "--data-dir", str(tmp_path)) == 0
    found = graded(out)
    assert [row.get("choice") for row in found] == ["correct", "correct", "wrong", "correct", "correct", None]
    assert [row.get("exact_match") for row in found] == [None] * 5 + [1]
    assert "semantic, choice" in capsys.readouterr().out
    for row, says in (
        ({**said, "problem": "Largest?", "response": "A"}, "does not show the options of gpqa_diamond"),
        ({"response": "A", "gold": "D", "choices": options}, "neither a letter"),
        ({"response": "A", "gold": "A", "choices": "9, 10"}, "has no list of options"),
    ):
        bad = lines(tmp_path / "bad.jsonl", [row])
        arguments = ("--out", str(tmp_path / "none.jsonl"), "--data-dir", str(tmp_path))
        assert command(monkeypatch, "grade", str(bad), *arguments) == 2
        assert says in capsys.readouterr().err


def test_every_gold_of_the_benchmarks_grades_itself_or_is_listed(
    shared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "check", "--benchmarks", "--data-dir", str(shared / "data")) == 0
    assert "reference answers that a grader rejects" in capsys.readouterr().out


OWN = """
def last_word(response, gold):
    return response.split()[-1] == gold
"""


def test_a_grader_of_ones_own_is_used_and_its_file_is_identity(world: World) -> None:
    (world.folder / "mine.py").write_text(OWN)
    by = ("let.long-cot.distil.by=mine:last_word", "let.long-cot.distil.keep=all")
    world.run(*by, only="long-cot")
    verdicts = world.load(*by).named("long-cot").verdicts  # type: ignore[attr-defined]
    manifest = world.store.manifest(verdicts)
    assert manifest is not None
    assert manifest.facts["verdicts"] == {"wrong": 8}
    (world.folder / "mine.py").write_text(OWN.replace("== gold", "!= gold"))
    assert kinds(world.run(*by, only="long-cot")) == ["select", "verify"]


def test_problems_shared_with_another_set_are_listed_or_dropped(world: World) -> None:
    mixed = [f"What is {i} plus {i} if nothing else is said about it at all, dear reader?" for i in range(4)]
    rows = [{"problem": text, "answer": "1"} for text in mixed]
    lines(world.folder / "train.jsonl", rows)
    lines(world.folder / "test.jsonl", [{"problem": rows[0]["problem"].upper() + "!", "answer": "1"}, rows[3]])
    for word, left in (("report", 4), ("drop", 2)):
        sets = (f"let.train-set.problems.decontaminate={word}", "let.train-set.problems.against=[test-set]")
        world.run(*sets, only="train-set")
        manifest = world.store.manifest(world.load(*sets).named("train-set"))
        assert manifest is not None
        pairs = read_rows(world.store.files(manifest) / "overlap.jsonl")
        assert [pair["how"] for pair in pairs] == ["exact", "exact"]
        assert len(read_rows(world.store.files(manifest) / "rows.jsonl")) == left
        assert manifest.facts["in_other_sets"] == 2


def test_a_run_of_thirteen_words_is_shared_text() -> None:
    long = "one two three four five six seven eight nine ten eleven twelve thirteen"
    others = {"set": {"b": f"before {long} after", "c": long.replace("seven", "7")}}
    (pair,) = shared_text({"a": f"Another start: {long.title()}, and another end."}, others)
    assert (pair.key, pair.other_key, pair.how) == ("a", "b", "13-gram")


def test_decontamination_is_against_the_five_benchmarks_by_default(world: World) -> None:
    spec = world.load("let.train-set.problems.decontaminate=report").named("train-set")
    assert [one.benchmark for one in spec.against] == ["aime24", "amc23", "olympiadbench", "math500", "gsm8k"]  # type: ignore[attr-defined]


def test_a_benchmark_brings_its_prompt_stops_and_limit_and_both_scorers(world: World) -> None:
    rows = [{"problem": "What is 20 plus 5?", "answer": "025"}, {"problem": "What is 2 plus 5?", "answer": "007"}]
    lines(world.folder / "aime.jsonl", rows)
    answers = [
        {"problem": rows[0]["problem"], "text": r"\boxed{25}"},
        {"problem": "*", "text": r"\boxed{\dfrac{14}{2}}"},
    ]
    lines(world.folder / "answers.jsonl", answers)
    text = world.recipe_file.read_text().replace(
        "arms:", "  aime: {problems: {source: ./aime.jsonl, benchmark: aime24}}\narms:"
    )
    world.recipe_file.write_text(text[: text.index("evaluate:")] + "evaluate: {models: [teacher], data: [aime]}\n")
    recipe = world.load()
    asked = recipe.evaluations[0].spec.completions
    assert asked.prompt.template.startswith("Solve the following math problem.")
    assert (asked.sampling.stop, asked.sampling.max_tokens, asked.precision) == (("Problem:",), 16_000, "bfloat16")
    world.run()
    (model,) = models(Results(recipe, world.store))
    assert [model.estimate(["aime"], "correct", by).value for by in ("semantic", "exact_match")] == [1.0, 0.5]


def test_sections_of_evaluate_have_prompts_of_their_own(world: World) -> None:
    text = world.recipe_file.read_text()
    first = "{models: [arms], data: [test-set], by: semantic}"
    second = '{models: [teacher], data: [test-set], prompt: "Q {problem}"}'
    world.recipe_file.write_text(text[: text.index("evaluate:")] + f"evaluate: [{first}, {second}]\n")
    templates = {one.role: one.spec.completions.prompt.template for one in world.load().evaluations}
    assert templates["teacher"] == "Q {problem}"
    scorers = {
        model.word: [one.spec.by for one, _ in model.cells] for model in models(Results(world.load(), world.store))
    }
    assert scorers["micota"] == ["semantic"]
    assert scorers["teacher"] == ["semantic", "exact_match"]
    assert templates["micota"].endswith("\\boxed{}.")


def test_a_verdict_that_an_accident_left_open_is_given_again_by_the_next_run(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.run(only="long-cot")
    select = world.load().named("long-cot")
    verdicts = select.verdicts  # type: ignore[attr-defined]
    before = {spec.id: world.store.manifest(spec) for spec in (select, verdicts)}
    path = world.store.root / "artifacts" / verdicts.id / "files" / "rows.jsonl"
    rows = read_rows(path)
    spoilt = {**rows[0], "verdict": "unverifiable", "reason": DIED}
    path.write_text("".join(json.dumps(row) + "\n" for row in [spoilt, *rows[1:]]))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    left = before[verdicts.id]
    assert left is not None
    facts = {**left.facts, "accidents": 1}
    files = {"rows.jsonl": {"size": path.stat().st_size, "sha256": digest}}
    world.store.write(replace(left, facts=facts, files=files, content=sha({"rows.jsonl": digest})))  # type: ignore[arg-type]
    made = before[select.id]
    assert made is not None
    key = world.store.inputs_key(select)
    world.store.write(replace(made, facts={**made.facts, "accidents": 1}, inputs_key=key))
    assert "the next run grades these again" in str(verdicts.warning({"accidents": 1}))
    assert sorted(kinds(world.run(only="long-cot"))) == ["select", "verify"]
    for spec in (select, verdicts):
        manifest, old = world.store.manifest(spec), before[spec.id]
        assert manifest is not None
        assert old is not None
        assert (manifest.content, manifest.facts) == (old.content, old.facts)
    assert kinds(world.run(only="long-cot")) == []


def test_verdicts_name_the_revision_of_the_grader_and_older_ones_are_told_of(world: World) -> None:
    by = "let.long-cot.distil.by=semantic"
    world.run(by, only="long-cot")
    verdicts = world.load(by).named("long-cot").verdicts  # type: ignore[attr-defined]
    manifest = world.store.manifest(verdicts)
    assert manifest is not None
    assert verdicts.warning(manifest.facts) is None
    assert "older semantic grader" in str(verdicts.warning({}))


def test_what_a_file_may_look_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed, with a byte order mark, with `truncated` as a word."""
    text = json.dumps({"response": "the answer is 4", "gold": "4", "truncated": "false"}) + "\n"
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())
    for name in ("rows.jsonl.gz", "rows.jsonl"):
        out = tmp_path / "new" / "folder" / f"{name}.out"
        assert command(monkeypatch, "grade", str(tmp_path / name), "--out", str(out)) == 0
        assert graded(out)[0]["semantic"] == "correct"


THOUGHTS = [
    ("<think>so \\boxed{4}, but", "no_answer"),  # never closed
    ("<think>so \\boxed{4}</think>", "no_answer"),  # nothing follows
    ("<think>so \\boxed{4}</think>\n\n  ", "no_answer"),
    ("[THINK]so \\boxed{4}", "no_answer"),
    ("<think>a</think>b<think>so \\boxed{4}", "no_answer"),
    ("<thinking>Final Answer: \\boxed{4}", "no_answer"),
    ("<think>perhaps 5</think>so \\boxed{4}", "correct"),
    ("<think>perhaps \\boxed{4}</think>so \\boxed{5}", "wrong"),
    ("a thought: so \\boxed{4}", "correct"),
]
"""Responses, and what every grader says of them for the reference answer 4."""


def test_a_thought_without_an_answer_is_none_for_every_grader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for benchmark in ({"gold": "4"}, {"benchmark": "gsm8k", "index": 0}):
        (tmp_path / "gsm8k.jsonl").write_text('{"question": "2+2", "answer": "#### 4"}\n')
        rows: list[Any] = [{"response": text, **benchmark} for text, _ in THOUGHTS]
        given = ["grade", str(lines(tmp_path / "rows.jsonl", rows)), "--out", str(tmp_path / "out.jsonl")]
        assert command(monkeypatch, *given, "--data-dir", str(tmp_path)) == 0
        got = graded(tmp_path / "out.jsonl")
        assert [row["semantic"] for row in got] == [verdict for _, verdict in THOUGHTS]
        assert [row["exact_match"] for row in got] == [int(verdict == "correct") for _, verdict in THOUGHTS]
        assert sum(row.get("strict_match", 0) for row in got) == 0
    items = [Item(text, "4") for text, _ in THOUGHTS]
    seen: list[str] = []
    for by in ("exact_match", "semantic"):
        assert [str(grade.verdict) for grade in grade_responses(items, by)] == [verdict for _, verdict in THOUGHTS]
    grade_responses(items, lambda response, gold: not seen.append(response))  # type: ignore[func-returns-value]
    assert seen == [text if verdict != "no_answer" else "" for text, verdict in THOUGHTS]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"response": "caf\xe9", "gold": "4"}\n', "it is not in UTF-8"),
        (b"\x1f\x8b\x08\x00cut", "cannot be unpacked"),
        (b"[" * 100_000, "it is not JSON"),
        (None, "is a folder"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    content: bytes | None,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "rows.jsonl"
    path.mkdir() if content is None else path.write_bytes(content)
    assert command(monkeypatch, "grade", str(path), "--out", str(tmp_path / "out.jsonl")) == 2
    assert says in capsys.readouterr().err


def test_a_terminal_of_another_encoding_loses_signs_and_nothing_else(tmp_path: Path) -> None:
    rows: list[Any] = [{"response": rf"\boxed{{{k}}}", "gold": "4"} for k in (4, 5)]
    path = lines(tmp_path / "rows.jsonl", rows)
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "micota", "grade", str(path), "--out", str(tmp_path / "o")],
        capture_output=True,
        text=True,
        env=ascii_only,
    )
    assert (done.returncode, "50.0 ? 50.0 %" in done.stdout) == (0, True), done.stderr


def test_rows_are_counted_by_a_column_and_once_for_all_filters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doc = {"question": "?", "answer": "thus\n#### 4"}
    rows: list[Any] = [
        {
            "doc_id": k,
            "doc": doc,
            "target": doc["answer"],
            "resps": [[f"It is {4 + k}."]],
            "filter": name,
            "level": "L" + str(k),
        }
        for name in ("strict-match", "flexible-extract")
        for k in range(3)
    ]
    path, out = lines(tmp_path / "samples_gsm8k_1.jsonl", rows), tmp_path / "out.jsonl"
    assert command(monkeypatch, "grade", str(path), "--out", str(out), "--by", "level") == 0
    assert len(graded(out)) == 6
    table = [line.split("│")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("│ L")]
    assert [[cell.strip() for cell in row] for row in table] == [["L0", "1"], ["L1", "1"], ["L2", "1"]]
    assert command(monkeypatch, "grade", str(path), "--out", str(out), "--by", "lvl") == 2
    assert "no row has a column 'lvl'" in capsys.readouterr().err


def test_check_finds_golds_that_can_never_match_and_a_misspelt_grader(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows: list[Any] = [{"problem": f"{k}+1", "answer": f"so \\boxed{{{k + 1}}}"} for k in range(4)]
    lines(world.folder / "train.jsonl", [*rows, {"problem": "?", "answer": ""}])
    recipe = str(world.recipe_file)
    command(monkeypatch, "check", recipe)
    said = " ".join(capsys.readouterr().out.split())
    assert "5 of the first 5 reference answers can never be met by exact_match" in said
    command(
        monkeypatch,
        "check",
        recipe,
        "--set",
        "let.long-cot.distil.by=semantic",
        "--set",
        "let.mid-cot.distil.by=semantic",
    )
    assert "1 of the first 5 reference answers can never be met by semantic, such as row 5" in " ".join(
        capsys.readouterr().out.split()
    )
    (world.folder / "mine.py").write_text(OWN)
    assert command(monkeypatch, "check", recipe, "--set", "let.long-cot.distil.by=mine:last_wrod") == 2
    assert "did you mean 'last_word'?" in capsys.readouterr().err


@pytest.mark.parametrize("gold", [None, "", [], {"value": 4}, float("nan")])
def test_a_row_without_a_reference_answer_is_refused(
    gold: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = {"doc_id": 0, "doc": {"question": "q"}, "target": gold, "resps": [["4"]]}
    for row in ({"response": "\\boxed{4}", "gold": gold}, sample, {**sample, "doc": "no object"}):
        lines(tmp_path / "rows.jsonl", [{"response": "4", "gold": "4"}, row])
        assert command(monkeypatch, "grade", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out")) == 2
        assert "row 2 cannot be graded" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_columns_are_named_by_the_same_words_in_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines(tmp_path / "rows.jsonl", [{"said": "\\boxed{4}", "answer": "4"}])
    columns = ("--response", "said", "--answer", "answer")
    assert command(monkeypatch, "grade", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out"), *columns) == 0
    (row,) = graded(tmp_path / "out")
    assert (row["semantic"], row["gold"], row["answer"]) == ("correct", "4", "4")
    words = {
        "generate": {"--problem", "--answer"},
        "distill": {"--problem", "--answer"},
        "train": {"--prompt", "--response", "--messages"},
        "measure": {"--prompt", "--response", "--messages"},
        "grade": {"--response", "--answer"},
    }
    capsys.readouterr()
    for name, options in words.items():
        assert command(monkeypatch, name, "--help") == 0
        assert options <= set(re.findall(r"--\w+", capsys.readouterr().out))
