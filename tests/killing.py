"""Generation that is killed at random moments and started again: what the tests and `make soak` share."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

RECIPE = """
name: killed
let:
  set: {problems: {source: "lab:arithmetic", split: test, n: NUMBER}}
  answers:
    generate: {model: "MODEL", problems: set, prompt: "{problem}", precision: float32,
               sampling: {max_tokens: 300}}
"""
FIRST_S = 180  # the longest that an engine may take until its first answer
CALM_S = 10  # the longest that a process of a killed engine may live on


class Killed:
    """A recipe in a folder, run as processes of its own and killed with `kill -9`."""

    def __init__(self, folder: Path, place: str, n: int, model: str = "lab:teacher") -> None:
        self.folder, self.n = folder, n
        folder.mkdir(exist_ok=True)
        (folder / "killed.yaml").write_text(RECIPE.replace("NUMBER", str(n)).replace("MODEL", model))
        (folder / "machine.yaml").write_text(f"jobs: 1\nthreads: 1\ngenerate: {place}\n")

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "micota", "run", "killed.yaml", "--machine", "machine.yaml"]
        said = subprocess.PIPE
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        return subprocess.Popen(
            [*command, "--store", "store"],
            cwd=self.folder,
            env=environment,
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lines(self) -> list[str]:
        """The whole lines of the pool, in the order of their files."""
        files = sorted(self.folder.glob("store/pools/*/*.jsonl"), key=lambda path: path.stat().st_mtime)
        return [line for path in files for line in path.read_text().split("\n") if line.endswith("}")]

    def keys(self) -> Counter[tuple[str, int]]:
        rows = map(json.loads, self.lines())
        return Counter((row["key"], row["sample"]) for row in rows)

    def kill(self, dice: random.Random, rows: int) -> int | None:
        """Start a run and kill it once it has written a random number of at most `rows` more answers, after a pause
        of up to a fifth of a second. Returns how many answers there were; None if it had ended before."""
        wanted = len(self.lines()) + dice.randint(1, rows)
        process = self.start()
        deadline = time.monotonic() + FIRST_S
        while len(self.lines()) < wanted and process.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError("no answer came")
            time.sleep(0.005)
        time.sleep(dice.random() / 5)
        below = [] if process.poll() is not None else psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        code = process.wait()
        process.communicate()
        left = psutil.wait_procs([one for one in below if "resource_tracker" not in " ".join(_line(one))], CALM_S)[1]
        assert not left, f"processes of a killed run live on: {left}"
        return len(self.lines()) if code == -signal.SIGKILL else None

    def finish(self) -> str:
        process = self.start()
        said, _ = process.communicate(timeout=600)
        assert process.returncode == 0, said
        return said

    def content(self) -> str:
        """The hash of the answers' artifact."""
        (manifest,) = self.folder.glob("store/artifacts/generate-*/manifest.json")
        return str(json.loads(manifest.read_text())["content"])


def soak(killed: Killed, kills: int, rows: int, seed: int) -> dict[str, int]:
    """Kill a run so often, then let it finish. Every key must be there exactly once, and the lines that were whole at
    a kill must still be there, as they were."""
    dice, before, done = random.Random(seed), [], 0
    for _ in range(kills):
        if killed.kill(dice, rows) is None:
            break
        done += 1
        now = killed.lines()
        assert set(before) <= set(now)
        before = now
    killed.finish()
    keys = killed.keys()
    assert len(keys) == killed.n, f"{len(keys)} of {killed.n} keys"
    assert set(keys.values()) == {1}, "a key was made twice"
    assert set(before) <= set(killed.lines())
    return {"kills": done, "keys": len(keys), "written before the last kill": len(before)}


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
