"""The store: one folder of artifacts, each with a manifest that is written last; its presence means done.

STORE/artifacts/KIND-DIGEST/   manifest.json, files/, log.txt
STORE/making/KIND-DIGEST.TOKEN/  work folders of one run each: task.json, out/, scratch/, log.txt, progress.json
STORE/pools/ID/                completions, shared by every recipe
STORE/inputs/KEY               which artifact was made of these fields and input contents (early cut-off)
STORE/names/RECIPE/NAME        links to artifacts by the recipe's names
STORE/claims/                  locks: who is making what
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from micota.atomic import atomic, read_link, write_json, write_link, write_text
from micota.errors import MicotaError, suggestion
from micota.specs import Source, Spec, sha
from micota.store.locks import Claim, Locks
from micota.store.pool import Pool
from micota.store.records import read_rows

ID = re.compile(r"[a-z]+-[0-9a-f]{16}")
"""An artifact's id."""


@dataclass(frozen=True)
class Manifest:
    """The record of a finished artifact. `content` is the hash of its files: equal contents are interchangeable.

    `same_as` is the id of the artifact whose files a linked one shares. `pools` are the completion pools that its rows
    refer to. `facts` are counts and figures of the stage. `provenance` says by what and when it was made; in
    manifest.json its key is `made`.
    """

    kind: str
    version: str
    digest: str
    fields: dict[str, Any]
    children: dict[str, str]
    inputs_key: str
    content: str
    files: dict[str, dict[str, Any]]
    pools: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    same_as: str | None = None

    @property
    def id(self) -> str:
        """KIND-DIGEST, the name of the artifact's folder."""
        return f"{self.kind}-{self.digest}"

    @property
    def holder(self) -> str:
        """The id of the artifact whose folder has the files."""
        return self.same_as or self.id

    def as_json(self) -> dict[str, Any]:
        """The content of manifest.json."""
        return {"made" if name == "provenance" else name: value for name, value in asdict(self).items()}

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> Manifest:
        """The manifest of a manifest.json."""
        return cls(**{"provenance" if name == "made" else name: value for name, value in data.items()})


@dataclass(frozen=True)
class Result:
    """What a stage returns: facts for the manifest, and the pools that its rows refer to."""

    facts: dict[str, Any] = field(default_factory=dict)
    pools: list[str] = field(default_factory=list)


def child_name(spec: Spec) -> str:
    """The name of an input in a manifest: an artifact's id, or the reference of a source."""
    return spec.ref if isinstance(spec, Source) else spec.id


class Store:
    """A store at a folder, which appears with its first artifact."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.locks = Locks()
        self._manifests: dict[str, Manifest] = {}

    def refresh(self) -> None:
        """Read manifests anew from now on: another process, or another Store, may have removed some."""
        self._manifests.clear()

    def manifest(self, spec: Spec) -> Manifest | None:
        """The manifest of a spec's artifact; None if it is not finished."""
        return self.manifest_of(spec.id)

    def manifest_of(self, artifact: str) -> Manifest | None:
        """The manifest of an artifact by its id; None if it is not finished."""
        if artifact not in self._manifests:
            try:
                text = (self.root / "artifacts" / artifact / "manifest.json").read_text()
            except FileNotFoundError:
                return None
            self._manifests[artifact] = Manifest.of_json(json.loads(text))
        return self._manifests[artifact]

    def content(self, spec: Spec) -> str | None:
        """The content's hash of a source or of a finished artifact."""
        if isinstance(spec, Source):
            return spec.revision if spec.path else f"{spec.ref}@{spec.revision}"
        manifest = self.manifest(spec)
        return manifest.content if manifest else None

    def whole(self, manifest: Manifest) -> bool:
        """Whether the files are there; an artifact whose files were removed is pruned, and still finished."""
        files = self.files(manifest)
        sizes = ((files / name, info["size"]) for name, info in manifest.files.items())
        return all(_size(path) == size for path, size in sizes) and all(
            (self.root / "pools" / pool).is_dir() for pool in manifest.pools
        )

    def files(self, manifest: Manifest) -> Path:
        """The folder with an artifact's files; of a linked one that of the other artifact."""
        return self.root / "artifacts" / manifest.holder / "files"

    def rows(self, manifest: Manifest | None) -> list[dict[str, Any]]:
        """The rows of a finished artifact; none of a missing one and of one whose files were removed."""
        there = manifest and self.whole(manifest)
        return read_rows(self.files(manifest) / "rows.jsonl") if manifest and there else []

    def pool_folder(self, pool: str) -> Path:
        """The folder of a completion pool by its id."""
        return self.root / "pools" / pool

    def pool(self, pool: str) -> Pool:
        """A completion pool by its id; an unknown one is empty."""
        return Pool(self.pool_folder(pool))

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

    def equal(self, key: str) -> Manifest | None:
        """A finished artifact that was made of the same fields and input contents."""
        try:
            return self.manifest_of((self.root / "inputs" / key).read_text().strip())
        except FileNotFoundError:
            return None

    def link(self, spec: Spec, other: Manifest, why: str, facts: Mapping[str, Any] | None = None) -> Manifest:
        """Finish a spec without running it: its artifact is another one's."""
        manifest = self._describe(spec, other.content, other.files, other.pools, other.facts | dict(facts or {}))
        linked = replace(manifest, same_as=other.holder, provenance={"linked": why})
        return self._write(linked)

    def finish(self, spec: Spec, result: Result, provenance: dict[str, Any], work: Path | None = None) -> Manifest:
        """Move a stage's output into its place and write the manifest, last and by rename.

        Each step is a rename from or to the work folder: where another run has taken that over, it fails.
        """
        folder, work = self.root / "artifacts" / spec.id, work or self.work(spec)
        files = {path.relative_to(work / "out").as_posix(): _facts(path) for path in _walk(work / "out")}
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "files").exists():
            os.replace(folder / "files", work / "replaced")
        os.replace(work / "out", folder / "files")
        content = sha({name: info["sha256"] for name, info in files.items()})
        manifest = self._describe(spec, content, files, result.pools, result.facts)
        before = self.manifest(spec)
        if before and before.content != content:
            replaced = [*before.provenance.get("replaces", []), before.content]
            provenance = {**provenance, "replaces": replaced}
        done = self._write(replace(manifest, provenance=provenance), work)
        if (work / "log.txt").exists():
            os.replace(work / "log.txt", folder / "log.txt")
        shutil.rmtree(work, ignore_errors=True)
        return done

    def recover(self, spec: Spec, claim: Claim | None = None) -> Path:
        """The spec's work folder, ready to resume in; output that was moved but has no manifest comes back to it.

        It gets the claim's own name, so that a run that has lost the spec finds nothing under its paths; what that may
        still hold open is copied.
        """
        left, files = self.work(spec), self.root / "artifacts" / spec.id / "files"
        work = left.with_name(f"{spec.id}.{claim.token}") if claim else left
        if claim:
            claim.check()  # after the look: what was there then is of an earlier run
            with contextlib.suppress(FileNotFoundError):  # none, or finished at this moment
                os.rename(left, work)
        shutil.rmtree(work / "replaced", ignore_errors=True)
        for path in _walk(work) if claim and claim.over else ():
            with atomic(path) as copy:
                shutil.copyfile(path, copy)
        (work / "scratch").mkdir(parents=True, exist_ok=True)
        if files.is_dir() and self.manifest(spec) is None and not (work / "out").exists():
            os.replace(files, work / "out")
        (work / "out").mkdir(exist_ok=True)
        return work

    def name(self, recipe: str, name: str, spec: Spec) -> None:
        """Link RECIPE/NAME to the artifact that holds the spec's files."""
        manifest = self.manifest(spec)
        if manifest is None:
            return
        link = self.root / "names" / recipe / name.replace("/", "--")
        target = os.path.relpath(self.root / "artifacts" / manifest.holder, link.parent)
        if read_link(link) != target:
            write_link(link, target)

    def links(self) -> dict[str, str]:
        """RECIPE/NAME -> the id of the artifact that holds its files; a slash in a name stands there as `--`."""
        found = ((path, read_link(path)) for path in sorted((self.root / "names").glob("*/*")))
        there = ((path, Path(to).name) for path, to in found if to and (path.parent / to).is_dir())
        return {f"{path.parent.name}/{path.name}": name for path, name in there}

    def remove(self, manifest: Manifest) -> None:
        """Remove a finished artifact, its manifest first: from then on it is not done."""
        folder = self.root / "artifacts" / manifest.id
        (folder / "manifest.json").unlink(missing_ok=True)
        key = self.root / "inputs" / manifest.inputs_key
        if key.is_file() and key.read_text().strip() == manifest.id:
            key.unlink()
        shutil.rmtree(folder, ignore_errors=True)
        self._manifests.pop(manifest.id, None)

    def find(self, name: str) -> Manifest:
        """By the artifact's id, by RECIPE/NAME, or by NAME where only one recipe has it."""
        if ID.fullmatch(name) and (manifest := self.manifest_of(name)):
            return manifest
        recipe, _, rest = name.partition("/")
        words = {name, name.replace("/", "--"), f"{recipe}/{rest.replace('/', '--')}"}
        links = self.links()
        fits = [key for key in links if {key, key.partition("/")[2]} & words]
        if len(fits) == 1 and (manifest := self.manifest_of(links[fits[0]])):
            return manifest
        if len(fits) > 1:
            raise MicotaError(f"several recipes have a '{name}'", fix=f"say which: {', '.join(fits)}")
        known = [*links, *(manifest.id for manifest in self.all())]
        raise MicotaError(f"there is no artifact '{name}' in {self.root}", fix=suggestion(name, known))

    def all(self) -> list[Manifest]:
        """Every manifest of the store."""
        folders = sorted((self.root / "artifacts").glob("*/manifest.json"))
        found = (self.manifest_of(path.parent.name) for path in folders)
        return [manifest for manifest in found if manifest]

    def _describe(
        self, spec: Spec, content: str, files: dict[str, Any], pools: list[str], facts: Mapping[str, Any]
    ) -> Manifest:
        children = {child.digest: child_name(child) for child in spec.children}
        key = self.inputs_key(spec)
        return Manifest(
            spec.kind, spec.version, spec.digest, spec.own_fields, children, key, content, files, pools, dict(facts)
        )

    def _write(self, manifest: Manifest, work: Path | None = None) -> Manifest:
        artifact = manifest.id
        folder = self.root / "artifacts" / artifact
        write_json((work or folder) / "manifest.json", manifest.as_json())
        os.replace((work or folder) / "manifest.json", folder / "manifest.json")
        if manifest.same_as is None:
            write_text(self.root / "inputs" / manifest.inputs_key, artifact + "\n")
        self._manifests[artifact] = manifest
        return manifest


def _walk(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _facts(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None
