"""The store: one folder of artifacts, each with a manifest that is written last; its presence means done.

STORE/artifacts/KIND-DIGEST/   manifest.json, files/, log.txt
STORE/making/KIND-DIGEST.TOKEN/  work folders of one run each: task.json, out/, scratch/, log.txt, progress.json
STORE/pools/ID/                completions, shared by every recipe
STORE/targets/ID/              a teacher's likeliest tokens for responses
STORE/inputs/KEY               which artifact was made of these fields and input contents (early cut-off)
STORE/names/RECIPE/NAME        links to artifacts by the recipe's names
STORE/claims/                  locks: who is making what
STORE/jobs/RECIPE/TIME/        scripts, ids and logs of `micota submit`
STORE/damaged/                 artifacts that were set aside, since their files are not as they were written
STORE/pulling/                 what an unfinished `micota pull` has brought
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from micota.atomic import atomic, sync, write_json, write_text
from micota.errors import MicotaError
from micota.machine import MachineProfile
from micota.specs import Generate, Source, Spec, sha, walk
from micota.store.checked import Written, bytes_of, say, sha256, written
from micota.store.inputs import begun_with
from micota.store.locks import Claim, Locks, locked
from micota.store.manifest import ID, Manifest, read_manifest
from micota.store.names import Names
from micota.store.pool import Pool
from micota.store.records import read_rows


@dataclass(frozen=True)
class Result:
    """What a stage returns: facts for the manifest, and the pools that its rows refer to."""

    facts: dict[str, Any] = field(default_factory=dict)
    pools: list[str] = field(default_factory=list)


def child_name(spec: Spec) -> str:
    """The name of an input in a manifest: an artifact's id, or the reference of a source."""
    return spec.ref if isinstance(spec, Source) else spec.id


class Store(Names):
    """A store at a folder, which appears with its first artifact.

    With a `machine`, it has what that machine would take for its own: what is made of invented answers counts as
    finished only where the machine would invent them too. Without, everything that is there.
    """

    def __init__(self, root: Path, machine: MachineProfile | None = None) -> None:
        self.root, self.machine = root.absolute(), machine
        if root.exists() and not root.is_dir():
            raise MicotaError(f"{root} is a file; a store is a folder", fix="--store DIR, or MICOTA_STORE")
        self.locks = Locks()
        self.refresh()

    def refresh(self) -> None:
        """Read manifests anew from now on: another process, or another Store, may have removed some."""
        self._manifests: dict[str, Manifest] = {}
        self._invents: dict[str, bool] = {}
        self._hashes: dict[tuple[Any, ...], str | None] = {}

    def manifest(self, spec: Spec) -> Manifest | None:
        """The manifest of a spec's artifact; None if it is not finished, or a fake that the machine does not take."""
        manifest = self.manifest_of(spec.id)
        return manifest if manifest and self._takes(manifest, spec) else None

    def _takes(self, manifest: Manifest, spec: Spec) -> bool:
        return not (manifest.fake and self.machine) or any(map(self.invents, walk(spec, asked=True)))

    def invents(self, spec: Spec) -> bool:
        """Whether the machine invents the answers of a spec's stage."""
        if spec.digest not in self._invents:
            self._invents[spec.digest] = bool(self.machine and self.machine.invents(spec))
        return self._invents[spec.digest]

    def manifest_of(self, artifact: str) -> Manifest | None:
        """The manifest of an artifact by its id, a fake's too; None if it is not finished."""
        path = self.root / "artifacts" / artifact / "manifest.json"
        if artifact not in self._manifests and path.exists():
            if (manifest := read_manifest(path)) is None:
                return None
            self._manifests[artifact] = manifest
        return self._manifests.get(artifact)

    def content(self, spec: Spec) -> str | None:
        """The content's hash of a source or of a finished artifact."""
        if isinstance(spec, Source):
            return spec.revision if spec.path else f"{spec.ref}@{spec.revision}"
        manifest = self.manifest(spec)
        return manifest.content if manifest else None

    def whole(self, manifest: Manifest) -> bool:
        """Whether the files are there; an artifact whose files were removed is pruned, and still finished."""
        files, held = self.files(manifest), self.manifest_of(manifest.holder)
        sizes = ((files / name, info.size) for name, info in manifest.files.items())
        same = held is None or held.content == manifest.content
        return (
            same
            and all(bytes_of(path) == size for path, size in sizes)
            and all((self.root / "pools" / pool).is_dir() for pool in manifest.pools)
        )

    def damaged(self, manifest: Manifest) -> list[str]:
        """The names of its files that are not as they were written; none of an artifact whose files were removed."""
        files = self.files(manifest)
        if not files.is_dir() and not files.is_file():
            return []
        return [name for name, info in manifest.files.items() if self._sha256(files / name) != info.sha256]

    def _sha256(self, path: Path) -> str | None:
        """The hash of a file; of one that is as it was a moment ago it is remembered."""
        try:
            stat = path.stat()
        except OSError:
            return None
        key = path, stat.st_ino, stat.st_size, stat.st_mtime_ns
        if key not in self._hashes:
            self._hashes[key] = sha256(path)
        return self._hashes[key]

    def set_aside(self, artifact: str, why: str) -> None:
        """Move an artifact to STORE/damaged: from then on it is not done, and what needs it has it made again."""
        aside = self.root / "damaged" / f"{artifact}-{time.strftime('%Y%m%d-%H%M%S')}-{time.monotonic_ns() % 10**6}"
        aside.parent.mkdir(exist_ok=True)
        os.replace(self.root / "artifacts" / artifact, aside)
        self._manifests.pop(artifact, None)
        say(f"{artifact} is damaged ({why}): it was set aside, to {aside}, and is made again where it is needed")

    def files(self, manifest: Manifest) -> Path:
        """The folder with an artifact's files; of a linked one that of the other artifact."""
        return self.root / "artifacts" / manifest.holder / "files"

    def rows(self, manifest: Manifest | None) -> list[dict[str, Any]]:
        """The rows of a finished artifact; none of a missing one and of one whose files were removed."""
        damaged = self.damaged(manifest) if manifest else []
        if manifest and damaged:
            say(f"{manifest.holder} is damaged ({', '.join(damaged)}) and left out: run its recipe again")
        there = manifest and not damaged and self.whole(manifest)
        return read_rows(self.files(manifest) / "rows.jsonl") if manifest and there else []

    def pool_folder(self, pool: str) -> Path:
        """The folder of a completion pool by its id."""
        return self.root / "pools" / pool

    def pool(self, pool: str) -> Pool:
        """A completion pool by its id; an unknown one is empty."""
        return Pool(self.pool_folder(pool))

    def pool_of(self, spec: Generate) -> str:
        """The id of the pool that a generation fills on this machine; without one, of a pool that is there."""
        pools = [spec.pool(str(self.content(spec.model)), fake) for fake in (False, True)]
        only_fake = not self.machine and not self.pool_folder(pools[0]).exists() and self.pool_folder(pools[1]).exists()
        return pools[self.invents(spec) or only_fake]

    def work(self, spec: Spec) -> Path:
        """The work folder of a spec's stage; its name ends in the token of the run that makes it."""
        return next((self.root / "making").glob(f"{spec.id}*"), self.root / "making" / spec.id)

    def lock(self, name: str) -> Path:
        """The lock file of an artifact's id or of `pool-ID`."""
        return self.root / "claims" / f"{name}.json"

    def inputs_key(self, spec: Spec) -> str:
        """The key of early cut-off: the spec's own fields, with the contents of its children in their places."""
        contents = {child.digest: str(self.content(child)) for child in spec.children}
        return sha(spec.identity(contents))

    def equal(self, spec: Spec) -> Manifest | None:
        """A finished artifact that was made of the same fields and input contents as a spec will be."""
        key = self.inputs_key(spec)
        for path in (self._key(key, False), self._key(key, True)):
            artifact = path.read_bytes().decode(errors="replace").strip() if path.is_file() else ""
            found = self.manifest_of(artifact) if ID.fullmatch(artifact) else None
            if found and found.inputs_key == key and self._takes(found, spec):
                return found
        return None

    def _key(self, key: str, fake: bool) -> Path:
        return self.root / "inputs" / (f"fake-{key}" if fake else key)

    def link(self, spec: Spec, other: Manifest, why: str, facts: Mapping[str, Any] | None = None) -> Manifest:
        """Finish a spec without running it: its artifact is another one's."""
        manifest = self._describe(spec, other.content, other.files, other.pools, other.facts | dict(facts or {}))
        linked = replace(manifest, same_as=other.holder, provenance={"linked": why})
        return self.write(linked)

    def finish(self, spec: Spec, result: Result, provenance: dict[str, Any], work: Path | None = None) -> Manifest:
        """Move a stage's output into its place and write the manifest, last and by rename.

        Each step is a rename from or to the work folder: where another run has taken that over, it fails.
        """
        folder, work = self.root / "artifacts" / spec.id, work or self.work(spec)
        files = written(work / "out")
        content = sha({name: info.sha256 for name, info in files.items()})
        manifest = self._describe(spec, content, files, result.pools, result.facts)
        before = self.manifest_of(spec.id)
        if manifest.fake and before and not before.fake:
            fix = "run it with the profile that made it, or rehearse in another --store"
            raise MicotaError(f"{spec.id} is there already, and real: invented answers do not replace it", fix=fix)
        folder.mkdir(parents=True, exist_ok=True)
        sync(work / "out")
        if before and before.content != content:  # else a kill in between would leave it with the files of another
            os.replace(folder / "manifest.json", work / "replaced.json")
        if (folder / "files").exists():
            os.replace(folder / "files", work / "replaced")
        os.replace(work / "out", folder / "files")
        if before and before.content != content and before.fake == manifest.fake:
            replaced = [*before.provenance.get("replaces", []), before.content]
            provenance = {**provenance, "replaces": replaced}
        done = self.write(replace(manifest, provenance=provenance), work)
        if (work / "log.txt").exists():
            os.replace(work / "log.txt", folder / "log.txt")
        shutil.rmtree(work, ignore_errors=True)
        return done

    def recover(self, spec: Spec, claim: Claim | None = None, contents: Mapping[str, str] | None = None) -> Path:
        """The spec's work folder, ready to resume in; output that was moved but has no manifest comes back to it.

        It gets the claim's own name, so that a run that has lost the spec finds nothing under its paths; what that may
        still hold open is copied. What was begun with other `contents` of the inputs, by their digests, is removed.
        Raises ClaimLost.
        """
        with locked(self.root / "claims" / ".lock") if claim else contextlib.nullcontext():
            work = self._taken(spec, claim)  # nobody can take it over meanwhile, however long this run is paused
        shutil.rmtree(work / "replaced", ignore_errors=True)
        begun = {digest: one.content for digest, one in begun_with(work).items()}
        if contents is not None and begun != contents:
            shutil.rmtree(work, ignore_errors=True)
        for path in sorted(work.rglob("*")) if claim and claim.over else ():
            if path.is_file():
                with atomic(path) as copy:
                    shutil.copyfile(path, copy)
        for name in ("scratch", "out"):
            (work / name).mkdir(parents=True, exist_ok=True)
        return work

    def _taken(self, spec: Spec, claim: Claim | None) -> Path:
        """The spec's work folder under the claim's name, with output that has no manifest."""
        left, folder = self.work(spec), self.root / "artifacts" / spec.id
        work = left.with_name(f"{spec.id}.{claim.token}") if claim else left
        if claim:
            claim.check()
            with contextlib.suppress(FileNotFoundError):
                os.rename(left, work)
        if self.manifest_of(spec.id) is None and (folder / "manifest.json").exists():
            self.set_aside(spec.id, "manifest.json")
        if (folder / "files").is_dir() and self.manifest_of(spec.id) is None and not (work / "out").exists():
            work.mkdir(parents=True, exist_ok=True)
            os.replace(folder / "files", work / "out")
        return work

    def remove(self, manifest: Manifest) -> None:
        """Remove a finished artifact, its manifest first: from then on it is not done."""
        folder = self.root / "artifacts" / manifest.id
        (folder / "manifest.json").unlink(missing_ok=True)
        key = self._key(manifest.inputs_key, bool(manifest.fake))
        if key.is_file() and key.read_bytes().strip() == manifest.id.encode():
            key.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        self._manifests.pop(manifest.id, None)

    def _describe(
        self, spec: Spec, content: str, files: dict[str, Written], pools: list[str], facts: Mapping[str, Any]
    ) -> Manifest:
        children = {child.digest: child_name(child) for child in spec.children}
        key, made_of = self.inputs_key(spec), list(filter(None, map(self.manifest, spec.children)))
        fake = {*facts.get("fake", ()), *(engine for one in made_of for engine in one.fake)}
        if self.invents(spec) and self.machine:
            fake.add(self.machine.engine(spec).engine)
        facts = {**facts, "fake": sorted(fake)} if fake else dict(facts)
        accidents = max([facts.get("accidents", 0), *(one.accidents for one in made_of)])
        facts |= {"accidents": accidents} if accidents else {}  # what is made of open verdicts is open
        return Manifest(
            spec.kind, spec.version, spec.digest, spec.own_fields, children, key, content, files, pools, facts
        )

    def write(self, manifest: Manifest, work: Path | None = None) -> Manifest:
        """Write the manifest of an artifact whose files are in their place: from then on it is done."""
        artifact = manifest.id
        folder = self.root / "artifacts" / artifact
        if manifest.same_as is None:
            key = self._key(manifest.inputs_key, bool(manifest.fake))
            key.parent.mkdir(parents=True, exist_ok=True)
            write_text((work or folder) / "key.txt", artifact + "\n")  # of a kill in between nothing stays in inputs
            os.replace((work or folder) / "key.txt", key)
        write_json((work or folder) / "manifest.json", manifest.as_json())
        os.replace((work or folder) / "manifest.json", folder / "manifest.json")
        self._manifests[artifact] = manifest
        return manifest
