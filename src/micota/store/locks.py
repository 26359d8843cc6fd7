"""Locks: files that say who is making an artifact, so that two runs on one store do each stage once.

A lock file names host and process and is touched every few seconds. It is void when its process is gone (same host) or
when it has not been touched for a minute (another host). It lies in the store's folder `claims`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from micota.atomic import read_json, write_json

BEAT_S = 5.0
STALE_S = 60.0


def _host() -> str:
    """The machine and, in a container, its process namespace: process ids mean something only there."""
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


class Locks:
    """The locks that this process holds; one thread keeps them fresh."""

    def __init__(self) -> None:
        self._held: set[Path] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._me = {"host": _host(), "pid": os.getpid(), "started": psutil.Process().create_time()}

    def acquire(self, path: Path) -> bool:
        """Lock `path`; False while somebody else holds it. A void lock is taken over."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent / ".lock"):
            if path.exists() and not _void(path):
                return False
            write_json(path, self._me)
        with self._lock:
            self._held.add(path)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, daemon=True)
                self._thread.start()
        return True

    def release(self, path: Path) -> None:
        """Give a lock back."""
        with self._lock:
            self._held.discard(path)
        path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while True:
            time.sleep(BEAT_S)
            with self._lock:
                for path in self._held:
                    with contextlib.suppress(FileNotFoundError):
                        os.utime(path)


def holder(path: Path) -> str | None:
    """Who holds a valid lock, in words; None if nobody does."""
    if not path.exists() or _void(path):
        return None
    data = read_json(path)
    return f"process {data.get('pid')} on {str(data.get('host')).split('/')[0]}"


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the kernel's lock on a file; it goes when the process does. With `wait` off, False if it is taken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _void(path: Path) -> bool:
    data = read_json(path)
    if data.get("host") == _host():
        return not _alive(int(data["pid"]), float(data["started"]))
    try:
        return _now(path.parent) - path.stat().st_mtime > STALE_S
    except FileNotFoundError:
        return True


def _now(folder: Path) -> float:
    """The time by the clock of the file system, which may not be this machine's."""
    probe = folder / f".now.{os.getpid()}.{threading.get_ident()}"
    try:
        probe.touch()
    except OSError:  # a store that may only be read
        return time.time()
    now = probe.stat().st_mtime
    probe.unlink()
    return now


def _alive(pid: int, started: float) -> bool:
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
