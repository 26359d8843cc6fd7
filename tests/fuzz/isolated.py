"""Each hostile case in a child of its own: no crash, no traceback, no hang above ten seconds, memory below 1 GB."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random

from micota.errors import PlainError

SECONDS, BYTES = 10, 2**30
Case = tuple[str, Callable[[Path], None]]
"""A case's name, and what is done with it in an empty folder; a PlainError is a right end."""


def faults(cases: Iterable[Case]) -> tuple[Counter[str], list[str]]:
    """How the cases ended (`accepted`, `refused`), and a line about each that ended in no right way."""
    ends: Counter[str] = Counter()
    wrong: list[str] = []
    for name, run in cases:
        with tempfile.TemporaryDirectory() as folder:
            end, memory = _end(run, Path(folder))
        if memory > BYTES:
            end = f"{memory >> 20} MB of memory"
        ends[end if end in ("accepted", "refused") else "wrong"] += 1
        if end not in ("accepted", "refused"):
            wrong.append(f"{name}: {end}")
    return ends, wrong


def _end(run: Callable[[Path], None], folder: Path) -> tuple[str, int]:
    """How one case ended, and the most bytes that its process took beyond those of this one."""
    said = folder / "said"
    child = os.fork()
    if child == 0:
        _child(run, folder, said)
    _, status, used = os.wait4(child, 0)
    memory = 1024 * (used.ru_maxrss - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "a hang" if number == signal.SIGALRM else signal.Signals(number).name, memory
    return said.read_text(errors="replace") if said.exists() else "accepted", memory


def _child(run: Callable[[Path], None], folder: Path, said: Path) -> None:
    signal.alarm(SECONDS)
    (folder / "case").mkdir()
    try:
        run(folder / "case")
    except PlainError as error:
        message = str(error)
        plain = message.strip() and all(one.isprintable() or one == "\n" for one in message)
        said.write_text("refused" if plain else f"the message {message!r}")
    except BaseException:
        said.write_text(traceback.format_exc()[-1500:], errors="replace")
    finally:
        os._exit(0)


def main(cases: Callable[[int, Random], Iterable[Case]], usual: int) -> None:
    """The command line of a generator of cases: `python tests/fuzz/recipes.py 300 --seed 1`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int, nargs="?", default=usual)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    ends, wrong = faults(cases(given.count, Random(given.seed)))
    print(*wrong, sep="\n")
    print(", ".join(f"{n} {word}" for word, n in sorted(ends.items())))
    sys.exit(bool(wrong))
