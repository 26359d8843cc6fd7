"""The files of a completion pool as they travel: in pieces of whole lines, each an object that never changes.

FILE.START-END-SHA.jsonl has the bytes [START, END) of FILE.jsonl. So a file that grows is sent once, and two machines
that have both merged a pool's files into one of the same name lose nothing: their pieces differ in the hash.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from micota.store.checked import say

LARGEST = 64 * 2**20  # bytes of a piece
NAME = re.compile(r"(?P<file>[\w-][\w.-]{0,180})\.(?P<start>\d{1,15})-(?P<end>\d{1,15})-(?P<sha>[0-9a-f]{16})\.jsonl")


@dataclass(frozen=True, order=True)
class Piece:
    """Where a piece lies in its file (without `.jsonl`), and the first 16 digits of its SHA-256."""

    file: str
    start: int
    end: int
    sha: str

    @property
    def name(self) -> str:
        """Its name in the pool's folder."""
        return f"{self.file}.{self.start}-{self.end}-{self.sha}.jsonl"

    @property
    def size(self) -> int:
        """Its bytes."""
        return self.end - self.start

    def fits(self, path: Path) -> bool:
        """Whether a file has these bytes at this place."""
        return sha_of(path, self.start, self.size) == self.sha


def piece(name: str) -> Piece | None:
    """The piece of a name; None of any other file's."""
    match = NAME.fullmatch(name)
    made = match and Piece(match["file"], int(match["start"]), int(match["end"]), match["sha"])
    return made if made and made.start < made.end else None


def sha_of(path: Path, start: int, size: int) -> str:
    """The first 16 digits of the SHA-256 of some bytes of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(start)
        while size and (data := file.read(min(size, 2**20))):
            digest.update(data)
            size -= len(data)
    return digest.hexdigest()[:16]


def reach(path: Path, pieces: Iterable[Piece]) -> int:
    """How many bytes of a file, from its beginning, are those of its pieces."""
    if not path.is_file():
        return 0
    end, following = 0, defaultdict(list)
    for one in pieces:
        following[one.start].append(one)
    while found := next((one for one in following[end] if one.fits(path)), None):
        end = found.end
    return end


def cut(path: Path, start: int) -> Iterator[tuple[Piece, bytes]]:
    """The pieces of a file from `start` on; a line that is being written waits for another time."""
    with open(path, "rb") as file:
        while True:
            file.seek(start)
            data = file.read(LARGEST)
            full = len(data) == LARGEST
            if not (data := data[: data.rfind(b"\n") + 1]):
                if full:
                    say(f"{path} is not sent from byte {start} on: a line there has more than {LARGEST >> 20} MiB")
                return
            sha = hashlib.sha256(data).hexdigest()[:16]
            yield Piece(path.name.removesuffix(".jsonl"), start, start + len(data), sha), data
            start += len(data)


def join(folder: Path, piece: Piece, got: Path, pieces: Iterable[Piece]) -> None:
    """Put a piece behind the file that it continues; where that is not as it was, into a file of its own."""
    path = folder / f"{piece.file}.jsonl"
    size = path.stat().st_size if path.is_file() else 0
    if size != piece.start or (size and reach(path, pieces) != size):
        got.replace(folder / piece.name)
        return
    with open(got, "rb") as new, open(path, "ab") as file:
        shutil.copyfileobj(new, file)
    got.unlink()
