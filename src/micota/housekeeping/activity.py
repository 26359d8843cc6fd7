"""Which stages run in a store now and which were left unfinished, by its locks and work folders. Reads only."""

from __future__ import annotations

import time
from dataclasses import dataclass

from micota.housekeeping.holdings import WorkFolder, works
from micota.store.artifacts import Store
from micota.store.task import reached


@dataclass(frozen=True)
class Activity:
    """A stage that runs or was left: how far it is, in its unit; `rate` in units a second and `left_s` if known.

    `note` is its own while it runs; of one that was left it is the error or the last line of the log.
    """

    work: WorkFolder
    since_s: float
    note: str
    done: float | None = None
    total: float | None = None
    unit: str = ""
    rate: float | None = None
    left_s: float | None = None

    @property
    def kind(self) -> str:
        """The kind of the stage."""
        return self.work.id.partition("-")[0]


def activities(store: Store) -> tuple[list[Activity], list[Activity]]:
    """The stages that run now, and those that were left."""
    unfinished = [_activity(work) for work in works(store) if work.holder or not work.done]
    return [one for one in unfinished if one.work.holder], [one for one in unfinished if not one.work.holder]


def _activity(work: WorkFolder) -> Activity:
    at = reached(work.path)
    note = (at.note if at else "") if work.holder else _last_words(work)
    since = _running_s(work) if work.holder else work.age_s
    if at is None:
        return Activity(work, since, note)
    rate = at.rate if work.holder else None
    return Activity(work, since, note, at.done, at.total, at.unit, rate, (at.total - at.done) / rate if rate else None)


def _running_s(work: WorkFolder) -> float:
    """Seconds since its run began: the task is written at the beginning."""
    try:
        return time.time() - (work.path / "task.json").stat().st_mtime
    except OSError:
        return 0.0


def _last_words(work: WorkFolder) -> str:
    """The error of a failed stage, else the last line of its log."""
    for name, line in (("error.txt", 0), ("log.txt", -1)):
        try:
            lines = (work.path / name).read_text(errors="replace").splitlines()
        except OSError:
            continue
        if lines := [text for text in lines if text.strip()]:
            return lines[line]
    return ""
