"""What is being made in a store now and what was left unfinished, by its claims and work folders. Reads only."""

from __future__ import annotations

import time
from dataclasses import dataclass

from micota.atomic import read_json
from micota.housekeeping.holdings import Work, works
from micota.store.artifacts import Store


@dataclass(frozen=True)
class Activity:
    """A stage that runs or was left: how far it is, in its unit; `rate` in units a second and `left_s` where known.

    `said` is its own note while it runs, and of one that was left what its error or the end of its log says.
    """

    work: Work
    since_s: float
    done: float | None = None
    total: float | None = None
    unit: str = ""
    rate: float | None = None
    left_s: float | None = None
    said: str = ""

    @property
    def kind(self) -> str:
        return self.work.id.partition("-")[0]


def activities(store: Store) -> tuple[list[Activity], list[Activity]]:
    """The stages that run now, and those that were left."""
    found = [_activity(work) for work in works(store) if work.who or not work.done]
    return [one for one in found if one.work.who], [one for one in found if not one.work.who]


def _activity(work: Work) -> Activity:
    at = read_json(work.path / "progress.json")
    said = str(at.get("note", "")) if work.who else _last_words(work)
    since = work.age_s if not work.who else _running_for(work)
    if "total" not in at:
        return Activity(work, since, said=said)
    began = at.get("began", {})
    seconds, steps = at.get("at", 0) - began.get("at", 0), at["done"] - began.get("done", 0)
    rate = steps / seconds if work.who and began and seconds > 0 and steps > 0 else None
    left = (at["total"] - at["done"]) / rate if rate else None
    return Activity(work, since, at["done"], at["total"], at["unit"], rate, left, said)


def _running_for(work: Work) -> float:
    """Seconds since its run began it: the task is written at the beginning."""
    try:
        return time.time() - (work.path / "task.json").stat().st_mtime
    except OSError:
        return 0.0


def _last_words(work: Work) -> str:
    """The error of a failed stage, else the last line of its log."""
    for name in ("error.txt", "log.txt"):
        try:
            lines = [line for line in (work.path / name).read_text(errors="replace").splitlines() if line.strip()]
        except OSError:
            continue
        if lines:
            return lines[0] if name == "error.txt" else lines[-1]
    return ""
