"""The record of a finished artifact: `manifest.json`, which is written last."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from micota.specs import sha
from micota.store.checked import Written, record, say, sealed

ID = re.compile(r"[a-z]+-[0-9a-f]{16}")
"""An artifact's id."""


@dataclass(frozen=True)
class Manifest:
    """The record of a finished artifact. `content` is the hash of its files: equal contents are interchangeable.

    `same_as` is the id of the artifact whose files a linked one shares. `pools` are the completion pools that its rows
    refer to. `facts` are counts and figures of the stage; `fake` among them are the engines that invented answers which
    it is made of. `provenance` says by what and when it was made; in manifest.json its key is `made`.
    """

    kind: str
    version: str
    digest: str
    fields: dict[str, Any]
    children: dict[str, str]
    inputs_key: str
    content: str
    files: dict[str, Written]
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

    @property
    def accidents(self) -> int:
        """How many of the verdicts, or of those that this was made of, an accident left open."""
        return int(self.facts.get("accidents", 0))

    @property
    def fake(self) -> list[str]:
        """The engines that invented answers which it is made of; [] of what is real."""
        return list(self.facts.get("fake", ()))

    def as_json(self) -> dict[str, Any]:
        """The content of manifest.json."""
        return sealed({"made" if name == "provenance" else name: value for name, value in asdict(self).items()})


def read_manifest(path: Path) -> Manifest | None:
    """The manifest of a file; a bad one counts as missing, and the user is told which and what to do."""
    manifest, newer = record(path, Manifest, {"made": "provenance"})
    if manifest is None or manifest.id != path.parent.name or not _agrees(manifest):
        say(f"{path} cannot be read, so its artifact counts as not made; a run that needs it makes it again")
        return None
    if newer:
        say(f"{path} was made by a newer micota: its {', '.join(newer)} is not understood; update micota")
    return manifest


def _agrees(manifest: Manifest) -> bool:
    """Whether its hashes are those of what it says, and the facts that decide anything are what they should be."""
    fake, accidents = manifest.facts.get("fake", []), manifest.facts.get("accidents", 0)
    if not (isinstance(fake, list) and all(isinstance(one, str) for one in fake) and type(accidents) is int):
        return False
    identity = {"kind": manifest.kind, "version": manifest.version, "fields": manifest.fields}
    files = {name: info.sha256 for name, info in manifest.files.items()}
    return (sha(identity), sha(files)) == (manifest.digest, manifest.content)
