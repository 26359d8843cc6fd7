"""Runs on disks that are full, in bytes or in files, or that lack something: `python tests/attack/disks.py`.

The run ends well, or with a message that names the place and what to do and no traceback; with room again, the same
command ends with the contents of a run that nobody disturbed. The disk is a tmpfs of its own; where none may be
mounted, a small library in between refuses what is beyond the limit, and so it does locks, links and fsync.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ground import Ground, folder, report

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
static const char *refused(void) { const char *words = getenv("MICOTA_REFUSED"); return words ? words : ""; }
static int refuses(const char *word) { return strstr(refused(), word) != NULL; }
static long room(void) { const char *limit = getenv("MICOTA_ROOM"); return limit ? atol(limit) : -1; }
static long taken = 0;
static int full(int fd, size_t size) {
  char link[64], path[4096];
  if (room() < 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  if (strstr(path, "/store/") == NULL) return 0;
  taken += size;
  return taken > room();
}
ssize_t write(int fd, const void *data, size_t size) {
  if (full(fd, size)) { errno = ENOSPC; return -1; }
  return ((ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, data, size);
}
int flock(int fd, int how) {
  if (refuses("flock")) { errno = ENOLCK; return -1; }
  return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(fd, how);
}
int symlink(const char *to, const char *from) {
  if (refuses("symlink")) { errno = EPERM; return -1; }
  return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "symlink"))(to, from);
}
int fsync(int fd) {
  if (refuses("fsync")) { errno = EIO; return -1; }
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
"""
BYTES = (0.01, 0.03, 0.1, 0.25, 0.5, 0.7, 0.9)
FILES = (0.03, 0.1, 0.3, 0.6, 0.9)
LACKING = ("flock", "symlink", "fsync")


@dataclass(frozen=True)
class Disk:
    """A small disk at a folder: its options as a mount, or the environment of the library in between."""

    folder: Path
    options: str

    def make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        _sh("mount", "-t", "tmpfs", "-o", self.options, "tmpfs", str(self.folder))

    def enlarge(self) -> None:
        _sh("mount", "-o", "remount,size=1g,nr_inodes=0", str(self.folder))

    def make_read_only(self) -> None:
        _sh("mount", "-o", "remount,ro", str(self.folder))


def _sh(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


@contextmanager
def mounted(disk: Disk) -> Iterator[Disk]:
    """The disk, as long as the block lasts."""
    disk.make()
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk.folder)], check=False)


def mountable(place: Path) -> bool:
    """Whether this system lets us mount a disk."""
    try:
        with mounted(Disk(place / "probe", "size=1m")):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


def shim(place: Path) -> Path | None:
    """The library in between; None without a compiler."""
    source, library = place / "shim.c", place / "shim.so"
    source.write_text("#include <stdio.h>\n" + SHIM)
    try:
        _sh("cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl")
    except (OSError, subprocess.CalledProcessError):
        return None
    return library


def full(place: Path, reference: dict[str, str], options: str, behind: bool) -> tuple[str, list[str]]:
    """A run on a tmpfs of these options, and again with room."""
    with mounted(Disk(place / "disk", options)) as disk:
        ground = Ground(place / "work", behind)
        ground.store = disk.folder / "store"
        faults = _first(ground)
        disk.enlarge()
        return f"a disk of {options}", faults + _again(ground, reference)


def limited(place: Path, reference: dict[str, str], library: Path, room: int) -> tuple[str, list[str]]:
    """The same where nothing may be mounted: each process may write so many bytes into the store."""
    ground = Ground(place, behind=False)
    faults = _first(ground, {"LD_PRELOAD": str(library), "MICOTA_ROOM": str(room)})
    return f"a store that takes {room} bytes", faults + _again(ground, reference)


def lacking(place: Path, reference: dict[str, str], library: Path, word: str) -> tuple[str, list[str]]:
    """A file system that refuses a call, and then does not."""
    ground = Ground(place, behind=False)
    faults = _first(ground, {"LD_PRELOAD": str(library), "MICOTA_REFUSED": word})
    return f"a file system without {word}", faults + _again(ground, reference)


def _first(ground: Ground, env: dict[str, str] | None = None) -> list[str]:
    run = ground.start(env=env)
    code = run.wait()
    return [] if code == 0 else unclear(run.said(), ground.store)


def unclear(said: str, store: Path) -> list[str]:
    """What is missing in the message of a run that failed."""
    message = said[said.find("error: ") :] if "error: " in said else ""
    end = f": {said[-700:]}"
    return [
        *(["a traceback" + end] if "Traceback" in said else []),
        *(["no message" + end] if not message else []),
        *(["the message does not name the place" + end] if message and str(store) not in message else []),
        *(["the message does not say what to do" + end] if message and "fix: " not in message else []),
        *(["a blank message" + end] if "failed: \n" in said or said.rstrip().endswith("failed:") else []),
        *(["a log that is not there" + end] if any(not Path(path).exists() for path in _logs(said)) else []),
    ]


def _logs(said: str) -> list[str]:
    return [line.partition("log: ")[2].strip() for line in said.splitlines() if line.strip().startswith("log: ")]


def _again(ground: Ground, reference: dict[str, str]) -> list[str]:
    run = ground.start()
    code = run.wait()
    return [f"again: exit code {code}: {run.said()[-700:]}"] if code else ground.faults(reference)


def read_only(place: Path, reference: dict[str, str]) -> tuple[str, list[str]]:
    """A finished store that can only be read: everything can be looked at, and a run has nothing to do."""
    with mounted(Disk(place / "disk", "size=1g")) as disk:
        ground = Ground(place / "work", behind=False)
        ground.store = disk.folder / "store"
        ground.finish()
        disk.make_read_only()
        recipe = ("attacked.yaml",)
        faults = []
        for words in (
            ("report", *recipe), ("plan", *recipe), ("show", "attacked/ta-mid"), ("du",), ("status",), ("gc",),
            ("run", *recipe, "--machine", "machine.yaml"), ("export", "attacked/ta-mid", "out"),
        ):  # fmt: skip
            done = subprocess.run(
                ground.command(*words), cwd=ground.folder, capture_output=True, text=True, check=False
            )
            if done.returncode or "Traceback" in done.stderr:
                faults.append(f"{words[0]}: {done.returncode} {done.stderr[-400:]}")
        return "a store that can only be read", faults + ground.faults(reference)


def trials(place: Path, count: int) -> list[Callable[[], tuple[str, list[str]]]]:
    """So many full disks, then what a file system can lack."""
    calm = Ground(place / "calm")
    calm.finish()
    reference = calm.contents()
    files = list(calm.store.rglob("*"))
    size = sum(path.stat().st_blocks * 512 for path in files if not path.is_symlink())
    library = shim(place)
    if mountable(place):
        options = [f"size={max(4, int(size * part) // 1024)}k" for part in BYTES]
        options += [f"size=1g,nr_inodes={int(len(files) * part) + 5}" for part in FILES]
        chosen = [options[i * len(options) // count] for i in range(min(count, len(options)))]
        made = [partial(full, place / f"disk-{i}", reference, one, i % 2 == 1) for i, one in enumerate(chosen)]
        made.append(partial(read_only, place / "read-only", reference))
    elif library:
        print("no disk may be mounted here: a library in between refuses what is beyond the limit")
        rooms = [int(size * part) for part in (*BYTES, 0.02, 0.05, 0.2, 0.4, 0.6)][:count]
        made = [partial(limited, place / f"disk-{i}", reference, library, one) for i, one in enumerate(rooms)]
    else:
        print("no disk may be mounted here and there is no compiler: nothing was tried")
        return []
    return [*made, *(partial(lacking, place / f"no-{word}", reference, library, word) for word in LACKING if library)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disks", type=int, default=12)
    parser.add_argument("--folder", help="where to work; it stays")
    given = parser.parse_args()
    with folder(given.folder) as place:
        place.mkdir(exist_ok=True)
        return report(trials(place, given.disks))


if __name__ == "__main__":
    sys.exit(main())
