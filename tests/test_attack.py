"""A short form of `make attack`, with a server in place of models: kills, a takeover, disks, a lost terminal."""

from __future__ import annotations

import os
import pty
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "attack"))

import disks
import kills
import pauses
from ground import Ground, until

from micota.generation.fake_server import FakeServer


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with FakeServer(lambda turn: f"{turn} \\boxed{{{len(turn)}}}", latency_s=0.1) as server:
        yield server.url


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, url: str) -> Ground:
    """A store that nobody disturbed."""
    ground = Ground(tmp_path_factory.mktemp("calm"), behind=False, url=url)
    ground.finish()
    return ground


def test_two_kills_change_nothing(calm: Ground, tmp_path: Path) -> None:
    ground = Ground(tmp_path / "kills", url=calm.url)
    lines = list(kills.kills(ground, calm.contents(), 2, random.Random(3), span=4))
    assert lines[-1].startswith("a store is whole")


def test_a_run_that_was_paused_loses_its_stage_and_waits(calm: Ground, tmp_path: Path) -> None:
    ground = Ground(tmp_path / "pause", behind=False, quick=True, url=calm.url)
    name, faults = pauses.pause(ground, calm.contents(), ("generate", "ended"))
    assert faults == [], name


def test_a_full_disk_and_one_that_can_only_be_read_end_in_words(calm: Ground, tmp_path: Path) -> None:
    if not disks.mountable(tmp_path):
        pytest.skip("no disk may be mounted here: `make attack` uses a library in between")
    stages = [
        path for path in calm.store.rglob("*") if not {"reports", "view"} & set(path.parts) and not path.is_symlink()
    ]
    size = sum(path.stat().st_blocks for path in stages) // 2
    with disks.mounted(disks.Disk(tmp_path / "disk", f"size={size // 4}k")) as disk:
        ground = Ground(tmp_path / "full", behind=False, url=calm.url)
        ground.store = disk.folder / "store"
        run = ground.start()
        assert run.wait() == 1
        assert disks.unclear(run.said(), ground.store) == []
        disk.enlarge()
        ground.finish()
        assert ground.faults(calm.contents()) == []


@pytest.mark.parametrize("how", ["a signal", "a closed terminal"])
def test_a_lost_terminal_stops_a_run_like_sigterm(calm: Ground, tmp_path: Path, how: str) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, under which the tests may run, passes on that it is ignored
    ground = Ground(tmp_path / "terminal", behind=False, url=calm.url)
    ours, theirs = pty.openpty()
    run = ground.start(terminal=theirs if how == "a closed terminal" else None)
    os.close(theirs)
    assert until(lambda: ground.progress("generate"), run), run.said()
    if how == "a signal":
        run.process.send_signal(signal.SIGHUP)
    os.close(ours)
    assert run.wait(100) == 143, run.said()
    assert not list(ground.store.glob("claims/*.json"))
    assert "Traceback" not in run.said()
    ground.finish()
    assert ground.faults(calm.contents()) == []
