"""The names by which people know the artifacts of a store: links in STORE/names."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

from micota.atomic import read_link, write_link
from micota.errors import MicotaError, suggestion
from micota.specs import Spec
from micota.store.checked import say
from micota.store.manifest import ID, Manifest


class Names(ABC):
    """What a store knows by name."""

    root: Path

    @abstractmethod
    def manifest(self, spec: Spec) -> Manifest | None:
        """The manifest of a spec's artifact; None if it is not finished."""

    @abstractmethod
    def manifest_of(self, artifact: str) -> Manifest | None:
        """The manifest of an artifact by its id; None if it is not finished."""

    def name(self, recipe: str, name: str, spec: Spec) -> None:
        """Link RECIPE/NAME to the artifact that holds the spec's files."""
        if manifest := self.manifest(spec):
            self._link(recipe, name.replace("/", "--"), manifest.holder)

    def name_found(self, recipe: str, name: str, artifact: str) -> None:
        """Link RECIPE/NAME to an artifact by its id, as another store has it, unless it leads to one here."""
        words, known = (recipe, name), self.manifest_of(artifact) if ID.fullmatch(artifact) else None
        plain = all(word and word[0] != "." and "/" not in word and word.isprintable() for word in words)
        if known and plain and f"{recipe}/{name}" not in self.links():
            self._link(recipe, name, artifact)

    def _link(self, recipe: str, name: str, artifact: str) -> None:
        link = self.root / "names" / recipe / name
        target = os.path.relpath(self.root / "artifacts" / artifact, link.parent)
        if link.is_dir() and not link.is_symlink():
            say(f"{link} is a folder, not a link of ours, and stays as it is: move it away")
        elif read_link(link) != target:
            write_link(link, target)

    def links(self) -> dict[str, str]:
        """RECIPE/NAME -> the id of the artifact that holds its files; a slash in a name stands there as `--`."""
        found = ((path, read_link(path)) for path in sorted((self.root / "names").glob("*/*")))
        there = ((path, Path(to).name) for path, to in found if to and (path.parent / to).is_dir())
        return {f"{path.parent.name}/{path.name}": name for path, name in there}

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
