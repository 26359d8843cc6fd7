"""Kill runs at random moments: `python tests/attack/kills.py --kills 60 --concurrent 16`.

A kill hits the whole process group, the run alone, one of the processes that it started, or all of them. At the end the
store has the contents of a run that nobody disturbed, no answer twice, and nothing is left behind.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from ground import Ground, MarkedRun, folder

MODES = ("group", "parent", "child", "all")


def kills(ground: Ground, reference: dict[str, str], number: int, dice: random.Random, span: float) -> Iterator[str]:
    """Kill so many runs, each after up to `span` seconds; a line for each. Raises AssertionError for what is left."""
    done = 0
    while done < number:
        run, mode = ground.start(), MODES[done % len(MODES)]
        time.sleep(dice.uniform(0.5, span))
        if run.ended():
            assert run.wait() == 0, run.said()[-2000:]
            yield from _whole(ground, reference)
            continue
        what = _kill(run, mode, dice)
        run.process.wait()
        assert run.gone(), f"after a kill of the {what} processes live on: {run.all()}"
        done += 1
        yield f"kill {done}: {what}"
    ground.finish()
    yield from _whole(ground, reference)


def _whole(ground: Ground, reference: dict[str, str]) -> Iterator[str]:
    """A run has come to its end: the next begins a store anew."""
    faults = ground.faults(reference)
    assert not faults, "; ".join(faults)
    yield f"a store is whole: {len(reference)} artifacts with equal contents"
    ground.store = ground.store.with_name(ground.store.name + "-next")


def _kill(run: MarkedRun, mode: str, dice: random.Random) -> str:
    """Kill it; the words for what was hit. A run whose child is killed ends by itself."""
    children = psutil.Process(run.process.pid).children(recursive=True) if mode == "child" else []
    if children:
        dice.choice(children).kill()
        run.wait(300)
        return "child"
    if mode == "all":
        run.signal_all(signal.SIGKILL)
    elif mode == "group":
        psutil.Process(run.process.pid).send_signal(signal.SIGSTOP)  # nothing of it sees the others go
        for process in [p for p in run.all() if p.pid != run.process.pid]:
            process.kill()
        run.process.kill()
    else:
        run.process.kill()
    return mode if mode != "child" else "run that had no child"


def concurrent(ground: Ground, references: dict[str, str], number: int, dice: random.Random) -> Iterator[str]:
    """Three runs of two recipes on one store, of which one after the other is killed and started again."""
    recipes = ("attacked", "other", "attacked")
    runs = [ground.start(recipe=name) for name in recipes]
    done = 0
    while done < number:
        time.sleep(dice.uniform(1, 6))
        i = dice.randrange(len(runs))
        if runs[i].ended():
            assert runs[i].wait() == 0, runs[i].said()[-2000:]
            if all(run.ended() for run in runs):
                yield from _whole(ground, references)
                runs = [ground.start(recipe=name) for name in recipes]
            continue
        runs[i].process.kill() if dice.random() < 0.5 else runs[i].signal_all(signal.SIGKILL)
        runs[i].process.wait()
        done += 1
        yield f"kill {done} of concurrent runs: {recipes[i]}"
        runs[i] = ground.start(recipe=recipes[i])
    for run in runs:
        assert run.wait() == 0, run.said()[-2000:]
    yield from _whole(ground, references)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--concurrent", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--span", type=float, default=8, help="the longest that a run may live, in seconds")
    parser.add_argument("--folder", help="where to work; it stays")
    given = parser.parse_args()
    with folder(given.folder) as place:
        return attack(place, given.kills, given.concurrent, given.seed, given.span)


def attack(place: Path, number: int, at_once: int, seed: int, span: float) -> int:
    """Both campaigns; the exit code."""
    calm = Ground(place / "calm")
    calm.finish()
    reference = calm.contents()
    calm.finish("other")
    campaigns = {
        "kills": kills(Ground(place / "kills"), reference, number, random.Random(seed), span),
        "kills of concurrent runs": concurrent(
            Ground(place / "concurrent"), calm.contents(), at_once, random.Random(seed + 1)
        ),
    }
    failed = 0
    for name, lines in campaigns.items():
        try:
            for line in lines:
                print(line, flush=True)
        except AssertionError as error:
            failed = 1
            print(f"FAILED  {name}: {error}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
