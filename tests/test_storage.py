"""What a disk or a file system can refuse: messages that name path and remedy, and nothing that is there is lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import World

from micota.atomic import read_link, write_json, write_link
from micota.cli import main as cli
from micota.errors import MicotaError, StageFailed, explained, of_system
from micota.housekeeping.integrity import damage
from micota.store.pool import MANY, Pool, find
from micota.store.records import Completion


def completion(i: int, text: str = "text") -> Completion:
    return Completion(f"{i:016x}", 0, "prompt", f"{text} {i}", "stop", 3, 2, "test 1")


def micota(*words: str) -> None:
    cli.app(list(words), standalone_mode=False)


# a pool of many files


def filled(folder: Path, files: int) -> list[Completion]:
    """A pool whose writers were so many, each of which wrote two rows and was killed in the next."""
    rows = [completion(i) for i in range(2 * files)]
    for i in range(files):
        cut = completion(10**6 + i).line()[:-9]
        text = "".join(row.line() for row in rows[2 * i : 2 * i + 2]) + cut * (i % 2)
        (folder / f"20260101-000000-host-1-{i:06}.jsonl").write_text(text)
    return rows


@pytest.fixture
def few_descriptors() -> object:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_pool_of_a_thousand_files_is_read_and_becomes_one(few_descriptors: object, tmp_path: Path) -> None:
    rows = filled(tmp_path, 1100)
    pool = Pool(tmp_path)
    keys = [(row.key, 0) for row in rows]
    assert list(pool.read(keys)) == rows
    Pool(tmp_path).merge()
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    assert list(pool.read(keys)) == rows  # of a reader that looked before
    assert list(Pool(tmp_path).read(keys)) == rows
    assert len(Pool(tmp_path)) == len(rows)


def test_few_files_stay_as_they_are(tmp_path: Path) -> None:
    filled(tmp_path, MANY)
    Pool(tmp_path).merge()
    assert len(list(tmp_path.glob("*.jsonl"))) == MANY


def test_who_reads_while_files_are_merged_misses_nothing(tmp_path: Path) -> None:
    rows = filled(tmp_path, 300)
    keys, problems, merged = [(row.key, 0) for row in rows], [], threading.Event()

    def reader() -> None:
        while not merged.is_set():
            try:
                assert list(Pool(tmp_path).read(keys)) == rows
            except BaseException as error:
                problems.append(error)
                return

    readers = [threading.Thread(target=reader) for _ in range(3)]
    for one in readers:
        one.start()
    for i in range(5):
        Pool(tmp_path).merge()
        for j in range(100):
            (tmp_path / f"20270101-000000-host-{i}-{j:06}.jsonl").write_text(completion(10**5 + 100 * i + j).line())
    merged.set()
    for one in readers:
        one.join()
    assert problems == []


def test_a_late_answer_of_a_run_that_was_paused_changes_nothing(tmp_path: Path) -> None:
    """Its file sorts before those of the run that went on, whose rows are in artifacts already."""
    (tmp_path / "b.jsonl").write_text(completion(1, "of the second").line())
    (row,) = Pool(tmp_path).read([(completion(1).key, 0)])
    (tmp_path / "a.jsonl").write_text(completion(1, "late").line())
    wanted = {"key": row.key, "sample": 0, "sha": row.sha}
    assert [one.text for one in find([Pool(tmp_path)], [wanted])] == ["of the second 1"]


def test_a_run_merges_the_pool_that_it_fills(world: World) -> None:
    from micota.specs import Generate

    world.run(only="long-cot")
    (spec,) = (one for one in world.load().named("long-cot").children if isinstance(one, Generate))
    manifest = world.store.manifest(spec)
    assert manifest is not None
    (pool,) = manifest.pools
    folder = world.store.pool_folder(pool)
    for i in range(2 * MANY):
        (folder / f"0-{i:03}.jsonl").write_text(completion(i).line())
    world.problems("train.jsonl", range(12))
    world.run(only="long-cot")
    assert len(list(folder.glob("*.jsonl"))) == 2
    assert len(world.store.pool(pool)) == 12 + 2 * MANY


# what the system refuses


@pytest.mark.parametrize(
    ("code", "fix"),
    [
        (errno.ENOSPC, "make room there"),
        (errno.EDQUOT, "make room there"),
        (errno.EROFS, "mount it for writing"),
        (errno.EACCES, "chown"),
        (errno.ENOLCK, "flock"),
        (errno.ENOSYS, "flock"),
        (errno.EIO, "dmesg"),
        (errno.EMFILE, "ulimit"),
        (errno.ENAMETOOLONG, "mend that"),
    ],
)
def test_what_the_system_refuses_names_the_path_and_what_to_do(tmp_path: Path, code: int, fix: str) -> None:
    bare, named = OSError(code, os.strerror(code)), OSError(code, os.strerror(code), "/x/y")
    assert str(tmp_path) in str(of_system(bare, tmp_path)) and "/x/y" in str(of_system(named, tmp_path))
    assert fix in str(of_system(named, tmp_path))


def test_a_library_that_reports_a_full_disk_in_its_own_words_is_understood(tmp_path: Path) -> None:
    error = explained(RuntimeError("while serializing: I/O error: No space left on device (os error 28)"), tmp_path)
    assert isinstance(error, MicotaError) and "make room there" in str(error) and "while serializing" in str(error)


@pytest.mark.parametrize("error", [KeyError(), MicotaError(""), RuntimeError(" "), StageFailed(""), AssertionError()])
def test_no_message_is_blank(tmp_path: Path, error: Exception) -> None:
    assert str(explained(error, tmp_path)).strip(": \n")


def test_a_write_that_fails_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "y").write_text("")
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "x", {})
    assert str(caught.value.filename).startswith(str(tmp_path))


def test_a_file_system_without_links_has_names_all_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    world.run(only="long-cot")
    recipe = world.load()
    monkeypatch.setattr(os, "symlink", refused)
    write_link(tmp_path / "link", "a/b")
    assert read_link(tmp_path / "link") == "a/b" and not (tmp_path / "link").is_symlink()
    world.store.name("small", "long-cot", recipe.named("long-cot"))
    found = world.store.find("small/long-cot")
    assert found.digest == recipe.named("long-cot").digest
    assert not (world.store.root / "names" / "small" / "long-cot").is_symlink()
    assert list(damage(world.store)) == []
    (world.store.root / "names" / "small" / "long-cot").write_text("nothing")
    assert [one.what for one in damage(world.store)] == ["is no link to an artifact"]


def test_a_failed_stage_is_told_when_the_names_cannot_be_written(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    from micota.workspace import Workspace

    world.write("answers.jsonl", "")
    names = world.store.root / "names"
    names.parent.mkdir(parents=True)
    names.write_text("a file where a folder should be")
    with pytest.raises(StageFailed, match="the script has no answer"):
        Workspace(world.store.root, world.machine).run(world.load())
    assert "no names lead to the artifacts" in capsys.readouterr().out


# what a command would remove or overwrite


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder of somebody's own that looks a little like a store."""
    for name in ("artifacts/mine", f"artifacts/train-{'1' * 16}/files", f"making/train-{'2' * 16}", "pools/p"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "data.jsonl").write_text("mine")
        os.utime(tmp_path / name / "data.jsonl", (1, 1))
        os.utime(tmp_path / name, (1, 1))
    return tmp_path


def contents(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_gc_leaves_a_folder_alone_that_is_no_store(foreign: Path) -> None:
    before = contents(foreign)
    with pytest.raises(MicotaError, match="is no store of micota"):
        micota("gc", "--yes", "--pools", "--hours", "0", "--store", str(foreign))
    assert contents(foreign) == before


def test_gc_leaves_alone_what_is_not_named_as_micota_names_things(
    foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (foreign / "claims").mkdir()
    (foreign / "claims" / ".lock").touch()
    micota("gc", "--yes", "--hours", "0", "--store", str(foreign))
    assert "2 removed" in capsys.readouterr().out
    assert (foreign / "artifacts" / "mine" / "data.jsonl").exists()


def out_of_input(folder: Path) -> tuple[str, str]:
    return "q.jsonl", "q.jsonl"


def out_by_another_name(folder: Path) -> tuple[str, str]:
    (folder / "link.jsonl").symlink_to("q.jsonl")
    return "q.jsonl", "link.jsonl"


def out_by_a_hard_link(folder: Path) -> tuple[str, str]:
    os.link(folder / "q.jsonl", folder / "hard.jsonl")
    return "./q.jsonl", "hard.jsonl"


def out_of_another_kind(folder: Path) -> tuple[str, str]:
    (folder / "notes.txt").write_text("mine")
    return "q.jsonl", "notes.txt"


@pytest.mark.parametrize("case", [out_of_input, out_by_another_name, out_by_a_hard_link, out_of_another_kind])
@pytest.mark.parametrize("command", ["generate", "measure", "grade"])
def test_no_command_writes_over_what_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: Callable[[Path], tuple[str, str]], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.jsonl").write_text(
        json.dumps({"problem": "1+1", "answer": "2", "response": "2", "gold": "2"}) + "\n"
    )
    rows, out = case(tmp_path)
    if command == "grade" and case is out_of_another_kind:
        pytest.skip("its --out is any file")
    before = (tmp_path / out).read_text()
    with pytest.raises(MicotaError, match="would be overwritten"):
        micota(command, *(["lab:student"] if command != "grade" else []), rows, "--out", out)
    assert (tmp_path / out).read_text() == before


# a terminal that goes away


def test_a_reader_that_has_gone_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    """As `micota docs recipe | head -1`, with the pipe closed before anything is written."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.run(
        [sys.executable, "-m", "micota", "docs", "recipe"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert process.stderr == b""
    full = subprocess.run(
        f"{sys.executable} -m micota recipes > /dev/full", shell=True, stderr=subprocess.PIPE, check=False
    )
    assert b"Traceback" not in full.stderr


def test_text_that_no_file_can_hold_is_written_with_a_mark_in_its_place(tmp_path: Path) -> None:
    from micota.atomic import write_text

    write_text(tmp_path / "x", "a\ud800b")
    assert (tmp_path / "x").read_text(encoding="utf-8") == "a?b"


def test_answers_that_no_file_can_hold_are_written_whatever_the_pool_has(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool of before may have them; what is written can be read again as data."""
    monkeypatch.chdir(world.folder)
    rows = [{"problem": f"{100 + i}+{i}", "text": rf"\ud800 \boxed{{{100 + 2 * i}}} \udfff"} for i in range(8)]
    world.write("answers.jsonl", "".join(json.dumps(row) + "\n" for row in rows).replace("\\\\u", "\\u"))
    world.write("m.yaml", "generate: {engine: scripted, script: answers.jsonl}\n")
    sets = ("--machine", "m.yaml", "--store", "store", "--set", "precision=float32", "--set", "prompt='{problem}'")
    micota("generate", "./models/ta", "train.jsonl", "--out", "rows.jsonl", *sets)
    micota("distill", "./models/ta", "train.jsonl", "--out", "data", *sets)
    for name, column in (("rows.jsonl", "response"), ("data/rows.jsonl", "response")):
        lines = [json.loads(line) for line in (world.folder / name).read_text(encoding="utf-8").splitlines()]
        assert len(lines) == 8
        assert all(line[column].startswith("\ufffd \\boxed") and line[column].endswith("\ufffd") for line in lines)
