"""A model that judges: what it reads, the verdicts in its replies, and how far it agrees with the rule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import World
from test_recipe import command

import micota as mc
from micota.errors import MicotaError
from micota.generation.fake_server import FakeServer
from micota.grading import judge_verdict
from micota.machine import MachineProfile, ServerConfig
from micota.report.files import write
from micota.report.results import Results
from micota.store.checked import StoreWarning
from micota.store.records import read_rows

RECIPE = """
name: judged
let:
  quiz: {problems: {source: ./quiz.jsonl}}
  picked: {distill: {from: endpoint:student, data: quiz, by: {judge: {model: endpoint:arbiter}}, prompt: "{problem}"}}
arms: {student: endpoint:student}
evaluate:
  models: [arms]
  data: [quiz]
  prompt: "{problem}"
  by: [semantic, {judge: {model: endpoint:arbiter, prompt: "Q {problem} G {gold} R {response} {left}"}}]
"""
QUIZ = {"one": "1", "two": "2", "three": "3", "four {gold}": "4", "five": "5"}
TEXTS = {
    "one": "\\boxed{1}",
    "two": "<think>\\boxed{7} G 9</think>the sum of one and one",  # what only a judge takes
    "three": "\\boxed{4}",
    "four {gold}": "\\boxed{4}",  # the judge does not say
    "five": "<think>never ends \\boxed{5}",
}
REPLIES = {
    "one": "<think>Verdict: wrong?</think>Same. Verdict: correct",
    "two": "**Verdict:** Correct.",
    "three": "At first sight Verdict: correct, but then\nVerdict: not correct",
    "four {gold}": "I cannot tell.",
}


def answer(message: str) -> str:
    if message in TEXTS:
        return TEXTS[message]
    return next(text for problem, text in REPLIES.items() if problem in message)


@pytest.fixture
def judged(world: World) -> World:
    world.write("quiz.jsonl", "".join(json.dumps({"problem": q, "answer": a}) + "\n" for q, a in QUIZ.items()))
    world.write("judged.yaml", RECIPE)
    return world


def test_a_judge_reads_question_gold_and_answer_and_its_verdict_counts(judged: World) -> None:
    with FakeServer(answer, model="student") as one, FakeServer(answer, model="arbiter") as two:
        servers = {"endpoint:student": ServerConfig(engine="openai", url=one.url, fake=True)}
        servers["endpoint:arbiter"] = ServerConfig(engine="openai", url=two.url, fake=True)
        ws = mc.Workspace(judged.folder / "store", machine=MachineProfile(servers=servers))
        recipe = mc.load(str(judged.folder / "judged.yaml"))
        rule, judge = (cell.spec for cell in recipe.evaluations)
        assert (rule.by, judge.by) == ("semantic", "judge")
        with pytest.warns(StoreWarning, match="1 of the judge's 4 replies hold no verdict.* 0 were cut"):
            verdicts = ws.make(judge)
        assert set(two.asked) == {
            "Q one G 1 R \\boxed{1} {left}",
            "Q two G 2 R the sum of one and one {left}",
            "Q three G 3 R \\boxed{4} {left}",
            "Q four {gold} G 4 R \\boxed{4} {left}",
        }
        keys = {row["key"]: row["problem"] for row in read_rows(ws.make(judge.problems).path / "rows.jsonl")}
        found = {keys[row["key"]]: row["verdict"] for row in read_rows(verdicts.path / "rows.jsonl")}
        expected = {"one": "correct", "two": "correct", "three": "wrong", "four {gold}": "unverifiable"}
        assert found == {**expected, "five": "no_answer"}
        about = {"with": "semantic", "share": 3 / 5, "only_judge": 1, "only_rule": 1}
        assert verdicts.facts["agreement"] == about
        results = ws.run(recipe)
        asked = sum(two.asked.values())
        ws.run(mc.load(str(judged.folder / "judged.yaml")))
        assert sum(two.asked.values()) == asked, "a second run asks for nothing"
        picked = {row["prompt"] for row in ws.make(recipe.named("picked")).rows()}
        assert picked == {"one", "two"}
        assert "Judges" in write(recipe, ws.store).read_text() and results is not None
        said = Results(recipe, ws.store).responses(scorer="judge").set_index("problem_text")["reply"]
        replies = {**REPLIES, "two": REPLIES["one"]}  # its response has the word
        assert {problem: said[problem] for problem in REPLIES} == replies and said.isna().sum() == 1
        assert Results(recipe, ws.store).responses(scorer="semantic")["reply"].isna().all()
        table = repr(Results(recipe, ws.store).table())
        assert "..." not in table and all(name in table for name in ("benchmark", "accuracy", "tokens", "fake"))
    again = mc.load(str(recipe.save(judged.folder / "again.yaml") or judged.folder / "again.yaml"))
    assert [cell.spec for cell in again.evaluations] == [cell.spec for cell in recipe.evaluations]
    assert again.named("picked") == recipe.named("picked")


MACHINE = "servers: {{endpoint:arbiter: {{engine: openai, url: '{url}', fake: true}}}}"


def test_a_file_of_responses_is_judged_as_in_the_recipe(judged: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judge of a recipe with its prompt; a model with the usual one; and what has no problem to read."""
    rows = [{"problem": q, "gold": QUIZ[q], "response": TEXTS[q]} for q in QUIZ]
    path = judged.write("rows.jsonl", "".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    recipe = RECIPE.replace("by: {judge: {model: endpoint:arbiter}}, ", "")
    judged.write("judged.yaml", recipe)
    monkeypatch.chdir(judged.folder)
    with FakeServer(answer, model="arbiter") as server:
        judged.write("mine.yaml", MACHINE.format(url=server.url))
        for by in ("judged.yaml", "endpoint:arbiter"):
            options = ["--judge", by, "--machine", "./mine.yaml", "--out", f"{by[:8]}.jsonl"]
            assert command(monkeypatch, "grade", str(path), *options) == 0
        found = [read_rows(judged.folder / f"{name}.jsonl") for name in ("judged.y", "endpoint")]
        verdicts = ["correct", "correct", "wrong", "unverifiable", "no_answer", "correct"]
        assert [row["judge"] for row in found[0]] == verdicts
        assert [row["semantic"] for row in found[0]][:3] == ["correct", "wrong", "wrong"]
        assert [row["judge"] for row in found[1]] == [row["judge"] for row in found[0]]
        assert sum(server.asked.values()) == 8, "a text that two rows give is asked once"
        assert "Q one G 1 R \\boxed{1} {left}" in server.asked
        judged.write("rows.jsonl", json.dumps({**rows[0], "response": "1 \ud800"}) + "\n")
        assert command(monkeypatch, "grade", str(path), *options) == 0, "half a character is none in a file"
        judged.write("rows.jsonl", json.dumps({"gold": "1", "response": "1"}) + "\n")
        assert command(monkeypatch, "grade", str(path), "--judge", "endpoint:arbiter", "--out", "none.jsonl") == 2
    assert not (judged.folder / "none.jsonl").exists()


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("Verdict: correct", "correct"),
        ("verdict - WRONG", "wrong"),
        ("Verdict: incorrect", "wrong"),
        ("Verdict: not wrong", "correct"),
        ("Verdict:\n\n**correct**", "correct"),
        ("Verdict: correct. No: Verdict: wrong", "wrong"),
        ("<think>Verdict: correct", "unverifiable"),
        ("<think>Verdict: correct</think> Verdict: wrong", "wrong"),
        ("It is correct", "unverifiable"),
        ("Verdict: correctly put, it is nothing", "unverifiable"),
        ("verdict " * 100_000, "unverifiable"),
        ("", "unverifiable"),
    ],
)
def test_the_last_verdict_behind_a_thought_is_read(reply: str, verdict: str) -> None:
    assert judge_verdict(reply).verdict == verdict


def test_a_judge_is_no_word_and_draws_no_samples(judged: World) -> None:
    answers = mc.generate("some/model", mc.problems(judged.folder / "quiz.jsonl"), sampling={"temperature": 1.0})
    with pytest.raises(MicotaError, match="a judge is a model"):
        mc.verify(answers, by="judge")
    with pytest.raises(MicotaError, match=r"^verify: the prompt has no \{response\}"):
        mc.verify(answers, by=mc.judge("some/model", prompt="{problem}"))
    quiz = mc.problems(judged.folder / "quiz.jsonl")
    with pytest.raises(MicotaError, match="does not take a judge"):
        mc.distill(
            "some/model", quiz, by=mc.judge("some/judge"), until="verified", at_most=2, sampling={"temperature": 1.0}
        )


def test_a_grader_of_ones_own_that_is_misspelt_is_found(judged: World, tmp_path: Path) -> None:
    from micota.checks.recipes import inspect

    judged.write("mine.py", "def grade(response, gold):\n    return True\n")
    judged.write("judged.yaml", RECIPE.replace("by: [semantic,", "by: [mine:graed,"))
    with pytest.raises(MicotaError, match=r"no function 'graed'") as error:
        inspect(mc.load(str(judged.folder / "judged.yaml")).targets)
    assert "grade" in str(error.value)
