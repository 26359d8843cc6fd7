"""Which slow suites are due: `python tests/suites.py` lists them, `run` runs those that are due, `run NAME...` these.

With `--minutes N` no further suite begins after that time; those that are left stay due, and are named.

A suite is due when a path that suites.toml lists for it differs from suites.lock, which holds the hashes at the suite's
last green run. Only a green run writes the lock, so a change that nobody has tested cannot pass unseen.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SUITES = Path(__file__).with_suffix(".toml")
LOCK = Path(__file__).with_suffix(".lock")


def suites() -> dict[str, dict[str, Any]]:
    """The suites by name, in the order in which they run."""
    return tomllib.loads(SUITES.read_text(encoding="utf-8"))


def files(path: str) -> list[Path]:
    """The files at a path below the root; compiled files are no part of it."""
    if (ROOT / path).is_file():
        return [ROOT / path]
    return sorted(p for p in (ROOT / path).rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def state(suite: dict[str, Any]) -> dict[str, str]:
    """The hash of each path of a suite: of its files' names and bytes."""
    found = {}
    for path in suite["paths"]:
        total = hashlib.sha256()
        for file in files(path):
            name = file.relative_to(ROOT).as_posix()
            total.update(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        found[path] = total.hexdigest()[:16]
    return found


def recorded() -> dict[str, dict[str, str]]:
    """What the last green run of each suite saw."""
    return dict(json.loads(LOCK.read_text(encoding="utf-8"))) if LOCK.exists() else {}


def changed(name: str) -> list[str]:
    """The paths of a suite that differ from its last green run."""
    now, then = state(suites()[name]), recorded().get(name, {})
    return [path for path in {**now, **then} if now.get(path) != then.get(path)]


def record(name: str, seen: dict[str, str]) -> None:
    """Write to the lock that the suite was green on these hashes."""
    green = {key: value for key, value in recorded().items() if key in suites()} | {name: seen}
    LOCK.write_text(json.dumps(green, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def describe(name: str) -> str:
    """One line about a suite: whether it is due, and why."""
    paths = changed(name)
    if not paths:
        return (
            f"left out  {name}: {suites()[name]['what']} (nothing that it tests has changed since its last green run)"
        )
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return f"due       {name}: {suites()[name]['what']} (changed: {', '.join(paths[:3])}{more})"


def run(names: list[str], minutes: float) -> tuple[list[str], list[str]]:
    """Run suites by their make targets and record the green ones; the names of those that failed, and were left."""
    failed, left, began = [], [], time.monotonic()
    for name in names:
        if time.monotonic() - began > 60 * minutes:
            left.append(name)
            continue
        print(f"== make {name}", flush=True)
        seen = state(suites()[name])
        if subprocess.run(["make", name], cwd=ROOT, check=False).returncode:
            failed.append(name)
        else:
            record(name, seen)
    return failed, left


def main(words: list[str]) -> int:
    """Nothing, `run`, or `run NAME...`, with `--minutes N`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run"], nargs="?")
    parser.add_argument("names", metavar="NAME", nargs="*")
    parser.add_argument("--minutes", type=float, default=math.inf)
    given = parser.parse_args(words)
    if unknown := [name for name in given.names if name not in suites()]:
        parser.error(f"no such suite: {', '.join(unknown)}; there are {', '.join(suites())}")
    lines = [describe(name) for name in suites()]
    print("\n".join(lines), flush=True)
    if not given.command:
        return 0
    failed, left = run(given.names or [name for name in suites() if changed(name)], given.minutes)
    print("\n".join(lines))
    if left:
        print(f"not begun within {given.minutes:g} minutes, still due: {', '.join(left)}")
    print(f"failed: {', '.join(failed)}" if failed else f"every suite that {'ran' if left else 'was due'} is green")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
