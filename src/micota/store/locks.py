"""Claims: files that say who is making an artifact, so that two runs on one store do each stage once.

A claim names host, process and a token of its own, and is touched every few seconds. It is void when its process is
gone (same host), or when this process has watched it for a minute and seen no touch (another host): no clock is read
but its own. A run that was paused can lose a claim, so whoever holds one checks it before each write.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from micota.atomic import NoFile, files_only, read_json, write_json
from micota.errors import ClaimLost

BEAT_S = 5.0
STALE_S = 60.0


@dataclass(frozen=True)
class Claim:
    """A claim that this run has taken; `over` if it was that of another host, which may only have been paused."""

    path: Path
    token: str
    over: bool = False

    def check(self) -> None:
        """Raises ClaimLost if another run has taken it over."""
        try:
            with open(self.path, "rb", opener=files_only) as file:
                mine = _token(file) == self.token
        except (FileNotFoundError, NoFile):
            mine = False
        if not mine:
            raise ClaimLost(f"the claim on {self.path.stem} is lost: {holder(self.path) or 'no run'} has it now")


class Locks:
    """The claims that this process holds; one thread keeps them fresh."""

    def __init__(self) -> None:
        self._held: dict[Path, str] = {}
        self._watched: dict[Path, tuple[tuple[Any, int] | None, float, float]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def acquire(self, path: Path) -> Claim | None:
        """Claim `path`; None while somebody else holds it. A void claim is taken over."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent / ".lock"):
            for left in path.parent.glob(".*.json.*-*"):  # of a run that was killed while it wrote a claim
                left.unlink(missing_ok=True)
            here = read_json(path).get("host") == _host()
            if not self.void(path):
                return None
            claim = Claim(path, secrets.token_hex(4), path.exists() and not here)
            me = {"host": _host(), "pid": os.getpid(), "started": _started(os.getpid()), "token": claim.token}
            write_json(path, me)
        with self._lock:
            self._held[path] = claim.token
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True)
                self._thread.start()
        return claim

    def release(self, path: Path) -> None:
        """Give a claim back, unless another run has taken it over."""
        with self._lock:
            token = self._held.pop(path, None)
        with contextlib.suppress(OSError, ClaimLost), locked(path.parent / ".lock"):
            Claim(path, str(token)).check()
            path.unlink()

    def acquire_patiently(self, path: Path) -> Claim | None:
        """The same, after a minute of watching where it is another host's that may be gone."""
        until = time.monotonic() + STALE_S + 2 * BEAT_S
        while (claim := self.acquire(path)) is None and time.monotonic() < until:
            if read_json(path).get("host") == _host():
                break
            time.sleep(1)
        return claim

    def void(self, path: Path) -> bool:
        """Whether nobody holds a claim. Ask again and again: of another host's it is known after a minute."""
        if not path.exists() or holder(path) is None:
            return True
        if read_json(path).get("host") == _host():
            return False
        now, seen = time.monotonic(), _mark(path)
        mark, quiet, looked = self._watched.get(path, (seen, 0.0, now))
        # a watcher that was paused itself has seen nothing in the meantime
        quiet = quiet + min(now - looked, BEAT_S) if mark == seen else 0.0
        self._watched[path] = seen, quiet, now
        return quiet > STALE_S

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with self._lock:
                held = list(self._held.items())
            for path, token in held:
                with (
                    contextlib.suppress(OSError),
                    open(path, "rb", opener=files_only) as file,
                ):  # a server may come back
                    if _token(file) == token:
                        os.utime(file.fileno())


def holder(path: Path) -> str | None:
    """Who holds a claim, in words; None if nobody does, or a process of this host that is gone."""
    if not path.exists():
        return None
    data = read_json(path)
    if not data:
        return "a run whose claim cannot be read"
    if data.get("host") == _host() and _started(data.get("pid")) != data.get("started"):
        return None
    return f"process {data.get('pid')} on {str(data.get('host')).split('/')[0]}"


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the kernel's lock on a file; it goes when the process does. With `wait` off, False if it is taken."""
    with open(path, "a", opener=files_only) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        except OSError as error:
            error.filename = str(path)
            raise
        yield True


def _token(file: Any) -> Any:
    try:
        return json.load(file).get("token")
    except (ValueError, AttributeError):
        return None


def _mark(path: Path) -> tuple[Any, int] | None:
    """What changes with each touch. The file is opened, as a network file system looks at its server only then."""
    try:
        with open(path, "rb", opener=files_only) as file:
            return _token(file), os.fstat(file.fileno()).st_mtime_ns
    except (FileNotFoundError, NoFile):
        return None


def _host() -> str:
    """The machine, since which boot, and in a container its process namespace: process ids mean something only there.

    Machines that were copied from one image share a name.
    """
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return "/".join(parts)


def _started(pid: Any) -> str | None:
    """When a living process began, as its system counts, by no clock that can be set; None if it is gone."""
    if not isinstance(pid, int):
        return None
    with contextlib.suppress(OSError):
        state, *rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
        return None if state in "ZX" else rest[18]
    try:
        return None if Path("/proc/self/stat").exists() else str(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
