"""What a store holds, what can go from it, and what runs in it: nothing that is needed goes, nothing is repeated."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from conftest import LAB, World, kinds
from test_recipe import command

from micota.atomic import write_json
from micota.cli import main as cli
from micota.housekeeping import activity, holdings, removal
from micota.housekeeping.forgetting import forgettable
from micota.housekeeping.removal import Removal
from micota.store import locks
from micota.store.artifacts import Store
from micota.store.task import Progress


def removable(world: World, *sets: str, hours: float = 0, **options: bool) -> list[Removal]:
    return removal.removable(world.fresh(), [world.load(*LAB, *sets)], hours=hours, **options)


def names(found: list[Removal]) -> set[str]:
    return {name for one in found for name in one.name.split(", ")}


def micota(*words: str) -> None:
    cli.app(list(words), standalone_mode=False)


def test_intermediate_models_of_a_finished_recipe_go_and_nothing_is_made_again(made: World) -> None:
    contents = {one.id: one.content for one in made.store.all()}
    found = removable(made)
    assert names(found) == {"small/ta-long", "small/ta-mid"}  # the arms and what was made elsewhere stay
    assert all(removal.remove(made.store, one) for one in found)
    assert not made.store.whole(made.fresh().find("small/ta-mid"))
    assert removable(made) == []
    assert made.run(*LAB).executed == []
    assert {one.id: one.content for one in made.store.all()} == contents


def test_a_removal_that_was_killed_is_ended_the_next_time(made: World) -> None:
    files = made.store.files(made.store.find("small/ta-long"))
    files.rename(holdings.removed_path(files))
    states = {one.manifest.id: one.state for one in holdings.artifacts(made.fresh())}
    assert states[files.parent.name] == "partial"
    assert "small/ta-long" in names(found := removable(made))
    assert all(removal.remove(made.store, one) for one in found)
    assert not holdings.removed_path(files).exists() and removable(made) == []


def test_what_newly_needs_a_pruned_model_makes_it_again_with_the_same_content(made: World) -> None:
    before = made.store.find("small/ta-mid").content
    for one in removable(made):
        removal.remove(made.store, one)
    made.problems("train.jsonl", range(9))
    outcome = made.run(*LAB, only="mid-cot")
    assert kinds(outcome).count("merge") == 1 and made.store.find("small/ta-mid").content == before


def test_what_an_unfinished_stage_will_read_stays(made: World) -> None:
    assert names(removable(made, "evaluate.models=[arms, ta-long]")) == {"small/ta-mid"}  # ta-long has yet to answer
    assert names(removable(made)) == {"small/ta-mid", "small/ta-long"}
    assert names(removable(made, everything=True)) > {"small/strong"}


def test_what_another_recipe_names_stays(made: World) -> None:
    made.store.name("other", "mine", made.load(*LAB).named("ta-long"))
    assert names(removable(made)) == {"small/ta-mid"}


def test_what_a_running_stage_reads_stays(made: World) -> None:
    long = made.store.find("small/ta-long")
    work = made.store.root / "making" / f"train-{'1' * 16}"
    task = {"inputs": {"x": {"content": "c", "files": str(made.store.files(long)), "pools": []}}, "name": "other/arm"}
    write_json(work / "task.json", task)
    found = removable(made)
    claim, locks = made.store.lock(work.name), made.store.locks
    assert locks.acquire(claim)
    assert names(removable(made)) == {"small/ta-mid"}
    (one,) = (one for one in found if one.id == long.id)
    assert not removal.remove(made.store, one)  # it was found before the stage began
    assert made.store.whole(long)
    assert not any(one.what == "work" for one in removal.removable(made.fresh(), [], hours=0))
    locks.release(claim)
    assert [one.id for one in removal.removable(made.fresh(), [], hours=0)] == [work.name]
    assert removal.removable(made.fresh(), [], hours=24) == []


def test_models_that_no_name_leads_to_go_without_a_recipe_but_not_during_a_run(made: World) -> None:
    for link in (made.store.root / "names" / "small").glob("ta-*"):
        link.unlink()
    found = removal.removable(made.fresh(), [], hours=0)
    assert sorted(one.id.partition("-")[0] for one in found) == ["merge", "train"]
    assert removal.removable(made.fresh(), [], hours=1) == []
    write_json(made.store.root / "making" / f"bpc-{'2' * 16}" / "task.json", {})
    assert made.store.locks.acquire(made.store.lock(f"bpc-{'2' * 16}"))
    assert removal.removable(made.fresh(), [], hours=0) == []


def test_pools_stay_unless_they_are_named_and_nobody_refers_to_them(made: World) -> None:
    pools = {path.name for path in (made.store.root / "pools").iterdir()}
    assert removal.removable(made.fresh(), [], hours=0, unused_pools=True) == []
    stray = made.store.root / "pools" / "stray"
    stray.mkdir()
    (stray / "a.jsonl").write_text(
        '{"key":"ab","sample":0,"text":"\\"completion_tokens\\":9,","completion_tokens":3,"engine":"x"}\n'
    )
    assert removal.removable(made.fresh(), [], hours=0) == []
    (found,) = removal.removable(made.fresh(), [], hours=0, unused_pools=True)
    assert (found.what, found.id) == ("pool", "stray")
    pooled = {one.id: one for one in holdings.pools(made.fresh())}
    assert (pooled["stray"].rows, pooled["stray"].tokens, pooled["stray"].used) == (1, 3, False)
    assert removal.remove(made.store, found)
    assert {path.name for path in (made.store.root / "pools").iterdir()} == pools


def test_the_commands_show_first_and_remove_when_told(
    made: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.folder)
    where = ["--store", "store"]
    micota("du", *where)
    said = capsys.readouterr().out
    assert "small/ta-long" in said and "in all" in said and " 8 " in said
    sets = [word for one in LAB for word in ("--set", one)]
    micota("gc", "recipe.yaml", *sets, *where)
    assert "nothing was removed: add --yes" in capsys.readouterr().out
    assert made.store.whole(made.store.find("small/ta-long"))
    micota("gc", "recipe.yaml", "--yes", *sets, *where)
    assert "2 removed, 0 kept" in capsys.readouterr().out
    micota("du", *where)
    assert "pruned" in capsys.readouterr().out
    with pytest.raises(Exception, match="there is no store"):
        micota("du", "--store", "nowhere")


def test_forget_shows_first_and_removes_with_links_and_completions(
    made: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made.folder)
    long = made.store.find("small/ta-long")
    names, where = ["forget", "small/long-cot", long.id], ["--store", "store"]
    rows = made.store.find("small/long-cot")
    micota(*names, "--answers", *where)
    shown = capsys.readouterr().out
    assert long.id in shown and rows.id in shown and "add --yes" in shown
    assert all(pool in shown for pool in rows.pools) and made.fresh().manifest_of(long.id)
    micota(*names, "--yes", *where)
    assert "removed, 0 kept" in capsys.readouterr().out
    assert made.fresh().manifest_of(long.id) is None and made.fresh().manifest_of(rows.id) is None
    assert all(made.store.pool_folder(pool).is_dir() for pool in rows.pools)
    assert not (made.store.root / "artifacts" / long.id).exists()
    with pytest.raises(Exception, match="there is no artifact"):
        micota("forget", "small/ta-lung", *where)


def test_redo_makes_a_name_and_what_is_made_of_it_anew(
    made: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = made.write("m.yaml", "generate: {engine: scripted, script: ./answers.jsonl, batch: 4, fake: false}\n")
    sets = [part for one in LAB for part in ("--set", one)]
    names = ("long-cot", "ta-long", "ta-mid")
    before = {name: made.store.find(f"small/{name}") for name in names}
    when = {name: made.store.root.joinpath("artifacts", one.id, "manifest.json").stat() for name, one in before.items()}
    given = ["--only", "ta-mid", "--machine", str(machine), "--store", str(made.store.root)]
    assert command(monkeypatch, "run", str(made.recipe_file), *sets, *given) == 0
    assert "0 stages executed" in capsys.readouterr().out
    assert command(monkeypatch, "run", str(made.recipe_file), *sets, *given, "--redo", "ta-long") == 0
    assert "2 stages executed" in capsys.readouterr().out  # of which long-cot, and its answers, are no part
    for name, one in before.items():
        path = made.store.root / "artifacts" / one.id / "manifest.json"
        assert (path.stat().st_ino == when[name].st_ino) == (name == "long-cot")
        assert made.fresh().find(f"small/{name}").content == one.content
    assert command(monkeypatch, "run", str(made.recipe_file), *sets, *given, "--redo", "ta-lung") == 2
    assert "did you mean" in capsys.readouterr().err


def test_what_a_running_stage_reads_or_makes_is_not_forgotten(made: World) -> None:
    long, rows = made.store.find("small/ta-long"), made.store.find("small/long-cot")
    work = made.store.root / "making" / f"train-{'1' * 16}"
    files = {one.id: str(made.store.files(one)) for one in (long, rows)}
    inputs = {"x": {"content": "c", "files": files[long.id], "pools": list(rows.pools)}}
    write_json(work / "task.json", {"inputs": inputs, "name": "other/arm"})
    found = forgettable(made.store, [long, rows], answers=True)
    assert {one.what for one in found} == {"artifact", "pool"}
    assert made.store.locks.acquire(made.store.lock(work.name))
    assert made.store.locks.acquire(made.store.lock(rows.id))
    assert [one.id for one in found if removal.remove(made.store, one)] == []
    assert made.store.whole(long) and made.store.whole(rows)
    made.store.locks.release(made.store.lock(work.name))
    linked = {one.id for one in made.store.all() if one.same_as == rows.id}
    gone = {one.lock for one in found if removal.remove(made.store, one)}
    assert gone == {one.lock for one in found} - {rows.id} - linked
    made.store.locks.release(made.store.lock(rows.id))


def test_status_tells_what_runs_how_fast_and_what_failed(
    made: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    making = made.store.root / "making"
    runs, failed = making / f"train-{'1' * 16}", making / f"bpc-{'2' * 16}"
    write_json(runs / "task.json", {"name": "small/strong"})
    write_json(failed / "task.json", {"name": "small/measure"})
    (failed / "error.txt").write_text("the loss is nan at step 3\n  fix: lower lr")
    began = {"at": time.time() - 10, "done": 20}
    at = {"done": 70, "total": 100, "unit": "steps", "note": "loss 1.25", "at": time.time(), "began": began}
    write_json(runs / "progress.json", at)
    assert made.store.locks.acquire(made.store.lock(runs.name))
    running, left = activity.activities(Store(made.store.root))
    assert [(one.kind, one.work.name) for one in running] == [("train", "small/strong")]
    assert running[0].rate == pytest.approx(5, rel=0.01) and running[0].left_s == pytest.approx(6, rel=0.01)
    assert [one.note for one in left] == ["the loss is nan at step 3"]
    before = {path: path.stat().st_mtime_ns for path in made.store.root.rglob("*")}
    micota("status", "--store", str(made.store.root))
    said = capsys.readouterr().out
    assert f"process {os.getpid()}" in said and "70/100 steps" in said and "loss 1.25" in said and "6 s" in said
    assert "the loss is nan at step 3" in said
    assert {path: path.stat().st_mtime_ns for path in made.store.root.rglob("*")} == before  # it writes nothing


def test_a_progress_file_says_how_fast_a_stage_goes(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "progress.json")
    progress(5, 10, "steps")
    progress(10, 10, "steps")
    told = json.loads((tmp_path / "progress.json").read_text())
    assert told["began"]["done"] == 5 and told["done"] == 10 and told["at"] >= told["began"]["at"]


def test_a_failed_stage_leaves_its_message_and_its_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.folder)
    world.write("machine.yaml", "jobs: 1\ngenerate: {engine: scripted, script: ./answers.jsonl}\n")
    with pytest.raises(Exception, match="longer than the cutoff"):
        micota(
            "run",
            "recipe.yaml",
            "--machine",
            "machine.yaml",
            "--only",
            "ta-long",
            "--set",
            "let.ta-long.train.cutoff=3",
            "--store",
            "store",
        )
    _, (left,) = activity.activities(Store(world.folder / "store"))
    assert left.work.name == "small+ta-long.cutoff=3/ta-long" and "longer than the cutoff of 3 tokens" in left.note


def test_what_a_host_has_left_that_is_gone_can_be_removed(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its claim is held for ever by what it says, so it is watched before anything goes."""
    monkeypatch.setattr(locks, "STALE_S", 1.0)
    work = made.store.root / "making" / f"train-{'1' * 16}.abc"
    write_json(work / "task.json", {"name": "small/strong"})
    claim = made.store.lock(work.stem)
    write_json(claim, {"host": "gone/1", "pid": 1, "started": "1", "token": "abc"})
    assert removal.removable(made.fresh(), [], hours=0) == []
    for path in (work / "task.json", work):
        os.utime(path, (1, 1))
    (one,) = removal.removable(made.fresh(), [], hours=0)
    assert one.path == work
    touched = threading.Timer(0.5, lambda: os.utime(claim))
    touched.start()
    assert removal.remove(made.store, one)
    assert not work.exists()


def test_what_a_run_leaves_that_was_killed_when_its_stage_had_ended_goes_with_the_next(made: World) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    ended = made.store.find("small/ta-mid").id
    claim = made.store.locks.acquire(made.store.lock(ended))
    assert claim
    write_json(claim.path, {**json.loads(claim.path.read_text()), "pid": dead.pid})
    begun, other = (
        made.store.root / "making" / "train-0123456789abcdef.aa",
        made.store.root / "making" / f"{ended}.{claim.token}",
    )
    for folder in (begun / "out", other / "scratch"):
        folder.mkdir(parents=True)
    living = made.store.locks.acquire(made.store.lock("train-0000000000000000"))
    assert made.run(*LAB).executed == [] and living
    assert not claim.path.exists() and not other.exists()
    assert living.path.exists() and (begun / "out").exists()  # what runs, and what can go on
    made.store.locks.release(living.path)
