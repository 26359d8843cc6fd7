"""What is missing and needed: pulled from the targets backwards. Runs, costs and garbage collection all ask here.

A finished artifact needs nothing below it. One whose fields and input contents equal those of a finished one is
linked to it. Files of an input are needed only by a stage that really runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from micota.errors import MicotaError
from micota.generation import requests
from micota.specs import Choice, Generate, Spec, walk
from micota.store.artifacts import Store
from micota.store.manifest import Manifest


class Pull:
    """One look at the store. `ready` are the specs whose stages can run now, by digest.

    `missing` are the needed specs that are not finished, or whose files a stage needs and were removed.
    `read` are the ids of the artifacts whose files are needed. `linked` were finished by a link, without a stage.
    `refused` are searches that ended without a choice.

    With `ahead`, nothing is written, and what unfinished specs need is followed to the end, as if each of them ran;
    without, it is followed up to the stages that can run now. `made` are the ids that this run has made.
    """

    def __init__(
        self, store: Store, failed: Collection[str] = (), ahead: bool = False, made: Collection[str] = ()
    ) -> None:
        self.ready: dict[str, Spec] = {}
        self.missing: dict[str, Spec] = {}
        self.read: set[str] = set()
        self.linked: list[Spec] = []
        self.refused: dict[str, MicotaError] = {}
        self._store, self._failed, self._ahead, self._made = store, failed, ahead, made
        self._answers: dict[tuple[str, bool], bool] = {}

    @property
    def asked(self) -> set[str]:
        """The digests of all specs that the targets need, finished or not."""
        return {digest for digest, _ in self._answers}

    def satisfied(self, spec: Spec, files: bool = False) -> bool:
        """Whether a spec is finished (with `files`: and its files are there); if not, what it needs is pulled."""
        key = (spec.digest, files)
        if key not in self._answers:
            self._answers[key] = spec.made_elsewhere or self._demand(spec, files)
        return self._answers[key]

    def all(self, specs: Iterable[Spec], files: bool = False) -> bool:
        """Whether all of them are satisfied; each is pulled, not only up to the first that is missing."""
        answers = [self.satisfied(spec, files) for spec in specs]
        return all(answers)

    def _demand(self, spec: Spec, files: bool) -> bool:
        manifest = self._store.manifest(spec)
        if manifest and files and not self._ahead and (damaged := self._store.damaged(manifest)):
            self._store.set_aside(manifest.holder, ", ".join(damaged))
            manifest = self._store.manifest(spec)
        if manifest and self._has(manifest, files) and self._settled(spec, manifest):
            return True
        if spec.digest in self._failed:
            return False
        self.missing[spec.digest] = spec
        if (step := spec.next({})) is not None:
            return self._search(spec, step, files)
        inputs = self.all(spec.children)
        if not (inputs or self._ahead):
            return False
        if inputs and manifest is None and (equal := self._store.equal(spec)):
            return self._link(spec, equal, files)
        if self.all(reads(self._store, spec), files=True) and inputs:
            self.ready[spec.digest] = spec
        return False

    def _settled(self, spec: Spec, manifest: Manifest) -> bool:
        """Whether no accident in an earlier run left a verdict below open, or giving it again changed nothing."""
        if not manifest.accidents or spec.id in self._made:
            return True
        if spec.kind == "verify" or spec.next({}) is not None:
            return False
        return self.all(spec.children) and manifest.inputs_key == self._store.inputs_key(spec)

    def _has(self, manifest: Manifest, files: bool) -> bool:
        whole = not files or self._store.whole(manifest)
        if files and whole:
            self.read.add(manifest.holder)
        return whole

    def _link(self, spec: Spec, equal: Manifest, files: bool) -> bool:
        del self.missing[spec.digest]
        if self._ahead:
            return self._has(equal, files)
        self._store.link(spec, equal, "same fields and same input contents")
        self.linked.append(spec)
        return self._demand(spec, files)

    def _search(self, spec: Spec, step: tuple[Spec, ...] | Choice | None, files: bool) -> bool:
        """Follow a dynamic spec from round to round, as far as its results are there."""
        results: dict[str, dict[str, Any]] = {}
        while isinstance(step, tuple):
            if not self.all(step):
                return False
            results |= {one.digest: manifest.facts for one in step if (manifest := self._store.manifest(one))}
            try:
                step = spec.next(results)
            except MicotaError as error:
                self.refused[spec.digest] = error
                return False
        assert isinstance(step, Choice), f"{spec.kind} ends without a choice"
        if not (self.all(spec.children) and self.satisfied(step.spec, files)):
            return False
        del self.missing[spec.digest]
        if not self._ahead:
            chosen = self._store.manifest(step.spec)
            assert chosen is not None
            fakes = {fake for facts in results.values() for fake in facts.get("fake", ())}
            self._store.link(spec, chosen, step.why, {**step.facts, **({"fake": [*fakes]} if fakes else {})})
        return True


def look_ahead(store: Store, targets: Iterable[Spec]) -> Pull:
    """All that a run for the targets would need, as far as it is known before; nothing is written."""
    pull = Pull(store, ahead=True)
    pull.all(targets)
    return pull


def reads(store: Store, spec: Spec) -> tuple[Spec, ...]:
    """The inputs whose files a run of a spec needs: a model's not, if the pool has every completion."""
    return requests.reads(spec, store) if isinstance(spec, Generate) else spec.children


def artifacts_to_keep(store: Store, targets: Iterable[Spec]) -> set[str]:
    """The ids of the artifacts whose files a run for the targets would read or may read.

    The later rounds of an unfinished search are not known yet, so all that is below it may be read.
    """
    pull = look_ahead(store, targets)
    searches = [spec for spec in pull.missing.values() if spec.next({}) is not None]
    below = (store.manifest(spec) for spec in walk(*searches, asked=True) if not spec.made_elsewhere)
    return pull.read | {manifest.holder for manifest in below if manifest}
