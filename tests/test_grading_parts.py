"""Many answers worked through by several processes, each of which reads its part of a pool, as by one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from micota.errors import MicotaError, Stopped
from micota.generation.answer_rows import answer_rows
from micota.grading import Verdict
from micota.specs import Generate, Problems, Prompt, Source, Verify
from micota.store.completion_grades import grade_rows
from micota.store.pool import Pool, Writer
from micota.store.pool_parts import MANY, PART
from micota.store.records import Completion, text_key

SOURCE = Source(ref="lab:teacher", revision="1")
ASKED = Generate(model=SOURCE, problems=Problems(source=SOURCE, choices="options"), prompt=Prompt(template="{problem}"))
N = MANY + PART // 2


def answers() -> list[Completion]:
    """Every third is wrong, every fifth has two lines of one key in the pools, every seventh stops within a thought."""
    texts = [f"<think>{i}</think>\\boxed{{{i if i % 3 else i + 1}}}" if i % 7 else f"<think>{i}" for i in range(N)]
    return [Completion(text_key(str(i)), i % 2, str(i), text, "stop", 1, 1, "e") for i, text in enumerate(texts)]


@pytest.fixture(scope="module")
def pools(tmp_path_factory: pytest.TempPathFactory) -> list[Pool]:
    """Two pools, of which the first has other texts for some keys."""
    folder, rows = tmp_path_factory.mktemp("pools"), answers()
    others = [Completion(one.key, one.sample, one.prompt, "\\boxed{no}", "stop", 1, 1, "e") for one in rows[::5]]
    for name, part in (("a", others), ("b", rows[: N // 2]), ("b", rows[N // 2 :])):
        with Writer(folder / name, {}) as writer:
            writer.write(part)
    return [Pool(folder / "a"), Pool(folder / "b")]


def grades(pools: list[Pool], workers: int, by: str = "semantic", **more: Any) -> list[Any]:
    rows = [{"key": one.key, "sample": one.sample, "sha": one.sha} for one in answers()]
    golds = {text_key(str(i)): ("A", str(i), "no") if by == "choice" else str(i) for i in range(N)}
    spec = Verify(completions=ASKED, problems=ASKED.problems, by=by)
    seen: list[int] = []
    made = grade_rows(pools, rows, golds, spec, workers, more.get("progress", seen.append))
    assert seen[-1:] in ([N], []) and seen == sorted(seen)
    return made


@pytest.mark.parametrize("by", ["semantic", "exact_match", "choice"])
def test_three_processes_grade_as_one(pools: list[Pool], by: str) -> None:
    alone = grades(pools, 1, by)
    assert grades(pools, 3, by) == alone
    if by == "semantic":
        expected = ["no_answer" if not i % 7 else "correct" if i % 3 else "wrong" for i in range(N)]
        assert [one.verdict for one in alone] == list(map(Verdict, expected))


def test_a_text_that_is_gone_is_the_message_of_one_process(pools: list[Pool], tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for file in pools[1].folder.glob("*.jsonl"):
        lines = file.read_bytes().splitlines(keepends=True)
        (tmp_path / "b" / file.name).write_bytes(b"".join(lines[:-1]))
    with pytest.raises(MicotaError, match="is not in its pool"):
        grades([pools[0], Pool(tmp_path / "b")], 2)


def test_files_that_were_merged_meanwhile_are_read_all_the_same(pools: list[Pool], tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    first, second = sorted(pools[1].folder.glob("*.jsonl"))
    (tmp_path / "b" / "1.jsonl").write_bytes(first.read_bytes())
    (tmp_path / "b" / "2.jsonl").write_bytes(second.read_bytes())
    seen = Pool(tmp_path / "b")
    (tmp_path / "b" / "1.jsonl").write_bytes(first.read_bytes() + second.read_bytes())
    (tmp_path / "b" / "2.jsonl").unlink()
    assert grades([seen], 2) == grades([pools[1]], 1)


def test_a_request_to_stop_ends_it_between_two_parts(pools: list[Pool]) -> None:
    def stop(done: int) -> None:
        raise Stopped(str(done))

    with pytest.raises(Stopped, match=str(PART)):
        grades(pools, 2, progress=stop)


def test_three_processes_describe_answers_as_one(pools: list[Pool]) -> None:
    keys = [(one.key, one.sample) for one in answers()][::-1]
    made = answer_rows(pools[1], keys, 3)
    assert made == answer_rows(pools[1], keys, 1)
    assert [row["sha"] for row, _ in made] == [one.sha for one in answers()][::-1]
    assert sum(row.get("unanswered", False) for row, _ in made) == len(range(0, N, 7))
