"""What the attacks share: a small whole recipe, runs of it as processes with a mark, and what must hold at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

RECIPE = """
name: attacked
defaults:
  distill: {prompt: "{problem}", precision: float32, by: exact_match, keep: all, sampling: {max_tokens: 100}}
  train: {precision: float32, batch: 8, cutoff: 200, lr: 1e-4, max_steps: STEPS}
let:
  train-set: {problems: {source: "lab:arithmetic", split: train, n: PROBLEMS}}
  test-set: {problems: {source: "lab:arithmetic", split: test, n: 8}}
  student: lab:student
  long-cot: {distill: {from: lab:ta, data: train-set}}
  ta-long: {train: {base: student, data: long-cot}}
  ta-mid: {merge: {base: student, models: [ta-long], method: dare_ties, density: 0.7, weight: 0.5, rescale: l1}}
arms:
  strong: {train: {base: student, data: long-cot, lr: LAST}}
evaluate: {models: [arms, ta-mid], data: [test-set], prompt: "{problem}", precision: float32, sampling: {max_tokens: 8}}
"""
LIGHT = """
name: attacked
defaults: {distill: {prompt: "{problem}", sampling: {max_tokens: 100}, keep: all}}
let:
  train-set: {problems: {source: "lab:arithmetic", split: train, n: PROBLEMS}}
  test-set: {problems: {source: "lab:arithmetic", split: test, n: 8}}
  long-cot: {distill: {from: "endpoint:fake", data: train-set}}
evaluate: {models: ["endpoint:fake"], data: [test-set], prompt: "{problem}", sampling: {max_tokens: 100}}
"""
"""With a server in place of models: no run has to load torch."""
MACHINE = "jobs: 2\nthreads: 1\ngenerate: {batch: 4PREFIX}\ntrain: {checkpoint_every: 3PREFIX}\n"
START = """
import os, socket
from micota.store import locks
from micota.cli.main import main
if os.environ.get("MICOTA_ATTACK_QUICK"):
    locks.STALE_S, locks.BEAT_S = 2.0, 0.2
if host := os.environ.get("MICOTA_ATTACK_HOST"):
    socket.gethostname = lambda: host
main()
"""
MARK = "MICOTA_ATTACK"


@dataclass
class Ground:
    """A folder with the recipe, a machine profile and a store; each run is a process group with a mark of its own.

    `behind` runs generation and training in processes of their own; `quick` takes claims over after two seconds.
    """

    folder: Path
    behind: bool = True
    quick: bool = False
    problems: int = 40
    steps: int = 12
    url: str = ""
    """Of a server to ask in place of models; there is nothing to train then."""
    store: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = self.folder / "store"
        text = (LIGHT if self.url else RECIPE).replace("STEPS", str(self.steps)).replace("PROBLEMS", str(self.problems))
        (self.folder / "attacked.yaml").write_text(text.replace("LAST", "2e-4"))
        (self.folder / "other.yaml").write_text(text.replace("LAST", "3e-4").replace("attacked", "other"))
        prefix = ', prefix: "env MICOTA_BEHIND=1"' if self.behind else ""
        machine = MACHINE.replace("PREFIX", prefix)
        if self.url:
            machine = f"generate: {{engine: openai, url: '{self.url}', batch: 2{prefix}}}\n"
        (self.folder / "machine.yaml").write_text(machine)

    def command(self, *words: str) -> list[str]:
        """A command of micota on this store."""
        return [sys.executable, "-c", START, *words, "--store", str(self.store)]

    def start(
        self,
        before: Sequence[str] = (),
        recipe: str = "attacked",
        env: dict[str, str] | None = None,
        terminal: int | None = None,
    ) -> MarkedRun:
        """Start a run behind the words `before`; `terminal` is a descriptor that it writes to."""
        command = self.command("run", f"{recipe}.yaml", "--machine", "machine.yaml")
        quick = {"MICOTA_ATTACK_QUICK": "1"} if self.quick else {}
        return MarkedRun([*before, *command], self.folder, {**quick, **(env or {})}, terminal)

    def finish(self, recipe: str = "attacked") -> str:
        """A run to the end; what it prints. Raises AssertionError if it fails."""
        run = self.start(recipe=recipe)
        code = run.wait()
        assert code == 0, f"exit code {code}: {run.said()[-2000:]}"
        return run.said()

    def contents(self) -> dict[str, str]:
        """The content hash of every artifact."""
        found = {path.parent.name: path for path in self.store.glob("artifacts/*/manifest.json")}
        return {name: json.loads(path.read_text())["content"] for name, path in sorted(found.items())}

    def faults(self, reference: dict[str, str]) -> list[str]:
        """What does not hold of a store on which every run has ended: equal contents, nothing twice, nothing left."""
        mine = self.contents()
        wrong = [
            f"{name}: another content" for name in sorted(mine.keys() & reference) if mine[name] != reference[name]
        ]
        missing = sorted(reference.keys() - mine.keys())
        twice = [key for key, n in self.pooled().items() if n > 1]
        manifests = [json.loads(path.read_text()) for path in self.store.glob("artifacts/*/manifest.json")]
        replaced = [f"{m['kind']} was made twice" for m in manifests if "replaces" in m["made"]]
        left = [str(path.relative_to(self.store)) for path in self._litter()]
        return [
            *wrong,
            *(f"{name} is missing" for name in missing),
            *([f"{len(twice)} answers are there twice"] if twice else []),
            *replaced,
            *(f"{name} was left" for name in left),
        ]

    def pooled(self) -> Counter[tuple[str, str, int]]:
        """How often each answer is there."""
        found: Counter[tuple[str, str, int]] = Counter()
        for path in self.store.glob("pools/*/*.jsonl"):
            for line in path.read_bytes().split(b"\n"):
                if line.endswith(b"}"):
                    row = json.loads(line)
                    found[path.parent.name, row["key"], row["sample"]] += 1
        return found

    def _litter(self) -> Iterator[Path]:
        for path in self.store.rglob("*"):
            own = path.name in (".lock", "claims", "making")
            inside = path.parent.name in ("claims", "making") or path.name.startswith(".")
            if inside and not own:
                yield path

    def progress(self, kind: str) -> float | None:
        """How far a stage of this kind is that is under way, as a part of it all; None if there is none."""
        for path in self.store.glob(f"making/{kind}-*/progress.json"):
            try:
                at = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            return float(at["done"]) / float(at["total"])
        return None


class MarkedRun:
    """A run of micota and all that it starts, found by a mark in their environment."""

    def __init__(
        self, command: Sequence[str], folder: Path, env: dict[str, str] | None = None, terminal: int | None = None
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._log = folder / f"out-{self.mark}.txt"
        own = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", MARK: self.mark}
        with open(self._log, "wb") as out:
            environment = {**os.environ, **own, **(env or {})}
            self.process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=terminal or out, stderr=out, start_new_session=True
            )

    def said(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self, seconds: float = 600) -> int:
        """The exit code; a run that does not end in that time is killed, which is -9."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal_all(9)
            return self.process.wait()

    def all(self) -> list[psutil.Process]:
        """Its processes, those in other sessions and namespaces too."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def signal_all(self, number: int) -> None:
        for process in self.all():
            try:
                process.send_signal(number)
            except psutil.Error:
                continue

    def gone(self, seconds: float = 10) -> bool:
        """Whether all its processes are gone in this time."""
        until = time.monotonic() + seconds
        while self.all() and time.monotonic() < until:
            time.sleep(0.1)
        return not self.all()


def until(what: Callable[[], object], run: MarkedRun, seconds: float = 900) -> bool:
    """Wait for something, or for the end of a run; whether it came."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if what():
            return True
        if run.ended():
            return bool(what())
        time.sleep(0.02)
    return False


@contextmanager
def folder(given: str | None = None) -> Iterator[Path]:
    """A folder for the trials, which goes away; or the one that is given, which stays."""
    if given:
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="micota-attack-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def report(trials: Sequence[Callable[[], tuple[str, list[str]]]], at_once: int = 2) -> int:
    """Run trials, print a line for each, and at the end how many held; the exit code."""
    failed = 0
    with ThreadPoolExecutor(at_once) as pool:
        for name, faults in pool.map(_caught, trials):
            failed += bool(faults)
            print(
                f"{'FAILED' if faults else 'held'}  {name}" + "".join(f"\n        {one}" for one in faults), flush=True
            )
    print(f"{len(trials) - failed} of {len(trials)} held", flush=True)
    return int(bool(failed))


def _caught(trial: Callable[[], tuple[str, list[str]]]) -> tuple[str, list[str]]:
    try:
        return trial()
    except Exception as error:
        return "a trial", [f"{type(error).__name__}: {error}"]
