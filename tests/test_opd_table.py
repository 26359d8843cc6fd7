"""A teacher's likeliest tokens in a table: the loss by hand, and that with the teacher; each response scored once."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import World
from test_opd import distilled as distilled
from test_opd import made
from test_processes import prefix, same
from transformers import AutoModelForCausalLM

from micota.errors import MicotaError, StageFailed
from micota.specs import OnPolicyDistillation
from micota.store.checked import StoreWarning
from micota.training import head_logs
from micota.training.head_logs import Head
from micota.training.table_trainer import table_loss
from micota.training.teacher_scoring import targets
from micota.training.teacher_table import Targets, TeacherTable, row_key

CHANGES = {"precision": "float16", "temperature": 0.5, "top_k": 27, "trust_remote_code": True}
WHOLE = ("arms.rows.opd.top_k=28", "defaults.opd.max_tokens=20")


def scored(world: World) -> dict[str, float]:
    """When each file of targets was written."""
    return {path.name: path.stat().st_mtime for path in world.folder.glob("store/targets/*/*.arrow")}


def test_the_loss_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five tokens at 1/2, 1/4, 1/8, 1/16, 1/16; of the teacher's even five the first two are kept."""
    halves = torch.tensor([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16], dtype=torch.float64)
    expected = 0.2 * (math.log(0.2 * 2) + math.log(0.2 * 4)) + 0.6 * math.log(0.6 * 4)
    for logits in (head_logs.LOGITS, 5):
        monkeypatch.setattr(head_logs, "LOGITS", logits)
        states = halves.log().expand(1, 3, 5).clone().requires_grad_()
        head = Head(states, torch.eye(5, dtype=torch.float64), None, (1.0, None), 1.0)
        ids = torch.tensor([[0, 1]] * 2)
        loss, entropy = table_loss(
            head, torch.tensor([0, 2]), ids, torch.full((2, 2), 0.2).log(), torch.tensor([0.6] * 2).log()
        )
        assert loss.item() == pytest.approx(2 * expected, rel=1e-6)
        assert entropy.item() == pytest.approx(2 * 15 / 8 * math.log(2), rel=1e-6)
        (gradient,) = torch.autograd.grad(loss, states)
        p, q = halves, torch.tensor([0.2, 0.2, *(0.6 * halves[2:] / halves[2:].sum())], dtype=torch.float64)
        torch.testing.assert_close(gradient[0, 0], p - q, rtol=1e-5, atol=1e-7)
        assert not gradient[0, 1].any()


def test_the_whole_vocabulary_gives_the_exact_divergence(models: Path, tmp_path: Path) -> None:
    teacher, student = (
        AutoModelForCausalLM.from_pretrained(models / name, dtype=torch.float32) for name in ("teacher", "student")
    )
    prompt, response = [1, 5, 6], [7, 8, 9, 2]
    with torch.no_grad():
        p, q = (
            (model(torch.tensor([prompt + response])).logits[0, 2:-1] / 0.7).log_softmax(-1)
            for model in (student, teacher)
        )
        states = student.base_model(input_ids=torch.tensor([prompt + response])).last_hidden_state[:, 2:-1]
    head = Head.of(student, states, 0.7)
    table = TeacherTable(tmp_path, 28)
    key = row_key(prompt, response)
    assert list(table.add(targets(teacher, [(key, prompt, response)], 28, 0.7, 28))) == [1]
    table.refresh()
    found = [torch.from_numpy(one.copy()) for one in table.read(key, 4)]
    loss, _ = table_loss(head, torch.arange(4), *found)
    assert loss.item() == pytest.approx(float((q.exp() * (q - p)).sum()), abs=1e-6)
    some = next(targets(teacher, [(key, prompt, response)], 5, 0.7, 28))[1]
    np.testing.assert_allclose(np.exp(some.logs).sum(1) + np.exp(some.rest), 1, rtol=1e-6)
    assert (some.ids == q.topk(5).indices.numpy()).all()


def test_a_table_is_read_as_it_was_written_and_a_damaged_file_has_no_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("micota.training.teacher_table.ENTRIES", 8)
    table = TeacherTable(tmp_path, 2)
    rows = [
        (f"{n}", Targets(np.full((n, 2), n, np.int32), np.full((n, 2), -n, np.float32), np.full(n, -9, np.float32)))
        for n in range(1, 6)
    ]
    assert list(table.add(iter(rows))) == [3, 4, 5]
    again = TeacherTable(tmp_path, 2)
    for n, (key, row) in enumerate(rows, 1):
        assert key in again and all((one == two).all() for one, two in zip(again.read(key, n), row, strict=True))
    with pytest.raises(MicotaError, match="has 3 tokens, and the response has 4"):
        again.read("3", 4)
    first = next(tmp_path.glob("1-*"))
    first.write_bytes(first.read_bytes()[:200])
    with pytest.warns(StoreWarning, match="is not read, its responses are scored again"):
        left = TeacherTable(tmp_path, 2)
    assert "1" not in left and "3" not in left and "4" in left


def test_a_changed_bit_of_a_row_is_noticed_and_other_rows_are_read(tmp_path: Path) -> None:
    row = Targets(
        np.array([[70001, 70002]], np.int32), np.array([[-0.51, -1.53]], np.float32), np.array([-2.07], np.float32)
    )
    table = TeacherTable(tmp_path, 2)
    assert list(table.add([("a", row), ("b", row)])) == [2]
    (path,) = tmp_path.glob("*.arrow")
    whole = path.read_bytes()
    for part in row:
        data = bytearray(whole)
        data[whole.index(part.tobytes()) + 2] ^= 1  # the first is that of row a
        path.write_bytes(data)
        again = TeacherTable(tmp_path, 2)
        with pytest.raises(MicotaError, match=r"a row of .* is damaged"):
            again.read("a", 1)
        assert (again.read("b", 1).rest == row.rest).all()


@pytest.mark.parametrize("damage", [b"", b"0" * 3000, b"ARROW1\0\0" + b"\xff" * 900])
def test_a_file_that_is_no_table_has_no_rows(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "0-1-1.arrow").write_bytes(damage)
    with pytest.warns(StoreWarning, match="is not read"):
        assert "0" not in TeacherTable(tmp_path, 2)


def test_a_teacher_that_gives_nan_leaves_no_rows(models: Path) -> None:
    """Its half precision overflows: that would be kept for every later run."""
    teacher = AutoModelForCausalLM.from_pretrained(models / "teacher", dtype=torch.float32)
    teacher.model.norm.weight.data[0] = torch.inf
    with pytest.raises(MicotaError, match="the teacher gives NaN"):
        list(targets(teacher, [("a", [1, 5], [6, 2])], 5, 1.0, 28))


def test_tables_are_apart_by_all_that_changes_their_rows_and_rows_by_their_boundary(distilled: World) -> None:
    spec = distilled.load(*WHOLE).named("rows")
    assert isinstance(spec, OnPolicyDistillation)
    others = [spec.changed(**{name: value}) for name, value in CHANGES.items()]
    ids = {
        spec.targets("a", 28),
        spec.targets("b", 28),
        spec.targets("a", 29),
        *(one.targets("a", 28) for one in others),
    }
    assert len(ids) == 3 + len(CHANGES)
    assert spec.changed(lr=0.5, seed=3, steps=9).targets("a", 28) == spec.targets("a", 28)
    rows = [([1, 2], [3]), ([1], [2, 3]), ([1, 23], []), ([12], [3]), ([1, 2, 3], [])]
    assert len({row_key(*row) for row in rows}) == len(rows)


def test_what_the_teacher_cannot_read_is_not_learnt(distilled: World) -> None:
    """A teacher of the student's tokenizer with fewer positions: rows beyond them are dropped and counted."""
    rows = [json.loads(line) for line in (distilled.folder / "answers.jsonl").read_text().splitlines()]
    rows[3]["text"] = "1+1=2;" * 10 + rows[3]["text"]
    (distilled.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = distilled.folder / "models" / "teacher" / "config.json"
    sets = (WHOLE[0], "defaults.opd.max_tokens=400", "let.chains.distil.from=./models/ta")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 64}))
    _, facts = made(distilled, *sets, only="rows")
    assert (facts["examples"], facts["dropped"]) == (7, {"too_long": 1})


def test_it_ends_as_with_the_teacher_and_a_second_training_asks_no_teacher(distilled: World) -> None:
    exact, facts = made(distilled, WHOLE[1], only="rows")
    weights, others = made(distilled, *WHOLE, only="rows")
    assert [loss for _, loss in others["loss"]] == pytest.approx([loss for _, loss in facts["loss"]], abs=2e-5)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, exact[name], rtol=1e-3, atol=1e-4, msg=name)
    assert others["scored"] == 8
    files = scored(distilled)
    _, more = made(distilled, *WHOLE, "defaults.opd.lr=1e-4", "defaults.opd.steps=5", only="rows", micro_batch=2)
    assert more["scored"] == 0 and scored(distilled) == files
    _, few = made(distilled, "arms.rows.opd.top_k=3", WHOLE[1], only="rows")
    assert few["scored"] == 8 and 0 < few["loss"][0][1] < facts["loss"][0][1]


REFUSED = {
    "arms.opd.opd.top_k=5": "top_k keeps the teacher's tokens for responses that are there",
    "arms.rows.opd.on_policy=0.5": "give data, on_policy: 0",
    "arms.rows.opd.divergence=reverse_kl": "not reverse_kl: divergence: forward_kl, or leave top_k out",
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_cannot_be_looked_up_is_refused(distilled: World, change: str) -> None:
    with pytest.raises(MicotaError) as error:
        distilled.load(WHOLE[0], change)
    assert REFUSED[change] in str(error.value)


def test_a_teacher_with_another_tokenizer_is_refused(distilled: World) -> None:
    from test_opd_other_tokenizer import other_model

    other_model(distilled.folder / "other")
    with pytest.raises(StageFailed, match=r"top_k[\s\S]*another tokenizer"):
        distilled.run(*WHOLE, "let.teacher=./other", "let.chains.distil.from=./models/ta", only="rows")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_share_the_scoring_and_distil_what_one_distils(distilled: World, kind: str) -> None:
    alone, facts = made(distilled, *WHOLE, only="rows", micro_batch=2)
    (distilled.folder / "store").rename(distilled.folder / "before")
    together, others = made(distilled, *WHOLE, only="rows", micro_batch=1, prefix=prefix(kind))
    same(alone, together)
    assert others["loss"][0][1] == pytest.approx(facts["loss"][0][1], rel=1e-3)
    keys = [name.partition("-")[0] for name in scored(distilled)]
    assert len(keys) == len(set(keys))


@pytest.mark.slow
def test_killed_while_it_scores_it_scores_the_rest(distilled: World) -> None:
    distilled.problems("train.jsonl", range(400))
    alone, facts = made(distilled, *WHOLE, "defaults.opd.steps=100", only="rows")
    assert facts["scored"] == 400
    (distilled.folder / "store").rename(distilled.folder / "before")
    distilled.write(
        "machine.yaml",
        "train: {micro_batch: 4, checkpoint_every: 1}\n"
        "generate: {engine: scripted, script: ./answers.jsonl, fake: false}\n",
    )
    program = str(Path(sys.executable).parent / "micota")
    sets = [word for one in (*WHOLE, "defaults.opd.steps=100") for word in ("--set", one)]
    command = [
        program,
        "run",
        "recipe.yaml",
        "--machine",
        "./machine.yaml",
        "--only",
        "rows",
        *sets,
        "--store",
        "store",
    ]
    for number, files in ((signal.SIGKILL, 2), (signal.SIGTERM, 6)):
        run = subprocess.Popen(command, cwd=distilled.folder, stdout=subprocess.DEVNULL)
        while run.poll() is None and len(scored(distilled)) < files:
            time.sleep(0.001)
        os.kill(run.pid, number)
        run.communicate(timeout=120)
    before = scored(distilled)
    assert 6 <= len(before) < 16
    weights, others = made(distilled, *WHOLE, "defaults.opd.steps=100", only="rows")
    assert 0 < others["scored"] < 400 and before.items() <= scored(distilled).items()
    assert [name for name in weights if not torch.equal(weights[name], alone[name])] == []
