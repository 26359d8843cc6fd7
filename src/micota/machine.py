"""Machine profiles: where and how fast a recipe runs. Nothing here changes what an artifact is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

import micota
from micota import yaml_tree
from micota.errors import MicotaError, suggestion
from micota.specs import KINDS, Value

PROFILES = Path(micota.__file__).parent / "recipes" / "machines"


class Place(Value):
    """Where the stages of one kind run. Without a prefix they run in micota's own process, one at a time.

    `prefix` goes before `micota stage WORK/`, as in `accelerate launch`, `sbatch --wait` or `ssh host`.
    """

    prefix: str | None = None
    device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    engine: Literal["transformers", "scripted"] = Field("transformers", description="what generates")
    batch: int = Field(128, ge=1, description="rows that are generated at once")
    script: str | None = Field(None, description="the answers of the scripted engine: a JSONL file")
    micro_batch: int = Field(32, ge=1, description="examples that are trained on at once on each device")
    checkpoint_every: int = Field(50, ge=1, description="optimizer steps between checkpoints")


class Machine(Value):
    """One profile: how many stages run at once, threads for each, and a place for each kind of stage."""

    name: str = "here"
    jobs: int = Field(1, ge=1, description="stages that run at the same time")
    threads: int = Field(1, ge=1, description="CPU threads of each stage")
    places: dict[str, Place] = Field(default_factory=dict)

    def place(self, kind: str) -> Place:
        """Where a kind runs; a search, which generates, runs where generation does unless it has a place of its own."""
        if kind == "search" and kind not in self.places:
            kind = "generate"
        return self.places.get(kind, Place())


def load(name: str) -> Machine:
    """A shipped profile by its name, or a YAML file by its path."""
    shipped = {path.stem: path for path in PROFILES.glob("*.yaml")}
    path = shipped.get(name) or Path(name).expanduser()
    if not path.is_file():
        raise MicotaError(f"there is no machine profile '{name}'", fix=suggestion(name, shipped))
    tree = yaml_tree.read(path.read_text(encoding="utf-8"), path.name)
    return _parse(tree, path)


def _parse(tree: yaml_tree.Tree, path: Path) -> Machine:
    if not isinstance(tree.value, dict):
        raise MicotaError(f"{path} holds no machine profile", fix="begin with `jobs: 1`")
    fields = {key: value for key, value in tree.value.items() if key in ("name", "jobs", "threads")}
    places = {key: value for key, value in tree.value.items() if key not in fields}
    known = ["name", "jobs", "threads", *KINDS]
    for key in places:
        if key not in KINDS:
            raise MicotaError(f"unknown key '{key}'", where=tree.where((key,)), fix=suggestion(key, known))
    try:
        made = {kind: _absolute(Place(**(fields_ or {})), path.parent) for kind, fields_ in places.items()}
        return Machine(**{"name": path.stem, **fields}, places=made)
    except ValidationError as error:
        first = error.errors()[0]
        where = tuple(part for part in first["loc"])
        raise MicotaError(f"{'.'.join(map(str, where))}: {first['msg']}", where=tree.where(where)) from None


def _absolute(place: Place, beside: Path) -> Place:
    """The place with its script's path made absolute: relative ones start at the profile's folder."""
    if place.script is None:
        return place
    return place.model_copy(update={"script": str((beside / Path(place.script).expanduser()).resolve())})
