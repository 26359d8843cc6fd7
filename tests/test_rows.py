"""Training data that was made elsewhere: its forms, what is refused by row, and that stages take it like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import World, kinds

from micota.data.dialogue import Turn, reader
from micota.errors import MicotaError, StageFailed
from micota.report import funnel
from micota.report.results import Results
from micota.store.pool import find
from micota.store.records import Completion, read_rows

RECIPE = """
name: own
let:
  student: ./models/student
  mine: {rows: {source: ./mine.jsonl}}
  both: {mix: [{data: mine, share: 0.5}, {data: ./more.jsonl, share: 0.5}]}
arms: {strong: {train: {base: student, data: both, precision: float32, batch: 2, cutoff: 64, max_steps: 1}}}
measure: {bpc: {models: [student], data: [mine], precision: float32}}
"""


def chat(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in turns]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def own(world: World) -> World:
    world.write("recipe.yaml", RECIPE)
    world.write("mine.jsonl", lines([{"prompt": f"{i}+1", "response": f"{i}+1={i + 1}"} for i in range(4)]))
    more = [{"messages": chat(("user", f"{i}*2"), ("assistant", f"{i}*2={2 * i}"))} for i in range(4)]
    world.write("more.jsonl", lines(more))
    return world


def learnt(world: World, name: str) -> list[Completion]:
    manifest = world.store.manifest(world.load().named(name))
    assert manifest is not None
    pools = [world.store.pool(pool) for pool in manifest.pools]
    return list(find(pools, read_rows(world.store.files(manifest) / "rows.jsonl")))


def test_a_recipe_trains_mixes_and_measures_them_and_a_second_run_executes_nothing(own: World) -> None:
    assert kinds(own.run(only="strong")) == ["mix", "rows", "rows", "train"]
    assert kinds(own.run()) == ["bpc"]
    assert own.run(only="strong").executed == []
    assert own.run().executed == []
    assert {one.target for one in learnt(own, "mine")} == {f"{i}+1={i + 1}" for i in range(4)}
    assert len(learnt(own, "both")) == 8
    results = Results(own.load("measure={}"), own.store)
    (table,) = funnel.data(results)
    assert [cell.text for cell in table.rows[0][:4]] == ["mine", "made elsewhere", "–", "4"]
    assert funnel.trainings(results) and funnel.mixtures(results)


def test_duplicates_and_empty_responses_are_counted_and_one_prompt_may_have_several(own: World) -> None:
    rows = [{"problem": "1+1", "text": text} for text in ("1+1=2", "1+1=2", "", "2", "  ")]
    own.write("mine.jsonl", lines([*rows, {"problem": "2+2", "text": None}]))
    own.run(only="mine")
    manifest = own.store.manifest(own.load().named("mine"))
    assert manifest is not None
    assert manifest.facts == {"answers": 6, "kept": 2, "dropped": {"duplicate": 1, "empty": 3}}
    assert [(one.sample, one.text) for one in learnt(own, "mine")] == [(0, "1+1=2"), (1, "2")]
    again = 'let.mine.rows.template="{problem}="'
    own.run(again, only="mine")
    manifest = own.store.manifest(own.load(again).named("mine"))
    assert manifest is not None
    assert len({row["key"] for row in read_rows(own.store.files(manifest) / "rows.jsonl")}) == 1
    assert (
        next(
            iter(
                own.store.pool(manifest.pools[0]).read(
                    [(read_rows(own.store.files(manifest) / "rows.jsonl")[0]["key"], 0)]
                )
            )
        ).prompt
        == "1+1="
    )


@pytest.mark.parametrize(
    ("row", "turn"),
    [
        ({"prompt": "p", "completion": "r", "n": 1}, Turn("p", "r")),
        ({"instruction": "Add.", "input": "1 and 2", "output": "3"}, Turn("Add.\n\n1 and 2", "3")),
        ({"instruction": "Add.", "input": "", "output": "3"}, Turn("Add.", "3")),
        ({"messages": chat(("system", "s"), ("user", "p"), ("assistant", "r"))}, Turn("p", "r", "s")),
        ({"conversations": [{"from": "human", "value": "p"}, {"from": "gpt", "value": "r"}]}, Turn("p", "r")),
        (
            {
                "messages": [
                    {"role": "user", "content": "p"},
                    {"role": "assistant", "content": "r", "reasoning_content": "t"},
                ]
            },
            Turn("p", "<think>\nt\n</think>\n\nr"),
        ),
    ],
)
def test_the_usual_forms_are_known(row: dict[str, Any], turn: Turn) -> None:
    assert reader(list(row), None, None, "x")(row, 1) == turn


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"question": "p", "answer": "r"}, "no columns of training data; it has question, answer"),
        ({"prompt": "p", "response": ["r"]}, "row 7: its column 'response' is no text"),
        ({"messages": chat(("user", "p"))}, "row 7: the roles of its chat are user"),
        (
            {"messages": chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))},
            "row 7: the roles of its chat are",
        ),
        ({"messages": "text"}, "row 7: it holds no chat"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "row 7: a message has no known role"),
    ],
)
def test_what_cannot_be_learnt_is_refused_by_its_row(row: dict[str, Any], said: str) -> None:
    with pytest.raises(MicotaError) as error:
        reader(list(row), None, None, "x")(row, 7)
    assert said in str(error.value)


def test_named_columns_are_taken_and_missing_ones_are_told_with_those_that_are_there() -> None:
    assert reader(["q", "a"], ("q", "a"), None, "x")({"q": "p", "a": "r"}, 1) == Turn("p", "r")
    with pytest.raises(MicotaError, match="mine has no column 'question'; it has q, a"):
        reader(["q", "a"], ("question", "a"), None, "mine")


def test_a_system_message_must_be_that_of_the_training(own: World) -> None:
    own.write("mine.jsonl", lines([{"messages": chat(("system", "Be brief."), ("user", "1"), ("assistant", "2"))}]))
    with pytest.raises(StageFailed, match=r"row 1 of ./mine.jsonl has the system message 'Be brief.', the recipe none"):
        own.run(only="mine")
    named = ('let.mine.rows.system="Be brief."', "let.both.mix=[{data: mine, share: 1.0}]")
    with pytest.raises(MicotaError, match=r"the system message 'Be brief\.', the training None"):
        own.load(*named)
    assert kinds(own.run(*named, 'arms.strong.train.system="Be brief."')) == ["bpc", "rows"]


def test_columns_that_contradict_each_other_are_refused(own: World) -> None:
    for sets in (["let.mine.rows.prompt=q"], ["let.mine.rows.template=x"]):
        with pytest.raises(MicotaError):
            own.load(*sets)
    with pytest.raises(MicotaError, match="there is no file"):
        own.load("let.mine.rows.source=./nowhere.jsonl")


def test_a_file_of_any_table_format_is_read(own: World, tmp_path: Path) -> None:
    own.write("mine.csv", "prompt,response\n1+1,1+1=2\n")
    assert kinds(own.run("let.mine.rows.source=./mine.csv", only="mine")) == ["rows"]


def test_what_was_cut_off_is_owed_again_and_nothing_is_doubled(own: World) -> None:
    own.run(only="mine")
    before = {(one.key, one.sample, one.target) for one in learnt(own, "mine")}
    manifest = own.store.manifest(own.load().named("mine"))
    assert manifest is not None
    shutil.rmtree(own.store.root / "artifacts" / manifest.id)  # as if the run had been killed before its end
    (written,) = own.store.pool_folder(manifest.pools[0]).glob("*.jsonl")
    written.write_bytes(written.read_bytes()[:-30])
    assert kinds(own.run(only="mine")) == ["rows"]
    assert {(one.key, one.sample, one.target) for one in learnt(own, "mine")} == before
    assert len(own.store.pool(manifest.pools[0])) == 4
    assert manifest.content == getattr(own.store.manifest(own.load().named("mine")), "content", None)
