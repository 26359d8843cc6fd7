"""Data files as people have them: values stay as they stand, and what cannot be read is one message with its line."""

from __future__ import annotations

import bz2
import gzip
import json
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from conftest import World

from micota.data.dialogue import Turn, reader
from micota.data.rows_of_files import FileRows
from micota.errors import MicotaError, StageFailed
from micota.store.records import read_rows

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
import data as hostile
import isolated


def rows(path: Path, content: bytes) -> list[dict[str, Any]]:
    path.write_bytes(content)
    return list(FileRows(path))


KEPT: dict[str, tuple[str, bytes, list[dict[str, Any]]]] = {
    "whole numbers beside others": ("a.jsonl", b'{"a": 18}\n{"a": 2.5}\n', [{"a": 18}, {"a": 2.5}]),
    "many digits": ("a.jsonl", b'{"a": 12345678901234567890123}', [{"a": 12345678901234567890123}]),
    "digits that a float loses": ("a.jsonl", b'{"a": 0.12345678901234567890}', [{"a": "0.12345678901234567890"}]),
    "a number as written": ("a.jsonl", b'{"a": 1.50}\n{"a": 1e5}', [{"a": "1.50"}, {"a": "1e5"}]),
    "dates": (
        "a.jsonl",
        b'{"a": "2024-05-17"}\n{"a": "2024-05-17T10:00:00Z"}',
        [{"a": "2024-05-17"}, {"a": "2024-05-17T10:00:00Z"}],
    ),
    "other keys in each row": ("a.jsonl", b'{"a": 1}\n\n{"b": [2]}', [{"a": 1, "b": None}, {"a": None, "b": [2]}]),
    "text beside numbers": ("a.jsonl", b'{"a": "x"}\n{"a": 1}\n{"a": null}', [{"a": "x"}, {"a": 1}, {"a": None}]),
    "a byte order mark": ("a.jsonl", b'\xef\xbb\xbf{"a": 1}\r\n', [{"a": 1}]),
    "a lone surrogate": (
        "a.jsonl",
        b'{"a": "x\\ud835 y", "b": "\\ud83d\\ude00"}',
        [{"a": "x\ufffd y", "b": "\U0001f600"}],
    ),
    "a list": ("a.json", b' [{"a": 1},\n {"a": 2}]', [{"a": 1}, {"a": 2}]),
    "cells stay texts": (
        "a.csv",
        b"a,b\n012,1.50\nNA,\nnull,None\n",
        [{"a": "012", "b": "1.50"}, {"a": "NA", "b": ""}, {"a": "null", "b": "None"}],
    ),
    "cells over lines": ("a.csv", b'\xef\xbb\xbfa,b\n"1,\n2","say ""x"""\n\n', [{"a": "1,\n2", "b": 'say "x"'}]),
}


@pytest.mark.parametrize("name", KEPT)
def test_values_stay_as_they_stand(name: str, tmp_path: Path) -> None:
    file, content, wanted = KEPT[name]
    assert rows(tmp_path / file, content) == wanted


BROKEN = {
    "nothing": ("a.jsonl", b"", "is empty"),
    "blank lines": ("a.jsonl", b"\n \n", "is empty"),
    "NUL": ("a.jsonl", b'{"a": 1}\n' + b"\0" * 5_000, "NUL bytes", "line 2"),
    "a cut line": ("a.jsonl", b'{"a": 1}\n{"a": ', "no row of JSON", "line 2"),
    "a list in a line": ("a.jsonl", b'{"a": 1}\n[1]\n', "no JSON object: [1]", "line 2"),
    "a list of numbers": ("a.json", b"[1, 2]", "no JSON object: 1", "entry 1"),
    "deep brackets": ("a.jsonl", b'{"a": 1}\n{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too deep", "line 2"),
    "deep objects": ("a.jsonl", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "too deep", "line 1"),
    "a number without end": ("a.jsonl", b'{"a": ' + b"9" * 9_999 + b"}", "no row of JSON", "line 1"),
    "NaN": ("a.jsonl", b'{"a": NaN}', "NaN is no value", "line 1"),
    "latin-1": ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}', "not in UTF-8", "line 2"),
    "latin-1 in CSV": ("a.csv", b"a,b\nd\xe9,1\n", "not in UTF-8"),
    "UTF-16": ("a.jsonl", '{"a": 1}'.encode("utf-16"), "UTF-16"),
    "UTF-16 in CSV": ("a.csv", "a,b\n1,2".encode("utf-16"), "UTF-16"),
    "gzip": ("a.jsonl", gzip.compress(b'{"a": 1}'), "packed by gzip"),
    "bzip2": ("a.csv", bz2.compress(b"a,b\n1,2"), "packed by bzip2"),
    "ZIP": ("a.json", b"PK\3\4" + b"\0" * 90, "a ZIP archive"),
    "Parquet": ("a.jsonl", b"PAR1" + b"\0" * 90, "a Parquet file"),
    "no Parquet": ("a.parquet", b"x" * 90, "no Parquet file"),
    "a cut Parquet": ("a.parquet", b"PAR1" + b"\0" * 20 + b"PAR1", "no Parquet file"),
    "an empty CSV": ("a.csv", b"", "is empty"),
    "a head alone": ("a.csv", b"a,b\n", "is empty"),
    "too many cells": ("a.csv", b"a,b\n1,2\n1,2,3\n", "3 cells, the head 2", "line 3"),
    "too few cells": ("a.csv", b"a,b\n1\n", "1 cells, the head 2", "line 2"),
    "a doubled head": ("a.csv", b"a,a\n1,2\n", "a column stands twice"),
    "an open quote": ("a.csv", b'a,b\n1,"2\n', "no row of CSV", "line 2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_one_message_with_its_line(name: str, tmp_path: Path) -> None:
    file, content, *says = BROKEN[name]
    with pytest.raises(MicotaError) as refused:
        rows(tmp_path / file, content)
    assert [part for part in says if part not in str(refused.value)] == [], refused.value
    assert len(str(refused.value)) < 600


def test_parquet_is_read_row_by_row(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"problem": ["a"] * 10**6, "answer": [1] * 10**6})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    found = FileRows(tmp_path / "a.parquet")
    assert (len(found), found.column_names) == (10**6, ["problem", "answer"])
    assert next(iter(found)) == {"problem": "a", "answer": 1}


PROBLEMS = {
    "null": '{"problem": "a", "answer": null}',
    "empty": '{"problem": "a", "answer": " "}',
    "a mapping": '{"problem": "a", "answer": {"x": 1}}',
    "an empty list": '{"problem": "a", "answer": []}',
    "no problem": '{"problem": {"x": 1}, "answer": "1"}',
    "a blank problem": '{"problem": " ", "answer": "1"}',
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_without_text_or_answer_is_refused_by_its_row(name: str, world: World) -> None:
    world.write("train.jsonl", f'{{"problem": "b", "answer": 4}}\n{PROBLEMS[name]}\n')
    with pytest.raises(StageFailed, match="row 2 has no"):
        world.run(only="train-set")


def test_reference_answers_stay_as_they_stand(world: World) -> None:
    golds = [18, 2.5, "012", "2024-05-17", 12345678901234567890123, ["4", "5"]]
    world.write(
        "train.jsonl", "".join(json.dumps({"problem": f"p{i}", "answer": g}) + "\n" for i, g in enumerate(golds))
    )
    world.run(only="train-set")
    found = {row["problem"]: row["answer"] for row in read_rows(world.files("train-set") / "rows.jsonl")}
    assert [found[f"p{i}"] for i in range(len(golds))] == golds


def read_one(row: dict[str, Any]) -> Turn:
    return reader(list(row), None, None, "mine.jsonl")(row, 1)


def chat(**answer: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", **answer}]}


TURNS: dict[str, tuple[dict[str, Any], Turn]] = {
    "reasoning": (chat(content="4", reasoning="t"), Turn("q", "<think>\nt\n</think>\n\n4")),
    "thinking": (chat(content="4", thinking="t"), Turn("q", "<think>\nt\n</think>\n\n4")),
    "reasoning_content": (chat(content="4", reasoning_content="t"), Turn("q", "<think>\nt\n</think>\n\n4")),
    "a thought in both": (
        chat(content="<think>t</think>\n\n4", reasoning_content="t"),
        Turn("q", "<think>t</think>\n\n4"),
    ),
    "a thought that is null": (chat(content="4", reasoning=None), Turn("q", "4")),
    "a thought alone": (chat(content=None, reasoning_content="t"), Turn("q", "")),
    "a thought before nothing": (chat(content=" ", reasoning="t"), Turn("q", " ")),
    "parts": (chat(content=[{"type": "text", "text": "4"}, {"type": "text", "text": "!"}]), Turn("q", "4!")),
    "weight 0": (chat(content="4", weight=0), Turn("q", "4", None, False)),
    "weight 1": (chat(content="4", weight=1.0), Turn("q", "4")),
    "train false": (chat(content="4", train=False), Turn("q", "4", None, False)),
    "weight of a row": ({"prompt": "q", "response": "4", "weight": 0}, Turn("q", "4", None, False)),
    "system beside a chat": (chat(content="4") | {"system": "s"}, Turn("q", "4", "s")),
    "system null beside a chat": (chat(content="4") | {"system": None}, Turn("q", "4")),
    "system beside alpaca": ({"system": "s", "instruction": "q", "input": "", "output": "4"}, Turn("q", "4", "s")),
    "system_prompt": ({"system_prompt": "s", "prompt": "q", "response": "4"}, Turn("q", "4", "s")),
    "an empty history": ({"instruction": "q", "output": "4", "history": []}, Turn("q", "4")),
    "a history that is null": ({"instruction": "q", "output": "4", "history": None}, Turn("q", "4")),
}


@pytest.mark.parametrize("name", TURNS)
def test_what_stands_beside_a_response_is_kept(name: str) -> None:
    row, turn = TURNS[name]
    assert read_one(row) == turn


LOST = {
    "a history": ({"instruction": "q", "output": "4", "history": [["a", "b"]]}, "'history' would be lost"),
    "tools": (chat(content="4") | {"tools": [{"name": "x"}]}, "'tools' would be lost"),
    "a thought beside a pair": ({"prompt": "q", "response": "4", "reasoning": "t"}, "'reasoning' would be lost"),
    "two systems": (
        {"messages": [{"role": "system", "content": "a"}, *chat(content="4")["messages"]], "system": "b"},
        "two system messages",
    ),
    "half a weight": (chat(content="4", weight=0.5), "its weight is 0.5"),
    "a call": (chat(content="", tool_calls=[{"id": 1}]), "no text"),
    "a picture": (chat(content=[{"type": "image_url"}]), "no text"),
}


@pytest.mark.parametrize("name", LOST)
def test_what_would_be_lost_is_refused(name: str) -> None:
    row, says = LOST[name]
    with pytest.raises(MicotaError, match=f"row 1: .*{says}"):
        read_one(row)


def test_columns_that_are_named_leave_out_the_others() -> None:
    read = reader(["q", "a", "reasoning"], ("q", "a"), None, "mine.jsonl")
    assert read({"q": "q", "a": "4", "reasoning": "t"}, 1) == Turn("q", "4")


def test_hostile_data_ends_in_messages() -> None:
    ends, wrong = isolated.faults(hostile.cases(25, Random(5)))
    assert wrong == []
    assert ends["refused"] > 5 and ends["accepted"] > 2
