"""Damage the checkpoints of an interrupted training: `python tests/attack/checkpoints.py 40`.

Whatever happens to the newest of them, or to all, the training ends with the weights of one that nobody disturbed; a
checkpoint that is not as it was written is set aside with a message.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from damage import BYTES, NO_FILES, Damage, Place, contents, main, strange

RECIPES = {
    "train": """
name: small
let:
  train-set: {problems: {source: "lab:arithmetic", split: train, n: 8}}
  cot: {distil: {from: "lab:student", data: train-set, prompt: "{problem}", precision: float32, keep: all,
                 sampling: {max_tokens: 60}}}
  tuned: {train: {base: "lab:student", data: cot, precision: float32, batch: 4, cutoff: 200, lr: 1e-3, max_steps: 30}}
""",
    "pretrain": """
name: small
let:
  tuned:
    pretrain:
      shape: {width: 16, layers: 1, heads: 1, feedforward: 32}
      window: 200
      phases: [{style: basics, steps: 60, lr: 1e-2, batch: 4}]
""",
}
MACHINE = "jobs: 1\ntrain: {checkpoint_every: 3}\npretrain: {checkpoint_every: 3}\n"
FIND = {"train": "scratch/checkpoints/checkpoint-*", "pretrain": "scratch/*checkpoint.pt"}
RUN = ("run", "small.yaml", "--only", "tuned", "--machine", "machine.yaml")


class Interrupted(Place):
    """A folder with a finished training, and the same one stopped with two checkpoints."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(folder)
        self.kind = kind

    def build(self) -> None:
        self.folder.mkdir()
        (self.folder / "small.yaml").write_text(RECIPES[self.kind])
        (self.folder / "machine.yaml").write_text(MACHINE)
        os.chdir(self.folder)
        said, fault = self.use(self.folder / "whole", *RUN)
        assert fault is None, said + str(fault)
        self.contents = contents(self.folder / "whole")
        stopped = threading.Thread(target=self._stop, daemon=True)
        stopped.start()
        said, fault = self.use(self.folder / "stopped", *RUN)
        assert len(self.checkpoints(self.folder / "stopped")) > 1, said + str(fault)

    def _stop(self) -> None:
        """Ask the training to stop when it has two checkpoints."""
        until = time.monotonic() + 300
        making = self.folder / "stopped" / "making"
        marks = "scratch/checkpoints/*/complete" if self.kind == "train" else FIND[self.kind]
        while len(list(making.glob(f"{self.kind}-*/{marks}"))) < 2 and time.monotonic() < until:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)  # which a run takes as a request to stop

    def checkpoints(self, store: Path) -> list[Path]:
        """The checkpoints, the newest last."""
        found = list(store.glob(f"making/{self.kind}-*/{FIND[self.kind]}"))
        found = [path for path in found if path.is_file() or (path / "complete").exists()]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns)

    def trial(self, name: str, damage: Damage, dice: random.Random) -> str:
        """What is wrong after a damage; "" if nothing is."""
        store = self.folder / "damaged"
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(self.folder / "stopped", store, symlinks=True)
        damage(store, dice)
        said, fault = self.use(store, *RUN)
        if fault:
            return fault
        if contents(store) != self.contents:
            return f"other contents: {said[-1000:]}"
        quiet = "the older one" in name or "complete: gone" in name  # as after a kill
        return "" if "set aside" in said or quiet else f"no word of it: {said[-1000:]}"


def kinds(place: Interrupted) -> Iterator[tuple[str, Damage]]:
    """Each file of the newest checkpoint in each way, then both checkpoints, then only the older one."""
    some = place.checkpoints(place.folder / "stopped")[-1]
    files = sorted(path.name for path in some.iterdir() if path.suffix != ".md") if some.is_dir() else [""]
    for way, damage in {**BYTES, "other JSON": strange}.items():
        if damage in NO_FILES.values() or (some.is_file() and way == "gone"):
            continue
        for name in files:
            yield f"{place.kind}, newest/{name}: {way}", _at(place, (-1,), name, damage)
        yield f"{place.kind}, both: {way}", _at(place, (-1, -2), files[0], damage)
        yield f"{place.kind}, the older one: {way}", _at(place, (-2,), files[0], damage)


def _at(place: Interrupted, which: tuple[int, ...], name: str, damage: Damage) -> Damage:
    def hit(store: Path, dice: random.Random) -> None:
        found = place.checkpoints(store)
        for i in which:
            damage(found[i] / name if name else found[i], dice)

    return hit


def attack(place: Path, number: int, seed: int) -> int:
    """So many trials, a line for each; the number of failures."""
    dice, failures, done = random.Random(seed), 0, 0
    for kind, share in (("train", number - number // 4), ("pretrain", number // 4)):
        ground = Interrupted(place / kind, kind)
        ground.build()
        ways = list(kinds(ground))
        dice.shuffle(ways)
        for name, damage in (ways * number)[:share]:
            done += 1
            wrong = ground.trial(name, damage, dice)
            failures += bool(wrong)
            print(f"{done}: {name}: {'FAILED: ' + wrong if wrong else 'the same weights'}", flush=True)
    print(f"{number - failures} of {number} damaged checkpoints ended with the same weights")
    return failures


if __name__ == "__main__":
    sys.exit(main(attack, __doc__, 40))
