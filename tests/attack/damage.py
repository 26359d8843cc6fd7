"""Damage a finished store in one place, and use it: `python tests/attack/damage.py 60`.

After each damage come the commands that only look, then a run. In the end every artifact has the contents that it had,
or what was printed names the damaged file; there is never a traceback, and never another table without a word.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import shutil
import socket
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

RECIPE = """
name: small
defaults:
  distil: {prompt: "{problem}", precision: float32, by: exact_match, keep: all, sampling: {max_tokens: 60}}
  train: {precision: float32, batch: 4, cutoff: 200, lr: 1e-3, max_steps: 2}
let:
  train-set: {problems: {source: "lab:arithmetic", split: train, n: 8}}
  test-set: {problems: {source: "lab:arithmetic", split: test, n: 4}}
  student: lab:student
  long-cot: {distil: {from: "lab:student", data: train-set}}
  ta-long: {train: {base: student, data: long-cot}}
  ta-mid: {merge: {base: student, models: [ta-long], method: dare_ties, density: 0.7, weight: 0.5, rescale: l1}}
arms:
  instruct: student
  micota: {train: {base: student, data: long-cot, lr: 2e-3}}
evaluate: {models: [arms, ta-mid], data: [test-set], prompt: "{problem}", precision: float32,
           sampling: {max_tokens: 40}}
"""
LOOKS = (
    ("show", "small/ta-mid"),
    ("plan", "small.yaml"),
    ("du",),
    ("status",),
    ("gc",),
    ("report", "small.yaml"),
    ("verify",),
    ("export", "small/ta-mid", "OUT/model"),
    ("export", "small/long-cot", "OUT/rows"),
)
MAKE = ("run", "small.yaml", "--machine", "machine.yaml")
Damage = Callable[[Path, random.Random], None]


def flip(path: Path, dice: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def cut(path: Path, dice: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: dice.randrange(1, len(data))])


def zeros(path: Path, dice: random.Random) -> None:
    data = path.read_bytes()
    at = dice.randrange(len(data))
    path.write_bytes(data[:at] + bytes(min(200, len(data) - at)) + data[at + 200 :])


def folder(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path, dice: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def device(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def nowhere(path: Path, dice: random.Random) -> None:
    path.unlink()
    path.symlink_to("no-such-file")


def plug(path: Path, dice: random.Random) -> None:
    """A socket; its address is short, however long the path is."""
    path.unlink()
    with socket.socket(socket.AF_UNIX) as one, contextlib.chdir(path.parent):
        one.bind(path.name)


def digit(path: Path, dice: random.Random) -> None:
    """Another digit in the place of one: JSON stays JSON. A file without digits gets another byte."""
    data = path.read_bytes()
    at = dice.choice([i for i, byte in enumerate(data) if byte in b"0123456789"] or [0])
    path.write_bytes(data[:at] + str((data[at] - 47) % 10).encode() + data[at + 1 :])


def better(path: Path, dice: random.Random) -> None:
    """Verdicts that are too good, in lines of the same length."""
    text = path.read_text().replace('"verdict":"wrong"', '"verdict":"right"')
    path.write_text(text.replace('"verdict":"no_answer"', '"verdict":"correct"  '))


def newer(path: Path, dice: random.Random) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "from_the_future": 1}))


def older(path: Path, dice: random.Random) -> None:
    data = json.loads(path.read_text())
    data.pop(dice.choice(sorted(data.keys() - {"same_as", "facts", "made", "pools", "seal"})))
    path.write_text(json.dumps(data))


def strange(path: Path, dice: random.Random) -> None:
    path.write_text(dice.choice(("[]", "{}", "null", "3", '{"host": 1}', "[" * 5000)))


BYTES: dict[str, Damage] = {
    "a flipped bit": flip,
    "cut short": cut,
    "zeros": zeros,
    "empty": lambda path, dice: path.write_bytes(b"") and None,
    "noise": lambda path, dice: path.write_bytes(dice.randbytes(300)) and None,
    "noise of its size": lambda path, dice: path.write_bytes(dice.randbytes(path.stat().st_size)) and None,
    "gone": lambda path, dice: path.unlink(),
    "another digit": digit,
}
NO_FILES: dict[str, Damage] = {
    "a folder in its place": folder,
    "a pipe in its place": pipe,
    "a device in its place": device,
    "a socket in its place": plug,
    "a link to nowhere in its place": nowhere,
}
BYTES |= NO_FILES
RECORD: dict[str, Damage] = {"a newer field": newer, "a field less": older, "other JSON": strange}
VERDICTS: dict[str, Damage] = {"better verdicts": better}
KINDS = ("problems", "generate", "verify", "select", "train", "merge")
FILES = ("config.json", "tokenizer.json", "generation_config.json")
PLACES: dict[str, dict[str, Damage]] = {
    **{
        f"artifacts/{kind}-*/manifest.json": {**BYTES, **RECORD}
        for kind in ("problems", "generate", "verify", "select")
    },
    **{f"artifacts/{kind}-*/manifest.json": {**BYTES, **RECORD} for kind in ("train", "merge")},
    **{f"artifacts/{kind}-*/files/rows.jsonl": BYTES for kind in ("problems", "generate", "select")},
    "artifacts/verify-*/files/rows.jsonl": {**BYTES, **VERDICTS},
    **{f"artifacts/{kind}-*/files/model.safetensors": BYTES for kind in ("train", "merge")},
    **{
        f"artifacts/merge-*/files/{name}": BYTES for name in ("config.json", "tokenizer.json", "generation_config.json")
    },
    "pools/*/*.jsonl": BYTES,
    "pools/*/pool.json": {**BYTES, "other JSON": strange},
    "inputs/*": {**BYTES, "other JSON": strange},
}


def claims(store: Path, dice: random.Random) -> None:
    (store / "claims").mkdir(exist_ok=True)
    for path in store.glob("artifacts/*"):
        strange(store / "claims" / f"{path.name}.json", dice)


def names(store: Path, dice: random.Random) -> None:
    for path in (store / "names" / "small").iterdir():
        path.unlink()
        what = dice.choice(("file", "folder", "nowhere", "outside"))
        if what == "file":
            path.write_text("x")
        elif what == "folder":
            path.mkdir()
        else:
            path.symlink_to("../../artifacts/train-0000000000000000" if what == "nowhere" else "/etc")


def strays(store: Path, dice: random.Random) -> None:
    (store / "artifacts" / "stray").mkdir()
    (store / "artifacts" / "stray" / "manifest.json").write_text("{}")
    for place in ("artifacts", "pools", "names", "names/small", "inputs", "making"):
        (store / place).mkdir(exist_ok=True)
        (store / place / "x.txt").write_text("hello")


def reports(store: Path, dice: random.Random) -> None:
    shutil.rmtree(store / "reports")
    (store / "reports").write_text("x")


def leftovers(store: Path, dice: random.Random) -> None:
    """Work folders with files that say nothing."""
    for path in list(store.glob("artifacts/*"))[:4]:
        work = store / "making" / path.name
        work.mkdir(parents=True)
        for name in ("task.json", "progress.json", "error.txt"):
            strange(work / name, dice)


def swapped(store: Path, dice: random.Random) -> None:
    """The manifest of another artifact of the same kind."""
    one, other = sorted(store.glob("artifacts/verify-*/manifest.json"))[:2]
    shutil.copyfile(one, other)


WHOLE: dict[str, Damage] = {
    "claims of nobody": claims,
    "names that lead nowhere": names,
    "strays": strays,
    "a file in the place of the reports": reports,
    "work folders that say nothing": leftovers,
    "another's manifest": swapped,
}


def trials(number: int, dice: random.Random) -> list[tuple[str, Damage]]:
    """So many kinds of damage, of each place some."""

    def at(place: str, damage: Damage) -> Damage:
        def hit(store: Path, dice: random.Random) -> None:
            damage(dice.choice(sorted(store.glob(place))), dice)

        return hit

    kinds = [
        [(f"{place}: {what}", at(place, damage)) for what, damage in some.items()] for place, some in PLACES.items()
    ]
    for some in kinds:
        dice.shuffle(some)
    kinds.append(list(WHOLE.items()))
    rounds = [some[turn % len(some)] for turn in range(max(map(len, kinds))) for some in kinds if turn < len(some)]
    return [rounds[i % len(rounds)] for i in range(number)]


@dataclass
class Place:
    """A folder with the recipe and one finished store, which is copied for each trial."""

    folder: Path

    def build(self) -> None:
        (self.folder / "small.yaml").write_text(RECIPE)
        (self.folder / "machine.yaml").write_text("jobs: 1\n")
        said, fault = self.use(self.folder / "whole", *MAKE)
        assert fault is None, said + fault
        self.contents, self.report = contents(self.folder / "whole"), self.table(self.folder / "whole")

    def table(self, store: Path) -> str:
        path = store / "reports" / "small" / "report.md"
        return path.read_text() if path.is_file() else ""

    def use(self, store: Path, *words: str) -> tuple[str, str | None]:
        """What a command prints, and its traceback if it is not a message that ends it."""
        from micota.cli import console
        from micota.cli.main import app
        from micota.errors import PlainError, of_system

        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.showwarning = console.warnings_once()
            try:
                app([*words, "--store", str(store)], standalone_mode=False)
            except PlainError as error:
                return f"{out.getvalue()}\nerror: {error}", None
            except OSError as error:  # as the command itself ends
                return (f"{out.getvalue()}\nerror: {of_system(error, store)}", None) if error.errno else _fault(out)
            except Exception:
                return _fault(out)
        return out.getvalue(), None

    def trial(self, name: str, damage: Damage, dice: random.Random) -> str:
        """What is wrong after a damage; "" if nothing is."""
        store, out = self.folder / "damaged", self.folder / "out"
        for path in (store, out):
            shutil.rmtree(path, ignore_errors=True)
        out.mkdir()
        shutil.copytree(self.folder / "whole", store, symlinks=True)
        before = {path: _state(path) for path in store.rglob("*")}
        damage(store, dice)
        hit = [path for path in {*before, *store.rglob("*")} if before.get(path) != _state(path)]
        said = ""
        for words in (*LOOKS, MAKE, ("verify",)):
            text, fault = self.use(store, *(word.replace("OUT", str(out)) for word in words))
            said += text
            if fault:
                return f"{words[0]}: {fault.strip().splitlines()[-1]}\n{fault}"
        named = any(word in said for path in hit for word in _words(path, store))
        differing = [id for id, content in self.contents.items() if contents(store).get(id) != content]
        if (differing or self.table(store) != self.report) and not named:
            return f"another table or other contents without a word: {differing}"
        return ""


def _fault(out: io.StringIO) -> tuple[str, str]:
    return out.getvalue(), traceback.format_exc()


def _words(path: Path, store: Path) -> list[str]:
    """What of a path a message may name: its artifact, its pool, or the path itself."""
    parts = path.relative_to(store).parts
    return [str(path), os.path.join(*parts), *(parts[1:2] if parts[0] in ("artifacts", "pools", "claims") else [])]


def _state(path: Path) -> object:
    if path.is_symlink():
        return os.readlink(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else path.exists()


def contents(store: Path) -> dict[str, str]:
    """The hash of the files of each artifact that has a manifest; where they were removed, the manifest's word."""
    found = {}
    for path in store.glob("artifacts/*/manifest.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            data = json.loads(path.read_text())
            files = path.parent.parent / (data["same_as"] or path.parent.name) / "files"
            there = sorted((file.name, _state(file)) for file in files.rglob("*") if file.is_file())
            found[path.parent.name] = str(there)
    return found


def attack(place: Path, number: int, seed: int) -> int:
    """So many trials, a line for each; the number of failures."""
    dice, ground = random.Random(seed), Place(place)
    os.chdir(place)
    ground.build()
    failures = 0
    for i, (name, damage) in enumerate(trials(number, dice), 1):
        wrong = ground.trial(name, damage, dice)
        failures += bool(wrong)
        print(f"{i}: {name}: {'FAILED: ' + wrong if wrong else 'mended or said'}", flush=True)
    print(f"{number - failures} of {number} kinds of damage were mended or said")
    return failures


def main(attack: Callable[[Path, int, int], int], about: str | None, trials: int) -> int:
    """Read the number of trials and the seed, and make them in a folder that goes: 1 after a failure."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("number", type=int, nargs="?", default=trials)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return min(attack(Path(folder), given.number, given.seed), 1)


if __name__ == "__main__":
    sys.exit(main(attack, __doc__, 60))
