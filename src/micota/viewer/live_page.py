"""What runs in a store now: the stages of all its runs, their losses, and the latest responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from micota.atomic import read_json
from micota.housekeeping.activity import Activity, activities
from micota.store.artifacts import Store
from micota.store.pool import row_files
from micota.store.records import Completion, intact

LATEST = 5  # responses that are shown
LOSSES = 12  # of a training, the last ones
END = 1 << 20  # bytes at the end of a pool's file that are looked at


def live(store: Store) -> dict[str, Any]:
    """The stages that run and those that were left, with the latest losses and responses."""
    store.refresh()
    running, left = activities(store)
    return {
        "running": [(one, losses(one)) for one in running],
        "left": left,
        "latest": latest(store) if running else [],
    }


def losses(activity: Activity) -> list[tuple[int, float]]:
    """The losses of a training by step, as its last checkpoint has them."""
    states = sorted(activity.work.path.rglob("trainer_state.json"), key=_written)
    log = read_json(states[-1]).get("log_history", []) if states else []
    found = [(one["step"], float(one["loss"])) for one in log if isinstance(one, dict) and "loss" in one]
    return found[-LOSSES:]


def latest(store: Store) -> list[Completion]:
    """The last responses that any run has written, the newest first: the last whole lines of the newest files."""
    files = [path for pool in (store.root / "pools").glob("*") for path in row_files(pool)]
    found: list[Completion] = []
    for path in sorted(files, key=_written, reverse=True)[:LATEST]:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - END))
            lines = file.read().splitlines(keepends=True)
        whole = [line for line in lines if intact(line)]
        found += map(Completion.parse, reversed(whole[-LATEST:]))
    return found[:LATEST]


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
