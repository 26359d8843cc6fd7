"""Folders, pipes, devices, sockets and links to nowhere in the place of files of a store: nothing waits for ever."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import pytest
from test_store import finished, spec

from micota import load
from micota.atomic import NoFile, files_only
from micota.cli.main import app
from micota.errors import ClaimLost, MicotaError, of_system
from micota.store import locks as locking
from micota.store.artifacts import Store
from micota.store.locks import Claim, Locks, holder, locked
from micota.store.resolution import Lock

sys.path.append(str(Path(__file__).parent / "attack"))
from damage import NO_FILES

NOWHERE = "a link to nowhere in its place"
KINDS = sorted(NO_FILES)
NO_LINKS = [kind for kind in KINDS if kind != NOWHERE]


def put(kind: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    NO_FILES[kind](path, random.Random(0))
    return path


@pytest.mark.parametrize("kind", NO_LINKS)
@pytest.mark.parametrize("mode", ["rb", "ab", "wb"])
def test_what_is_no_file_is_not_opened(kind: str, mode: str, tmp_path: Path) -> None:
    path = put(kind, tmp_path / "x")
    with pytest.raises(NoFile) as caught:
        open(path, mode, opener=files_only)  # noqa: SIM115  (it does not open)
    message = str(of_system(caught.value, tmp_path))
    assert str(path) in message and "move it away" in message and "in the place of a file" in message


def test_files_and_links_to_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    with open(tmp_path / "link", "w", opener=files_only) as file:  # makes what it leads to
        file.write("x")
    with open(tmp_path / "file", "rb", opener=files_only) as file:
        assert file.read() == b"x"
    with pytest.raises(FileNotFoundError):
        open(tmp_path / "missing", "rb", opener=files_only)  # noqa: SIM115


@pytest.mark.parametrize("kind", KINDS)
def test_a_claim_that_is_no_file_is_void_after_a_minute(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "STALE_S", 0.5)
    path = put(kind, tmp_path / "claims" / "x.json")
    with pytest.raises(ClaimLost):
        Claim(path, "mine").check()
    locks, claim = Locks(), None
    if kind != NOWHERE:
        assert holder(path) == "a run whose claim cannot be read"
        assert locks.acquire(path) is None
    try:
        for _ in range(30):
            if claim := locks.acquire(path):
                break
            time.sleep(0.1)
    except OSError as error:  # of these only a folder cannot be replaced by a file
        assert kind == "a folder in its place"
        assert str(path) in str(of_system(error, tmp_path)) and "move the folder away" in str(
            of_system(error, tmp_path)
        )
        return
    assert claim is not None and kind != "a folder in its place"
    claim.check()
    locks.release(path)
    assert not path.exists()


@pytest.mark.parametrize("kind", NO_LINKS)
def test_a_lock_that_is_no_file_is_named(kind: str, tmp_path: Path) -> None:
    path = put(kind, tmp_path / "claims" / ".lock")
    with pytest.raises(NoFile, match=r"claims/\.lock"):
        Locks().acquire(tmp_path / "claims" / "x.json")
    with pytest.raises(NoFile), locked(path, wait=False):
        pass


@pytest.mark.parametrize("kind", NO_LINKS)
def test_a_held_claim_that_is_replaced_is_lost(kind: str, tmp_path: Path) -> None:
    locks = Locks()
    claim = locks.acquire(tmp_path / "x.json")
    assert claim is not None
    NO_FILES[kind](claim.path, random.Random(0))
    with pytest.raises(ClaimLost, match="a run whose claim cannot be read"):
        claim.check()
    locks.release(claim.path)
    assert claim.path.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_file_of_commits_that_is_no_file_is_an_error(kind: str, tmp_path: Path) -> None:
    path = put(kind, tmp_path / "recipe.lock")
    with pytest.raises(MicotaError, match="no lock file of a recipe"):
        Lock(path)


PLACES = (
    "task.json",
    "progress.json",
    "error.txt",
    "log.txt",
    "lock",
    "stop",
    "stopped",
    "result.json",
    "out/rows.jsonl",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.filterwarnings("ignore::micota.store.checked.StoreWarning")
def test_a_work_folder_is_used_or_what_is_no_file_is_named(kind: str, place: str, tmp_path: Path) -> None:
    """In the run's own process: the stage ends well, or its message names the path and what to do."""
    (tmp_path / "set.jsonl").write_text('{"problem": "2+2", "answer": "4"}\n')
    (tmp_path / "sets.yaml").write_text("let:\n  set: {problems: {source: ./set.jsonl}}\n")
    one, store = load(tmp_path / "sets.yaml").named("set"), tmp_path / "store"
    path = put(kind, store / "making" / one.id / place)
    recipe = str(tmp_path / "sets.yaml")
    try:
        app(["run", recipe, "--only", "set", "--store", str(store)], standalone_mode=False)
    except Exception as error:
        assert path.name in str(error) and ("move" in str(error) or "fix" in str(error)), error
    else:
        assert Store(store).manifest(one) is not None
    for looks in (["status"], ["du"], ["gc"], ["plan", recipe]):
        app([*looks, "--store", str(store)], standalone_mode=False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "place",
    ["inputs/x", "claims/x.json", "names/small/x", "pools/p/pool.json", "pools/p/a.jsonl", "artifacts/x/log.txt"],
)
@pytest.mark.filterwarnings("ignore::micota.store.checked.StoreWarning")
def test_a_store_is_shown_and_verified(
    kind: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    finished(store, spec(), json.dumps({"key": "0", "problem": "p", "answer": "4"}) + "\n")
    (tmp_path / "claims").mkdir(exist_ok=True)
    (tmp_path / "claims" / ".lock").touch()
    put(kind, tmp_path / place.replace("artifacts/x", f"artifacts/{spec().id}"))
    for words in (["status"], ["du"], ["gc"], ["show", spec().id]):
        app([*words, "--store", str(tmp_path)], standalone_mode=False)
    if place != "artifacts/x/log.txt":
        with pytest.raises(MicotaError, match="not as they were written"):
            app(["verify", "--store", str(tmp_path)], standalone_mode=False)
        assert Path(place).name in capsys.readouterr().out
