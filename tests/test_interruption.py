"""Kills, requests to stop, two runs at once: what was done stays, nothing is done twice, the end is the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

RECIPE = """
name: interrupted
defaults:
  distil: {prompt: "{problem}", precision: float32, by: exact_match, keep: all, sampling: {max_tokens: 100}}
  train: {precision: float32, batch: 8, cutoff: 200, lr: 1e-4, max_steps: 12}
let:
  train-set: {problems: {source: "lab:arithmetic", split: train, n: 40}}
  probe-set: {problems: {source: "lab:arithmetic", split: dev, n: 8}}
  test-set: {problems: {source: "lab:arithmetic", split: test, n: 8}}
  student: {pretrain: {shape: {width: 32, layers: 1, heads: 1, feedforward: 32}, window: 128,
                       phases: [{style: terse, steps: 250, lr: 1e-3, batch: 8}]}}
  long-cot: {distil: {from: lab:ta, data: train-set}}
  ta-long: {train: {base: lab:student, data: long-cot}}
  ta-mid:
    dial: {base: lab:student, models: [ta-long], method: dare_ties, density: 0.7, rescale: l1, weight: [0.5, 0.9],
           steps: 2, target: {length: 0.5, of: ta-long}, fallback: nearest,
           probe: {data: probe-set, n: 8, prompt: "{problem}", precision: float32, sampling: {max_tokens: 40}}}
  mid-cot: {distil: {from: ta-mid, data: train-set}}
  mixed: {mix: [{data: long-cot, share: 0.5}, {data: mid-cot, share: 0.5}]}
arms:
  micota: {train: {base: student, data: mixed}}
evaluate: {models: [arms], data: [test-set], prompt: "{problem}", precision: float32, sampling: {max_tokens: 8}}
measure: {bpc: {models: [student], data: [mid-cot], precision: float32}}
"""
LAUNCHED = "accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no"
# in the run's order
KINDS = ("problems", "generate", "verify", "select", "train", "search", "merge", "pretrain", "mix", "bpc")
KILLED = """
import os, signal
from micota.cli import main as cli
from micota.run import execution
stage = execution.stage
def killed(kind):
    def run(task):
        report = task.progress.report
        def last(done, total, unit, note=""):
            report(done, total, unit, note)
            if 4 <= done < total:
                os.kill(os.getpid(), signal.SIGKILL)
        task.progress.report = last
        stage(kind)(task)
        os.kill(os.getpid(), signal.SIGKILL)
    return run if kind == "{kind}" else stage(kind)
execution.stage = killed
cli.main()
"""


class Place:
    """A folder with the recipe and a machine profile; runs of it are processes of their own."""

    def __init__(self, folder: Path, prefix: str | None = None) -> None:
        self.folder = folder
        self.store = folder / "store"
        (folder / "recipe.yaml").write_text(RECIPE)
        train = "{checkpoint_every: 3" + (f", prefix: {prefix}" if prefix else "") + "}"
        rest = "generate: {batch: 8}\npretrain: {checkpoint_every: 2}\n"
        (folder / "machine.yaml").write_text(f"jobs: 1\nthreads: 1\n{rest}train: {train}\n")

    def start(self, *program: str) -> subprocess.Popen[str]:
        arguments = ["run", "recipe.yaml", "--machine", "machine.yaml", "--store", "store"]
        command = [sys.executable, *(program or ("-m", "micota")), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def finish(self) -> str:
        process = self.start()
        said, _ = process.communicate(timeout=200)
        assert process.returncode == 0, said
        return said

    def interrupt(self, when: Callable[[], bool], number: signal.Signals) -> tuple[int, str]:
        """Start a run, send the signal as soon as `when` holds, and wait for the end."""
        process = self.start()
        while not when() and process.poll() is None:
            time.sleep(0.001)
        assert process.poll() is None, process.communicate()[0]
        process.send_signal(number)
        said, _ = process.communicate(timeout=100)
        return process.returncode, said

    def killed_in(self, kind: str) -> int:
        """Run until a stage of the kind has done a part of it or, where it has no parts, has written its files and
        nobody has signed them yet; the exit code."""
        process = self.start("-c", KILLED.format(kind=kind))
        process.communicate(timeout=200)
        return process.returncode

    def training(self) -> bool:
        """Whether a training is under way, with a checkpoint written."""
        return any(self.store.glob("making/train-*/scratch/checkpoints/*/complete"))

    def contents(self) -> dict[str, str]:
        """The content hash of every artifact: of its files' names and bytes, which hold sorted rows or weights."""
        manifests = [json.loads(path.read_text()) for path in self.store.glob("artifacts/*/manifest.json")]
        return {f"{m['kind']}-{m['digest']}": m["content"] for m in manifests}

    def made(self) -> list[str]:
        """The artifacts that a stage made: all but those that are links to another."""
        manifests = [json.loads(path.read_text()) for path in self.store.glob("artifacts/*/manifest.json")]
        return [m["digest"] for m in manifests if m["same_as"] is None]

    def pooled(self) -> Counter[tuple[str, str, int]]:
        found: Counter[tuple[str, str, int]] = Counter()
        for path in self.store.glob("pools/*/*.jsonl"):
            for line in path.read_text().splitlines():
                row = json.loads(line)
                found[path.parent.name, row["key"], row["sample"]] += 1
        return found


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("undisturbed"))
    place.finish()
    return place


def test_killed_in_every_stage_it_ends_with_the_same_bytes(undisturbed: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    for kind in KINDS:
        assert place.killed_in(kind) == -signal.SIGKILL, kind
    place.finish()
    assert place.contents() == undisturbed.contents()
    assert place.pooled() == undisturbed.pooled()
    assert set(place.pooled().values()) == {1}


def test_a_training_behind_a_launcher_is_killed_with_its_run_and_goes_on(undisturbed: Place, tmp_path: Path) -> None:
    place = Place(tmp_path, LAUNCHED)
    place.interrupt(place.training, signal.SIGKILL)
    before = [path.name for path in place.store.glob("making/train-*/scratch/checkpoints/*")]
    assert before
    assert "2 linked" not in place.finish()
    assert place.contents() == undisturbed.contents()


def test_a_request_to_stop_leaves_a_checkpoint(undisturbed: Place, tmp_path: Path) -> None:
    place = Place(tmp_path, LAUNCHED)
    code, said = place.interrupt(place.training, signal.SIGTERM)
    assert code == 143, said
    assert "the same command, or the same call, goes on from here" in said
    steps = [
        int(p.parent.name.partition("-")[2]) for p in place.store.glob("making/train-*/scratch/checkpoints/*/complete")
    ]
    assert max(steps) < 12
    assert not list(place.store.glob("artifacts/train-*/manifest.json"))
    assert not list(place.store.glob("claims/*.json"))
    place.finish()
    assert place.contents() == undisturbed.contents()


def test_two_runs_on_one_store_make_each_stage_once(undisturbed: Place, tmp_path: Path) -> None:
    place = Place(tmp_path)
    runs = [place.start(), place.start()]
    said = [run.communicate(timeout=250)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    executed = [int(re.search(r"(\d+) stages executed", text)[1]) for text in said]  # type: ignore[index]
    assert sum(executed) == len(place.made())
    assert place.contents() == undisturbed.contents()
    assert set(place.pooled().values()) == {1}
