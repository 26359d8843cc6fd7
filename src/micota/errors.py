"""The errors a user can meet: each says what is wrong, where, why it matters, and what to type."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

SHOWN = 40  # names in a message that lists what is known
LONGEST = 3_000  # characters of one part of a message: what was refused can be of any length


def visible(text: str) -> str:
    """A text from anywhere with its control characters written out: none of them reaches a terminal."""
    return "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text.expandtabs(4))


class PlainError(Exception):
    """An error whose message says all: notebooks show it without the way through our code."""

    def __str__(self) -> str:
        return visible(super().__str__())

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class MicotaError(PlainError):
    """A mistake that the user can mend. `str(error)` is the whole message, ready to print."""

    def __init__(self, what: str, *, where: str | None = None, why: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what, self.where, self.why, self.fix = what, where, why, fix

    def __str__(self) -> str:
        parts = [self.what, *(f"  {label}: {text}" for label, text in self._details() if text)]
        return visible("\n".join(part if len(part) <= LONGEST else f"{part[:LONGEST]} ..." for part in parts))

    def _details(self) -> list[tuple[str, str | None]]:
        return [("where", self.where), ("why", self.why), ("fix", self.fix)]


AGAIN = "run the same command again: it goes on from what is done"
ROOM = f"make room there, and {AGAIN}"
OTHER = "--store DIR names another place"
FIXES = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.EROFS: f"mount it for writing; or {OTHER}",
    errno.EACCES: f"give this user the right to it (chown, chmod); or {OTHER}",
    errno.EPERM: f"give this user the right to it, on a file system that can do this; or {OTHER}",
    errno.ENOLCK: f"mount it with locks (flock), as a store needs them; or {OTHER}",
    errno.ENOSYS: f"mount it with locks (flock), as a store needs them; or {OTHER}",
    errno.EOPNOTSUPP: f"mount it with locks (flock), as a store needs them; or {OTHER}",
    errno.EIO: f"look what is wrong with the disk or its server (dmesg), and {AGAIN}",
    errno.EISDIR: f"move the folder away, and {AGAIN}",
    errno.ENXIO: f"move it away, and {AGAIN}",
    errno.EMFILE: f"allow more open files (ulimit -n 8192), and {AGAIN}",
}


def of_system(error: OSError, place: Path, why: str | None = None) -> MicotaError:
    """What the system has refused, as a message; `place` is named where the error names no path of its own."""
    path = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else place
    what = (error.strerror or type(error).__name__).lower()
    if error.errno == errno.ENOSPC:
        what = f"the disk is full: no room for more {'bytes' if full(path) != 'files' else 'files'}"
    fix = FIXES.get(error.errno or 0, f"mend that, and {AGAIN}")
    return MicotaError(what, where=str(path), why=why, fix=fix)


def full(place: Path) -> str | None:
    """What a disk has no room for at a path that need not exist: bytes, files; None if it has."""
    there = next(one for one in (place.absolute(), *place.absolute().parents) if one.exists())
    disk = os.statvfs(there)
    if disk.f_files and not disk.f_favail:
        return "files"
    return "bytes" if disk.f_bavail * disk.f_frsize < 2**16 else None


class StageFailed(PlainError):
    """A stage of a run ended without its artifact; the message says which one and where its log lies."""


class Stopped(PlainError):
    """The run was asked to stop (SIGTERM, Ctrl-C); what was done so far is kept and the same command goes on."""


class ClaimLost(PlainError):
    """Another run has taken a stage over, since this one was paused or cut off for too long; it writes nothing more."""


def expected(value: T, kinds: Any, what: str, fix: str | None = None) -> T:
    """The value, if it is of one of the kinds (classes); else a MicotaError that says what belongs there."""
    if not isinstance(value, kinds):
        raise MicotaError(f"{value!r:.80} is given; {what} is expected here", fix=fix)
    return value


def explained(error: Exception, place: Path) -> Exception:
    """An error as one whose message says all. Libraries report a full disk in their own words, so it is looked at."""
    if isinstance(error, OSError) and error.errno:
        return of_system(error, place)
    if isinstance(error, MicotaError) and str(error):
        return error
    said = f"{'' if isinstance(error, StageFailed) and str(error) else f'{type(error).__name__}: '}{error}".rstrip(": ")
    refused = next((code for code in FIXES if os.strerror(code) in said), errno.ENOSPC if full(place) else 0)
    return of_system(OSError(refused, os.strerror(refused)), place, said) if refused else StageFailed(said)


def suggestion(word: str, known: Iterable[str]) -> str:
    """Name the closest known word, or list them all: `did you mean 'train'?`"""
    options = sorted(set(known))
    close = difflib.get_close_matches(str(word), options, n=1)
    close += [one for one in options if difflib.get_close_matches(str(word), [one.rpartition("/")[2]])]
    if close:
        words = [f"'{one}'" for one in dict.fromkeys(close[:3])]
        return f"did you mean {' or '.join(words)}?"
    more = f" and {len(options) - SHOWN} more" if len(options) > SHOWN + 1 else ""
    return f"known here: {', '.join(options[: SHOWN + (not more)])}{more}" if options else "nothing is known here"
