"""The store and the pool: what a crash may leave behind, and that nothing of it is believed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import World, kinds

from micota.errors import ClaimLost, MicotaError
from micota.specs import Problems, Source
from micota.store import locks as locking
from micota.store import resolution as sources
from micota.store.artifacts import Result, Store
from micota.store.locks import Claim, Locks, holder
from micota.store.pool import Pool, Writer, find
from micota.store.records import Completion


def completion(key: str, sample: int = 0, text: str = "tëxt \U0001d54f\u2028\ud800") -> Completion:
    return Completion(key, sample, "prompt", text, "stop", 3, 2, "test 1")


def spec(n: int = 1) -> Problems:
    return Problems(source=Source(ref="x", revision="y"), n=n)


def finished(store: Store, one: Problems, text: str) -> None:
    work = store.recover(one)
    (work / "out" / "rows.jsonl").write_text(text)
    store.finish(one, Result(), {})


def test_unicode_and_lone_surrogates_come_back_from_the_pool(tmp_path: Path) -> None:
    rows = [completion("aa"), completion("aa", 1, "line\nbreak"), completion("bb", 0, "")]
    with Writer(tmp_path, {}) as writer:
        writer.write(rows)
    assert list(Pool(tmp_path).read([("bb", 0), ("aa", 0), ("aa", 1)])) == [rows[2], rows[0], rows[1]]


def test_a_torn_last_line_is_owed_again_and_hides_nothing(tmp_path: Path) -> None:
    with Writer(tmp_path, {}) as writer:
        writer.write([completion("aa"), completion("bb")])
    whole = next(tmp_path.glob("*.jsonl"))
    whole.write_bytes(whole.read_bytes()[:-7])
    assert set(Pool(tmp_path).keys()) == {("aa", 0)}
    with Writer(tmp_path, {}) as writer:
        writer.write([completion("bb", 0, "again")])
    assert [c.text for c in Pool(tmp_path).read([("bb", 0)])] == ["again"]
    with pytest.raises(MicotaError, match="problem cc, sample 0 is not in its pool"):
        list(Pool(tmp_path).read([("cc", 0)]))


def test_rows_are_found_in_the_pool_that_has_their_very_text(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with Writer(tmp_path / name, {}) as writer:
            writer.write([completion("aa", 0, name)])
    pools = [Pool(tmp_path / "one"), Pool(tmp_path / "two")]
    row = {"key": "aa", "sample": 0, "sha": completion("aa", 0, "two").sha}
    assert [c.text for c in find(pools, [row])] == ["two"]


def test_output_without_a_manifest_is_not_done_and_is_gone_on_with(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(store, spec(), "rows\n")
    (tmp_path / "artifacts" / f"problems-{spec().digest}" / "manifest.json").unlink()  # killed before it was written
    again = Store(tmp_path)
    assert again.manifest(spec()) is None
    assert (again.recover(spec()) / "out" / "rows.jsonl").read_text() == "rows\n"


def test_a_file_cut_short_makes_an_artifact_pruned(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(store, spec(), "rows\n")
    manifest = store.manifest(spec())
    assert manifest is not None
    assert store.whole(manifest)
    (store.files(manifest) / "rows.jsonl").write_text("ro")
    assert not store.whole(manifest)


def test_an_artifact_made_again_with_other_content_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path)
    finished(store, spec(), "one\n")
    first = store.manifest(spec())
    finished(store, spec(), "two\n")
    second = store.manifest(spec())
    assert first is not None
    assert second is not None
    assert second.provenance["replaces"] == [first.content]


def test_a_lock_keeps_others_out_until_its_process_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "claims" / "x.json"
    take = f"print(bool(Locks().acquire(Path({str(path)!r}))), flush=True); input()"
    code = f"from micota.store.locks import Locks; from pathlib import Path; {take}"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline().strip() == "True"
    assert not Locks().acquire(path)
    assert holder(path) == f"process {other.pid} on {os.uname().nodename}"
    other.kill()
    other.communicate()
    assert holder(path) is None
    assert Locks().acquire(path)


ELSEWHERE = {"host": "elsewhere/pid:[1]", "pid": 1, "started": "1", "token": "theirs"}


def watched(locks: Locks, path: Path, seconds: float, touch: bool = False) -> Claim | None:
    """Look at a claim ten times a second, as a run that waits does once a second."""
    for _ in range(round(seconds * 10)):
        if claim := locks.acquire(path):
            return claim
        if touch:
            os.utime(path)
        time.sleep(0.1)
    return None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "STALE_S", 1.0)


def test_a_claim_of_another_host_is_void_when_it_was_watched_and_nobody_touched_it(quick: None, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(ELSEWHERE))
    os.utime(path, (0, 0))  # how old it is by any clock says nothing
    assert not Locks().acquire(path)
    locks = Locks()
    assert watched(locks, path, 1.6, touch=True) is None
    claim = watched(locks, path, 5)
    assert claim is not None and claim.over
    claim.check()


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"host": 3}', '{"host": "HERE"}', "\x00" * 9])
def test_a_claim_that_cannot_be_read_is_void_after_a_minute_too(quick: None, tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text.replace("HERE", os.uname().nodename))
    locks = Locks()
    assert locks.acquire(path) is None
    assert watched(locks, path, 5) is not None


def test_a_claim_that_was_being_written_at_a_kill_leaves_nothing(tmp_path: Path) -> None:
    """Whoever takes any claim next removes what is left; the claims of others stay, and so do files of people."""
    (tmp_path / "claims").mkdir()
    left = [".generate-b1344209a3a0cead.json.1304-140576976923520", ".x.json.1-2"]
    stays = ["train-b1344209a3a0cead.json", "notes.txt", ".notes.json"]
    for name in (*left, *stays):
        (tmp_path / "claims" / name).write_text("{")
    locks = Locks()
    assert locks.acquire(tmp_path / "claims" / "x.json")
    there = {path.name for path in (tmp_path / "claims").iterdir()}
    assert there == {*stays, "x.json", ".lock"}


def test_a_watcher_that_was_paused_does_not_count_that_time(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(ELSEWHERE))
    code = """
import signal, sys, time
from pathlib import Path
from micota.store import locks
locks.STALE_S, locks.BEAT_S = 2.0, 0.2
held = locks.Locks()
print(held.void(Path(sys.argv[1])), flush=True)
sys.stdin.readline()
print(held.void(Path(sys.argv[1])), flush=True)
"""
    command = [sys.executable, "-c", code, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout and process.stdout.readline() == "False\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(2.5)
    process.send_signal(signal.SIGCONT)
    assert process.communicate("\n")[0] == "False\n"


def test_who_has_lost_a_claim_gives_nothing_back_and_touches_nothing(tmp_path: Path) -> None:
    path, locks = tmp_path / "x.json", Locks()
    claim = locks.acquire(path)
    assert claim is not None
    claim.check()
    path.write_text(json.dumps(ELSEWHERE))
    with pytest.raises(ClaimLost, match="the claim on x is lost: process 1 on elsewhere has it now"):
        claim.check()
    locks.release(path)
    assert json.loads(path.read_text()) == ELSEWHERE
    path.unlink()
    with pytest.raises(ClaimLost, match="no run has it now"):
        claim.check()


def test_two_hosts_of_one_name_are_two(tmp_path: Path) -> None:
    """Machines that were copied from one image share their name, and process ids begin at 1 on each."""
    path = tmp_path / "x.json"
    assert Locks().acquire(path)
    mine = json.loads(path.read_text())
    name, boot, space = mine["host"].split("/", 2)
    path.write_text(json.dumps({**mine, "host": f"{name}/{boot[::-1]}/{space}", "pid": 2**22 + 1}))
    assert not Locks().acquire(path)


def test_a_run_that_lost_its_stage_can_finish_nothing(tmp_path: Path) -> None:
    """The first run wakes while the second is at work, or after it has finished: whatever it does then fails."""
    one, two = Store(tmp_path), Store(tmp_path)
    first = one.locks.acquire(one.lock(spec().id))
    assert first is not None
    lost = one.recover(spec(), first)
    (lost / "out" / "rows.jsonl").write_text("first\n")
    held = open(lost / "out" / "rows.jsonl", "a")  # noqa: SIM115  (as a stage that was paused in the middle of a write)
    first.path.write_text(json.dumps(ELSEWHERE))
    second = Claim(first.path, "theirs", over=True)
    work = two.recover(spec(), second)
    assert work != lost and not lost.exists()
    with pytest.raises(FileNotFoundError):
        one.finish(spec(), Result(), {}, lost)
    assert one.manifest(spec()) is None
    (work / "out" / "rows.jsonl").write_text("second\n")
    done = two.finish(spec(), Result(), {}, work)
    held.write("of the first\n")
    held.close()
    with pytest.raises(FileNotFoundError):
        one.finish(spec(), Result(), {}, lost)
    with pytest.raises(ClaimLost):
        one.recover(spec(), first)
    fresh = Store(tmp_path).manifest(spec())
    assert fresh is not None and fresh.content == done.content
    assert (two.files(done) / "rows.jsonl").read_text() == "second\n"


def test_a_stage_cannot_be_taken_over_while_its_work_folder_is_being_made(tmp_path: Path) -> None:
    """Whoever takes over holds the lock of all claims; what another run finishes under it is never moved away."""
    store = Store(tmp_path)
    claim = store.locks.acquire(store.lock(spec().id))
    assert claim is not None
    files = tmp_path / "artifacts" / spec().id / "files"
    with ThreadPoolExecutor(1) as threads:
        with locking.locked(tmp_path / "claims" / ".lock"):
            recovered = threads.submit(store.recover, spec(), claim)
            time.sleep(0.2)
            claim.path.write_text(json.dumps(ELSEWHERE))
            files.mkdir(parents=True)  # the other run has moved its output, and is about to write its manifest
        with pytest.raises(ClaimLost):
            recovered.result()
    assert files.is_dir() and not list(tmp_path.glob("making/*"))


def test_a_pool_that_was_removed_is_filled_again_when_it_is_needed(world: World) -> None:
    import shutil

    world.run(only="long-cot")
    shutil.rmtree(world.store.root / "pools")
    assert world.run(only="long-cot").executed == []  # done is done
    assert "generate" in kinds(world.run("let.long-cot.distil.max_tokens=300", only="long-cot"))


def test_names_are_links_to_the_artifacts(world: World) -> None:
    world.run()
    recipe = world.load()
    for name, one in recipe.names.items():
        world.store.name(recipe.name, name, one)
    link = world.store.root / "names" / "small" / "ta-mid"
    assert (link / "files" / "model.safetensors").is_file()
    assert not os.path.isabs(os.readlink(link))


def test_the_hash_of_a_large_file_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "LARGE", 4)
    (tmp_path / "small").write_text("abc")
    sources.content_hash(tmp_path / "small")
    assert not (tmp_path / "cache").exists()
    large = tmp_path / "large"
    large.write_text("one of them")
    first = sources.content_hash(large)
    assert "large" in (tmp_path / "cache" / "micota" / "hashes.json").read_text()
    assert sources.content_hash(large) == first
    large.write_text("two of them")
    os.utime(large, (1, 1))
    assert sources.content_hash(large) != first


def test_a_broken_lock_file_is_an_error_and_not_other_commits(tmp_path: Path) -> None:
    (tmp_path / "r.lock").write_text('{"model:a/b": "12')
    with pytest.raises(MicotaError, match=r"r\.lock is no lock file"):
        sources.Lock(tmp_path / "r.lock")


def test_the_lines_of_older_pools_stay_readable_and_keep_their_keys() -> None:
    line = (
        '{"key":"aa","sample":0,"prompt":"p","text":"2","finish_reason":"stop","prompt_tokens":3,'
        '"completion_tokens":1,"engine":"e 1","opened":"<think>\\n"}\n'
    )
    assert Completion.parse(line).target == "<think>\n2"
    assert Completion.parse(line).line().startswith(line[:-2] + ',"crc":"')
    assert Completion.parse(line.replace(',"opened":"<think>\\n"', "")).think_prefix == ""
