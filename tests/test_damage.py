"""What is finished stays what it was, or is set aside, named and made again: files, texts, manifests, checkpoints."""

from __future__ import annotations

import json
import random
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from conftest import LAB, World, kinds
from test_recipe import command
from test_store import completion, finished, spec

from micota.errors import MicotaError
from micota.export import folder as exports
from micota.housekeeping.integrity import damage
from micota.report.results import Results
from micota.store.artifacts import Store
from micota.store.checked import StoreWarning
from micota.store.pool import Pool, Writer
from micota.training import checkpoints

sys.path.append(str(Path(__file__).parent / "attack"))
import checkpoints as damaged_checkpoints
import damage as damaged_stores


@pytest.mark.parametrize("way", sorted({**damaged_stores.BYTES, **damaged_stores.RECORD}))
@pytest.mark.filterwarnings("ignore::micota.store.checked.StoreWarning")
def test_one_bad_manifest_stops_nothing_that_is_about_the_others(way: str, tmp_path: Path) -> None:
    for seed in range(8):
        store = Store(tmp_path / str(seed))
        finished(store, spec(1), "one\n")
        finished(store, spec(2), "two\n")
        bad = store.root / "artifacts" / spec(1).id / "manifest.json"
        whole = json.loads(bad.read_text())
        {**damaged_stores.BYTES, **damaged_stores.RECORD}[way](bad, random.Random(seed))
        again = Store(store.root)
        found = again.manifest(spec(1))
        assert found is None or found.as_json() == {**whole, "seal": found.as_json()["seal"]}
        assert again.manifest(spec(2)) is not None and spec(2).id in [one.id for one in again.all()]
        again.recover(spec(1))
        finished(again, spec(1), "one\n")
        assert json.loads(bad.read_text()) == whole


def test_a_command_prints_a_warning_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    finished(store, spec(1), "one\n")
    finished(store, spec(2), "two\n")
    for one in (spec(1), spec(2)):
        (tmp_path / "artifacts" / one.id / "manifest.json").write_text("{}")
    for word in ("du", "verify"):
        with warnings.catch_warnings():
            warnings.simplefilter("always")  # as after any library's change of the filters
            command(monkeypatch, word, "--store", str(tmp_path))
        said = capsys.readouterr().err.splitlines()
        assert len([line for line in said if "counts as not made" in line]) == 2


def test_what_a_newer_micota_wrote_is_named_and_used_as_far_as_it_is_known(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(store, spec(), "one\n")
    file = tmp_path / "artifacts" / spec().id / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "colour": "red"}))
    with pytest.warns(StoreWarning, match="made by a newer micota: its colour") as said:
        assert Store(tmp_path).manifest(spec()) is not None
    assert str(file) in str(said[0].message)


def test_a_cache_entry_that_is_none_is_passed_over(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(store, spec(), "one\n")
    (key,) = (tmp_path / "inputs").iterdir()
    for text in (b"", b"\0\0", b"\xff\xfe", b"../../etc", b"problems-0000000000000000\n", b"x" * 9999):
        key.write_bytes(text)
        assert Store(tmp_path).equal(spec()) is None
    key.unlink()
    key.mkdir()
    assert Store(tmp_path).equal(spec()) is None


def test_a_store_that_is_a_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("x")
    with pytest.raises(MicotaError, match="is a file; a store is a folder"):
        Store(tmp_path / "store")


def test_no_changed_byte_of_a_pool_is_believed(tmp_path: Path) -> None:
    row = completion("aa", 0, "the answer is 7, \\boxed{7}")
    with Writer(tmp_path, {}) as writer:
        writer.write([row])
    (file,) = tmp_path.glob("*.jsonl")
    whole = file.read_bytes()
    for at in range(len(whole)):
        for bit in (0, 3, 6):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
            pool = Pool(tmp_path)
            assert list(pool.read(pool.keys())) == [], file.read_bytes()


def test_lost_texts_and_changed_verdicts_are_made_again_by_the_same_command(made: World) -> None:
    before = {one.id: one.content for one in made.store.all()}
    answers = made.store.manifest(made.load().named("long-cot").completions)
    assert answers is not None
    for file in made.store.pool_folder(answers.pools[0]).glob("*.jsonl"):
        file.write_bytes(file.read_bytes().replace(b'"text":"', b'"text":"Z', 1))
    verdicts = made.store.files(_verdicts(made))
    text = (verdicts / "rows.jsonl").read_text()
    (verdicts / "rows.jsonl").write_text(text.replace('"verdict":"correct"', '"verdict":"no_ansr"'))
    with pytest.warns(StoreWarning, match="is damaged and left out|is damaged"):
        assert Results(made.load(*LAB), Store(made.store.root)).missing
    with pytest.warns(StoreWarning, match="set aside"):
        done = made.run(*LAB)
    assert set(kinds(done)) == {"generate", "verify"}
    assert {one.id: one.content for one in made.fresh().all()} == before
    assert [one.what for one in damage(made.store) if "changed" in one.what] in ([], ["line 1 has changed"])
    assert made.run(*LAB).executed == []


def _verdicts(world: World) -> Any:
    return world.store.manifest(world.load(*LAB).evaluations[0].spec)


def test_a_changed_weight_is_named_by_verify_and_by_what_would_copy_it(made: World, tmp_path: Path) -> None:
    model = made.store.find("small/ta-mid")
    weights = made.store.files(model) / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    (found,) = damage(made.fresh())
    assert found.path == weights and any("small/mid-cot" in names for names in found.touched)
    with pytest.raises(MicotaError, match=r"ta-mid is damaged(.|\n)*model\.safetensors"):
        exports.export(made.store, model, "small/ta-mid", tmp_path / "out", "out", lambda done, total: None)
    (made.store.files(model) / "chat_template.jinja").unlink(missing_ok=True)
    (made.store.files(model) / "extra.txt").write_text("x")
    said = [(one.path.name, one.what) for one in damage(made.fresh())]
    assert ("extra.txt", "was put there later") in said and ("model.safetensors", "has changed") in said


SPOILT = {
    "artifacts/train-*/files/model.safetensors": "micota forget train-",
    "artifacts/train-*/files/extra.txt": "rm -r",
    "artifacts/verify-*/files/rows.jsonl": "micota forget verify-",
    "artifacts/select-*/manifest.json": "rm -r",
    "pools/*/*.jsonl": "sed -i.old '1d'",
    "pools/*/pool.json": "rm -r",
    "names/small/ta-mid": "rm -r",
    "inputs/*": "rm -r",
}


@pytest.mark.parametrize("place", SPOILT)
@pytest.mark.filterwarnings("ignore::micota.store.checked.StoreWarning")
def test_what_verify_says_to_type_ends_what_it_found(
    place: str, made: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = str(made.folder / "store")
    made.store.name("small", "ta-mid", made.load(*LAB).named("ta-mid"))
    for path in (
        made.store.root.glob(place) if "extra" not in place else made.store.root.glob("artifacts/train-*/files")
    ):
        if path.is_dir() and not path.is_symlink():
            path = path / "extra.txt"
        data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        if path.is_symlink():
            path.unlink()
        path.write_bytes(data.replace(b'"text":"', b'"text":"Z', 1) if b'"text":"' in data else b"?" + data[1:])
    said = []
    while command(monkeypatch, "verify", "--store", store) == 2:
        fixes = capsys.readouterr().err.partition("fix: ")[2].splitlines()[:-1]
        assert fixes and not set(fixes) & set(said), "the same advice twice"
        for fix in fixes:
            words = shlex.split(fix)
            done = command(monkeypatch, *words[1:]) if words[0] == "micota" else subprocess.run(words).returncode
            assert done == 0, fix
        said += fixes
    assert any(fix.startswith(SPOILT[place]) for fix in said)
    made.run(*LAB)
    assert command(monkeypatch, "verify", "--store", store) == 0


def test_after_answers_were_forgotten_their_missing_texts_are_said(made: World) -> None:
    recipe = made.load(*LAB)
    answers = made.store.manifest(recipe.evaluations[0].spec.completions)
    assert answers is not None
    made.store.remove(answers)
    with pytest.warns(StoreWarning, match=r"was removed, so its texts are <NA>.*--redo instruct"):
        assert Results(recipe, made.fresh()).responses()["response"].isna().any()


@pytest.mark.parametrize("way", sorted(damaged_stores.BYTES))
def test_a_damaged_checkpoint_is_set_aside_and_the_older_one_is_used(way: str, tmp_path: Path) -> None:
    for step in (3, 6):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        for name in ("model.safetensors", "optimizer.pt"):
            (folder / name).write_bytes(random.Random(step).randbytes(1000) + b"123")
        checkpoints.mark(folder)
    checkpoints.sieve(tmp_path)
    assert checkpoints.newest(tmp_path) == str(tmp_path / "checkpoint-6")
    damaged_stores.BYTES[way](tmp_path / "checkpoint-6" / "optimizer.pt", random.Random(1))
    with pytest.warns(StoreWarning, match="checkpoint-6 is damaged: it was set aside"):
        checkpoints.sieve(tmp_path)
    assert checkpoints.newest(tmp_path) == str(tmp_path / "checkpoint-3")
    assert checkpoints.damaged(tmp_path) == {"damaged_checkpoints": 1}
    shutil.rmtree(tmp_path / "checkpoint-3")
    assert checkpoints.newest(tmp_path) is None


def test_a_checkpoint_of_one_file_keeps_the_one_before(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint.pt"
    assert checkpoints.read_file(file) is None
    for text in ("one", "two"):
        checkpoints.write_file(file, lambda path, text=text: path.write_text(text))  # type: ignore[misc]
    assert checkpoints.read_file(file) == b"two"
    for at in range(file.stat().st_size):
        whole = file.read_bytes()
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.warns(StoreWarning, match="set aside"):
            assert checkpoints.read_file(file) == b"one"
        file.write_bytes(whole)
    for way in ("a folder in its place", "a pipe in its place"):
        damaged_stores.BYTES[way](file, random.Random(1))
        with pytest.warns(StoreWarning, match="set aside"):
            assert checkpoints.read_file(file) == b"one"
        file.write_bytes(whole)


@pytest.mark.parametrize(
    "text", ["", "{}", "[[[", '{"claims": [1]}', '{"claims": [], "store": "x", "machine": 3}', None]
)
def test_a_task_that_is_none_is_named(
    text: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    if text is None:
        text = json.dumps({"claims": [], "store": str(tmp_path), "machine": {}, "spec": {"specs": []}})
    (tmp_path / "task.json").write_text(text)
    assert command(monkeypatch, "stage", str(tmp_path)) == 2
    assert "the task cannot be read" in capsys.readouterr().err


def test_a_few_stores_are_damaged_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert damaged_stores.attack(tmp_path, 2, seed=5) == 0


def test_a_few_checkpoints_are_damaged_and_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert damaged_checkpoints.attack(tmp_path, 3, seed=5) == 0
