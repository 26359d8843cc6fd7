"""Pause a run while another host takes its stage over, and wake it: `python tests/attack/pauses.py`.

The other host has host name and process numbers of its own (`unshare`); where that is not allowed, only another name.
The run that wakes says what it has lost, waits, and touches nothing: every answer is there once, nothing is made twice.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ground import Ground, MarkedRun, folder, report, until

OTHER = ("unshare", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-c", 'hostname other; exec "$@"', "sh")
Trial = tuple[str, str]
TRIALS: tuple[Trial, ...] = (("generate", "taken"), ("generate", "ended"), ("train", "taken"), ("train", "made"))
"""A stage's kind, and when the first run wakes: as soon as its claim is taken over, as soon as the artifact is made, or
when the other run has ended."""


def separate() -> bool:
    """Whether this system lets us have another host."""
    return subprocess.run([*OTHER, "true"], capture_output=True, check=False).returncode == 0


def elsewhere(ground: Ground) -> MarkedRun:
    """A run on the other host."""
    if separate():
        return ground.start(OTHER)
    return ground.start(env={"MICOTA_ATTACK_HOST": "other"})


def pause(ground: Ground, reference: dict[str, str], trial: Trial) -> tuple[str, list[str]]:
    """One trial; its name and what did not hold."""
    kind, wake = trial
    name = f"{kind} paused {'behind a launcher' if ground.behind else 'in the run'}, woken when {WORDS[wake]}"
    first = ground.start()
    if not until(lambda: 0.1 < (ground.progress(kind) or 0) < 0.8, first):
        return name, [f"the stage was never half done: {first.said()[-500:]}"]
    first.signal_all(signal.SIGSTOP)
    before = sorted(path.name for path in ground.store.glob(f"making/{kind}-*"))
    second = elsewhere(ground)
    came = until(partial(WAKES[wake], ground, second, kind, before), second)
    first.signal_all(signal.SIGCONT)
    codes = [first.wait(), second.wait()]
    faults = [] if came else [f"the other host did not take it over: {second.said()[-500:]}"]
    if codes != [0, 0]:
        faults.append(f"exit codes {codes}: {first.said()[-800:]} {second.said()[-800:]}")
    if "lost" not in first.said():
        faults.append("the first run says nothing of what it lost")
    return name, faults + ground.faults(reference)


def _taken(ground: Ground, other: MarkedRun, kind: str, before: list[str]) -> bool:
    return not any((ground.store / "making" / name).exists() for name in before)


def _made(ground: Ground, other: MarkedRun, kind: str, before: list[str]) -> bool:
    ids = [name.partition(".")[0] for name in before]
    return all((ground.store / "artifacts" / one / "manifest.json").exists() for one in ids)


def _ended(ground: Ground, other: MarkedRun, kind: str, before: list[str]) -> bool:
    return other.ended()


WAKES: dict[str, Callable[[Ground, MarkedRun, str, list[str]], bool]] = {
    "taken": _taken,
    "made": _made,
    "ended": _ended,
}
WORDS = {"taken": "it is taken over", "made": "the artifact is made", "ended": "the other run has ended"}


def same_host(place: Path, reference: dict[str, str], pause_s: float) -> tuple[str, list[str]]:
    """A pause with a second run on the same host: the process lives, so its claim stays."""
    ground = Ground(place, behind=False, quick=True)
    first = ground.start()
    if not until(lambda: 0.1 < (ground.progress("generate") or 0) < 0.8, first):
        return "a pause on one host", [f"the stage was never half done: {first.said()[-500:]}"]
    first.signal_all(signal.SIGSTOP)
    second = ground.start()
    until(lambda: "wait" in second.said(), second)
    time.sleep(pause_s)
    first.signal_all(signal.SIGCONT)
    codes = [first.wait(), second.wait()]
    faults = [] if codes == [0, 0] else [f"exit codes {codes}"]
    return "a pause on one host", faults + ground.faults(reference)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=len(TRIALS))
    parser.add_argument("--quick", action="store_true", help="claims are void after two seconds instead of a minute")
    parser.add_argument("--folder", help="where to work; it stays")
    given = parser.parse_args()
    print(
        "the other host: " + ("its own UTS and PID namespace" if separate() else "simulated by name (no unshare here)")
    )
    with folder(given.folder) as place:
        calm = Ground(place / "calm")
        calm.finish()
        reference = calm.contents()
        trials = [
            partial(pause, Ground(place / f"pause-{i}-{behind}", behind, given.quick), reference, trial)
            for behind in (False, True)
            for i, trial in enumerate(TRIALS[: given.trials])
        ]
        return report([*trials, partial(same_host, place / "one-host", reference, 8)], at_once=4)


if __name__ == "__main__":
    sys.exit(main())
