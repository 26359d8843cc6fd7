"""Bringing artifacts and completions from storage that is no shared disk into a store: only what is not there."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from micota.atomic import read_json, sync, write_json
from micota.errors import MicotaError
from micota.housekeeping.transfer import POOL, Moved, Report, Transfer
from micota.store.artifacts import Store
from micota.store.checked import bytes_of
from micota.store.locks import holder, locked
from micota.store.manifest import ID, Manifest
from micota.store.pool_pieces import Piece, join, sha_of
from micota.store.remote import Remote, each
from micota.store.resolution import Lock

COMMIT, KEY = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{16}")


def pull(store: Store, remote: Remote, report: Report, locks: Sequence[Lock] = (), new: bool = False) -> Moved:
    """Bring what the store does not have, each file compared with its hash; what is here stays as it is.

    Names, and commits of Hub ids that a lock does not know, come too. Raises MicotaError where nothing is there, unless
    that is to be expected (`new`).
    """
    aside = store.root / "pulling"
    aside.mkdir(parents=True, exist_ok=True)
    with locked(aside / ".lock", wait=False) as alone:
        if not alone:
            raise MicotaError(f"{store.root} is being filled by another `micota pull`", fix="wait for its end")
        job = Transfer(store, remote, aside, report)
        pools, ids = job.pieces(), job.artifacts()
        if not (pools or ids or new):
            raise MicotaError(
                f"there is no store in {remote.address}", fix="micota push STORE ADDRESS, where one is; or --new"
            )
        job.total = sum(one.size for pieces in pools.values() for one in pieces)
        for pool, pieces in pools.items():
            with _claimed(job, f"pool-{pool}") as free:
                _pull_pool(job, pool, pieces if free else [])
        for artifact in ids:
            with _claimed(job, artifact) as free:
                if free:
                    _pull_artifact(job, artifact)
        for name, artifact in job.words("names.json").items():
            recipe, _, word = name.partition("/")
            store.name_found(recipe, word, artifact)
        for lock in [*locks, Lock(store.root / "hub.lock")]:
            known = job.words(f"locks/{lock.path.name}")
            lock.revisions = {ref: known[ref] for ref in known if COMMIT.fullmatch(known[ref])} | lock.revisions
            lock.save()
        shutil.rmtree(aside, ignore_errors=True)
    return job.moved


@contextmanager
def _claimed(job: Transfer, name: str) -> Iterator[bool]:
    """Whether no run of this machine writes there now; while the block runs, none begins to."""
    path = job.store.lock(name)
    if free := job.store.locks.acquire(path) is not None:
        try:
            yield free
        finally:
            job.store.locks.release(path)
    else:
        job.moved.wrong.append(f"{name} ({holder(path)} makes it now)")
        yield free


def _pull_pool(job: Transfer, pool: str, pieces: Sequence[Piece]) -> None:
    folder, place = job.store.pool_folder(pool), f"pools/{pool}/"
    new = [one for one in pieces if not _has(folder, one, pieces)]
    job.moved.there += len(pieces) - len(new)
    if new:
        folder.mkdir(parents=True, exist_ok=True)
    if new and not read_json(folder / "pool.json"):
        write_json(folder / "pool.json", job.words(place + "pool.json", object))

    def one(piece: Piece) -> Path | None:
        return job.fetched(place + piece.name, piece.size, piece.sha, lambda path: sha_of(path, 0, piece.size))

    for piece, got in zip(new, each(one, new), strict=True):
        if got is None:
            job.moved.wrong.append(f"{place}{piece.name} (damaged)")
        else:
            join(folder, piece, got, pieces)
            job.moved.files += 1


def _has(folder: Path, piece: Piece, pieces: Sequence[Piece]) -> bool:
    path = folder / f"{piece.file}.jsonl"
    return (folder / piece.name).is_file() or (path.is_file() and piece.fits(path))


def _pull_artifact(job: Transfer, artifact: str) -> None:
    here, place = job.store.manifest_of(artifact), f"artifacts/{artifact}/files/"
    folder = job.store.root / "artifacts" / artifact
    if here and not here.fake and not _lacking(job, here):
        job.moved.there += 1 + len(here.files)
        return
    if (there := job.manifest(artifact)) is None:
        job.moved.wrong.append(f"{artifact} (its manifest.json is damaged)")
        return
    if not _harmless(there):
        job.moved.wrong.append(f"{artifact} (its manifest names what no artifact has)")
        return
    if here and here.content != there.content:
        if there.fake or not here.fake:
            job.moved.wrong.append(f"{artifact} (here is another one, of which files are missing)")
            return
        job.store.remove(here)
    left = not here and (folder / "files").exists()  # of a run that was killed before its manifest: until all is here
    names = list(there.files) if left and not there.same_as else _lacking(job, there)
    job.total += sum(there.files[name].size for name in names)
    got = each(lambda name: job.fetched(place + name, there.files[name].size, there.files[name].sha256), names)
    if None in got:
        job.moved.wrong.append(f"{artifact} (damaged)")
        return
    if left:
        shutil.rmtree(folder / "files")
    for name, path in zip(names, got, strict=True):
        (folder / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, folder / "files" / name)
    folder.mkdir(parents=True, exist_ok=True)
    sync(folder)
    job.store.write(there, job.aside / artifact)
    job.moved.files += 1 + len(names)


def _lacking(job: Transfer, manifest: Manifest) -> list[str]:
    """The files that are not here, but of an artifact whose files were removed on both sides."""
    folder, place = job.store.files(manifest), f"artifacts/{manifest.id}/files/"
    files = {} if manifest.same_as else manifest.files
    wanted = folder.is_dir() or any(place + name in job.there for name in files)
    return [name for name, info in files.items() if wanted and bytes_of(folder / name) != info.size]


def _harmless(manifest: Manifest) -> bool:
    """Whether what a stranger's manifest names lies in the store."""
    paths = [PurePosixPath(name) for name in manifest.files if name.isprintable()]
    inside = all(path.parts and not path.is_absolute() and ".." not in path.parts for path in paths)
    ids = [manifest.same_as] if manifest.same_as else []
    known = all(map(ID.fullmatch, ids)) and all(map(POOL.fullmatch, manifest.pools))
    return inside and known and len(paths) == len(manifest.files) and bool(KEY.fullmatch(manifest.inputs_key))
