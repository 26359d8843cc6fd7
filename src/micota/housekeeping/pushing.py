"""Sending a store's completions and finished artifacts to storage that is no shared disk: only what is not there."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from micota.atomic import read_json
from micota.housekeeping.transfer import Moved, Report, Transfer
from micota.store.artifacts import Store
from micota.store.checked import bytes_of, say, sha256
from micota.store.manifest import Manifest
from micota.store.pool import row_files
from micota.store.pool_pieces import LARGEST, Piece, cut, reach, sha_of
from micota.store.remote import Content, Remote, size_of
from micota.store.resolution import Lock

BATCH = 4 * LARGEST  # bytes, and
FILES = 200  # files, that are sent before the manifests of their artifacts are


def push(store: Store, remote: Remote, report: Report, locks: Sequence[Lock] = (), verify: bool = False) -> Moved:
    """Send what the remote side does not have; nothing there is removed. `locks` are those of recipes.

    With `verify`, what is there is read and compared with its hashes too.
    """
    finished, names = sorted(store.all(), key=lambda one: one.same_as is not None), store.links()
    remote.make()
    with tempfile.TemporaryDirectory() as aside:
        job = Transfer(store, remote, Path(aside), report)
        _push_pools(job, verify)  # before the artifacts whose rows refer to them
        _push_artifacts(job, finished, verify)
        for name, words in [
            ("names.json", names),
            *((f"locks/{lock.path.name}", lock.revisions) for lock in [*locks, Lock(store.root / "hub.lock")]),
        ]:
            known = job.words(name)
            if (whole := known | words) != known:
                _put(job, [(json.dumps(whole, indent=1, sort_keys=True).encode(), name)])
    return job.moved


def _push_pools(job: Transfer, verify: bool) -> None:
    pieces, batch = job.pieces(), list[tuple[Content, str]]()
    for folder in sorted(path for path in (job.store.root / "pools").glob("*") if path.is_dir()):
        place, known = f"pools/{folder.name}/", pieces.get(folder.name, [])
        if verify:
            known = [one for one in known if _same(job, place + one.name, one.size, one.sha)]
        if (about := folder / "pool.json").is_file() and f"{place}pool.json" not in job.there and read_json(about):
            batch.append((about.read_bytes(), f"{place}pool.json"))
        for one, data in (new for path in row_files(folder) for new in _new(path, known)):
            batch.append((data, place + one.name))
            if sum(size_of(content) for content, _ in batch) > BATCH:
                _put(job, batch)
                batch = []
        job.moved.there += len(known)
    _put(job, batch)


def _new(path: Path, known: Sequence[Piece]) -> Iterator[tuple[Piece, bytes]]:
    """What is in a file of a pool and in none of its remote pieces; a piece that came as a file of its own is one."""
    own = [one for one in known if one.file == path.stem]
    own += [Piece(path.stem, 0, one.size, one.sha) for one in known if one.name == path.name]
    try:
        yield from cut(path, reach(path, own))
    except FileNotFoundError:  # a run has merged it into another, which has grown by it
        return


def _push_artifacts(job: Transfer, finished: Sequence[Manifest], verify: bool) -> None:
    files, last = list[tuple[Content, str]](), list[tuple[Content, str]]()
    for one in finished:
        place = f"artifacts/{one.id}"
        if (lacking := _lacking(job, one, verify)) is None:
            continue
        files += [(job.store.files(one) / name, f"{place}/files/{name}") for name in lacking]
        last.append((job.store.root / place / "manifest.json", f"{place}/manifest.json"))
        if sum(size_of(content) for content, _ in files) > BATCH or len(files) + len(last) > FILES:
            _put(job, files)
            _put(job, last)
            files, last = [], []
    _put(job, files)
    _put(job, last)


def _lacking(job: Transfer, one: Manifest, verify: bool) -> list[str] | None:
    """The files to send before an artifact's manifest; None where it is there, or cannot be sent."""
    place, folder = f"artifacts/{one.id}", job.store.files(one)
    there = one if _equal(job, one) else _other(job, one)
    if there and there.content != one.content and not (there.fake and not one.fake):
        say(f"{one.id} is another one in {job.remote.address}, and stays there: {there.content}, here {one.content}")
        return None
    files = one.files if one.same_as is None and folder.is_dir() else {}
    lacking = [name for name, info in files.items() if job.there.get(f"{place}/files/{name}") != info.size]
    if there and verify:
        whole = set(files) - set(lacking)
        lacking += [n for n in whole if not _same(job, f"{place}/files/{n}", files[n].size, files[n].sha256)]
    if there and there.content == one.content and lacking:
        say(f"{job.remote.address}/{place} is damaged ({', '.join(lacking)}): sent again")
    if broken := [name for name in lacking if sha256(folder / name) != files[name].sha256]:
        job.moved.wrong.append(f"{one.id} ({', '.join(broken)})")
        return None
    job.moved.there += len(files) - len(lacking)
    return lacking if lacking or there is not one else None


def _equal(job: Transfer, one: Manifest) -> bool:
    """Whether the remote manifest is, by its size, the one that is here."""
    own = job.store.root / "artifacts" / one.id / "manifest.json"
    return bytes_of(own) == job.there.get(f"artifacts/{one.id}/manifest.json")


def _other(job: Transfer, one: Manifest) -> Manifest | None:
    """The remote manifest where it is not equal: one of the same content counts as equal."""
    name = f"artifacts/{one.id}/manifest.json"
    if name not in job.there:
        return None
    if (there := job.manifest(one.id)) is None:
        say(f"{job.remote.address}/{name} is damaged: sent again")
    return one if there and there.content == one.content else there


def _same(job: Transfer, name: str, size: int, sha: str | None) -> bool:
    """Whether a remote file is what its hash says: it is read."""
    path = job.fetched(name, size, sha, lambda path: sha_of(path, 0, size) if len(sha or "") == 16 else sha256(path))
    if path:
        path.unlink()
    return path is not None


def _put(job: Transfer, batch: Sequence[tuple[Content, str]]) -> None:
    if batch:
        job.total += sum(size_of(content) for content, _ in batch)
        job.remote.put(batch, job.count)
        job.moved.files += len(batch)
