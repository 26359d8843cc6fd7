"""Asking an engine and keeping its answers: the same batches after an interruption, every answer once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from micota.generation.collection import collect, missing
from micota.generation.scripted import Scripted
from micota.machine import EngineConfig
from micota.specs import Generate, Problems, Source
from micota.store.pool import Pool
from micota.store.records import Completion, Request, text_key

SOURCE = Source(ref="x", revision="y")
REQUESTS = [Request(text_key(text), 0, text) for text in ("ddddd", "a", "cccc", "bb", "eeeeee")]


class Counting(Scripted):
    """The scripted engine, which notes the batches that it answers."""

    def __init__(self, folder: Path, batch: int | None) -> None:
        script = folder / "script.jsonl"
        script.write_text(json.dumps({"problem": "*", "text": "4"}) + "\n")
        spec = Generate(model=SOURCE, problems=Problems(source=SOURCE))
        super().__init__(spec, EngineConfig(engine="scripted", script=str(script)))
        self.batch = batch
        self.batches: list[str] = []

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        self.batches.append(" ".join(request.prompt for request in requests))
        return super().answer(requests)


def test_an_interrupted_collection_continues_with_the_same_batches(tmp_path: Path) -> None:
    engine, pool = Counting(tmp_path, 2), Pool(tmp_path / "pool")
    steps = collect(engine, REQUESTS, pool, {"what": "a test"}, tmp_path / "plan.json")
    assert [answer.prompt for answer in next(steps).new] == ["a", "bb"]
    steps.close()  # type: ignore[attr-defined]
    pool.refresh()
    left = missing(REQUESTS, pool)
    assert [request.prompt for request in left] == ["ddddd", "cccc", "eeeeee"]
    rest = list(collect(engine, left, pool, {}, tmp_path / "plan.json"))
    assert engine.batches == ["a bb", "cccc ddddd", "eeeeee"]
    assert [(step.done, step.total) for step in rest] == [(4, 5), (5, 5)]
    pool.refresh()
    assert missing(REQUESTS, pool) == []
    assert pool.about == {"what": "a test"}


@pytest.mark.parametrize("batch", [3, None])
def test_what_the_pool_has_is_not_written_again(tmp_path: Path, batch: int | None) -> None:
    """A batch is answered whole, since greedy text can depend on it, and only what is missing is written."""
    engine, pool = Counting(tmp_path, batch), Pool(tmp_path / "pool")
    list(collect(engine, REQUESTS[:1], pool, {}, tmp_path / "first.json"))
    pool.refresh()
    new = [answer for step in collect(engine, REQUESTS, pool, {}, tmp_path / "plan.json") for answer in step.new]
    assert sorted(answer.prompt for answer in new) == ["a", "bb", "cccc", "eeeeee"]
    lines = [line for path in pool.folder.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == 5
