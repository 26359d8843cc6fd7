"""Machine profiles: where and how fast a recipe runs. Nothing here changes what an artifact is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

import micota
from micota import yaml_tree
from micota.errors import MicotaError, suggestion
from micota.specs import KINDS, FrozenModel, LengthDial, Spec

TOP = ("name", "jobs", "threads", "hardware", "price")
PROFILES = Path(micota.__file__).parent / "recipes" / "machines"


class StageConfig(FrozenModel):
    """Where the stages of one kind run. Without a prefix they run in micota's own process, one at a time.

    `prefix` goes before `micota stage WORK/`, as in `accelerate launch`, `sbatch --wait` or `ssh host`.
    """

    prefix: str | None = None
    device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    engine: Literal["transformers", "vllm", "openai", "scripted", "rehearsed"] = Field(
        "transformers", description="what generates"
    )
    processes: int = Field(
        1, ge=1, description="generate: how many the prefix starts, as srun --ntasks does; they share the problems out"
    )
    batch: int = Field(128, ge=1, description="rows that are generated at once; of a server, requests on their way")
    tensor_parallel: int = Field(1, ge=1, description="vllm: GPUs that share one copy of the model")
    data_parallel: int = Field(1, ge=1, description="vllm: copies of the model")
    prefix_caching: bool = Field(True, description="vllm: what prompts have in common is read once")
    memory: float = Field(0.9, gt=0, lt=1, description="vllm: share of a GPU's memory")
    url: str | None = Field(None, description="openai: where the server is, as in http://127.0.0.1:8000/v1")
    served: str | None = Field(None, description="openai: the model's name there, if it is not the recipe's")
    key_env: str | None = Field(None, description="openai: the environment variable that holds the key")
    timeout_s: float = Field(3600, gt=0, description="openai: how long one answer may take")
    patience_s: float = Field(600, ge=0, description="openai: how long a server that fails is asked again")
    budget: int | None = Field(None, ge=1, description="openai: tokens, read and written, that one run may spend")
    script: str | None = Field(None, description="the answers of the scripted engine: a JSONL file")
    devices: int = Field(1, ge=1, description="accelerators of one stage, over all its nodes")
    micro_batch: int = Field(32, ge=1, description="examples that are trained on at once on each device")
    sharding: Literal["none", "fsdp", "zero3"] = Field("none", description="train: how the prefix shares out a model")
    attention: str | None = Field(None, description="transformers' name of it: sdpa, flash_attention_2, ...")
    activation_checkpointing: bool | None = Field(None, description="train; null: wherever there is no CPU")
    padding_free: bool = Field(
        False, description="train: a micro-batch is one row without padding; needs flash attention"
    )
    checkpoint_every: int = Field(50, ge=1, description="optimizer steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="train: the newest so many are kept until the end")
    report_to: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="train: trackers, by TRL's names"
    )

    @model_validator(mode="after")
    def _server_is_named(self) -> StageConfig:
        """What is refused here is not repeated: it may be a key."""
        if self.engine == "openai" and self.url is None:
            raise ValueError("the engine openai needs the server's address: url: http://127.0.0.1:8000/v1")
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("url is no address: write it as http://127.0.0.1:8000/v1")
            if parts.username or parts.password or parts.query:
                raise ValueError("url holds more than an address: a key goes into the variable that key_env names")
        if self.key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", self.key_env):
            raise ValueError("key_env is the name of an environment variable, as in OPENAI_API_KEY, never the key")
        return self


class MachineProfile(FrozenModel):
    """One profile: how many stages run at once, threads for each, and a place for each kind of stage.

    `servers` says which models are asked through a server, by the recipe's words for them, whatever else generates.
    """

    name: str = "here"
    jobs: int = Field(1, ge=1, description="stages that run at the same time")
    threads: int = Field(1, ge=1, description="CPU threads of each stage")
    hardware: str | None = Field(None, description="the accelerator, by its name in the table of `micota plan --cost`")
    price: float | None = Field(None, ge=0, description="of an accelerator for an hour, in any currency")
    places: dict[str, StageConfig] = Field(default_factory=dict)
    servers: dict[str, StageConfig] = Field(default_factory=dict)

    def place(self, spec: Spec) -> StageConfig:
        """Where a spec is made; a search, which generates, where generation is unless it has a place of its own."""
        if spec.server in self.servers:
            return self.servers[spec.server]
        return next((self.places[kind] for kind in spec.stage_kinds if kind in self.places), StageConfig())

    def check(self, specs: Iterable[Spec]) -> None:
        """Refuse, before anything is made, what a profile cannot do for these specs."""
        for spec in specs:
            asked = spec.search if isinstance(spec, LengthDial) else spec
            place, where = self.place(asked), f"machine profile '{self.name}'"
            if isinstance(spec, LengthDial) and place.engine == "openai":
                raise MicotaError(
                    "a server cannot answer for the candidates of a dial",
                    where=where,
                    why="they are merged here, one after the other, and no server has their weights",
                    fix="search: {engine: vllm, device: cuda} in the machine profile, or {engine: transformers}",
                )
            if place.processes > 1 and asked.kind != "generate":
                fix = f"{asked.kind}: {{...}} of its own in the machine profile, without `processes`"
                raise MicotaError(f"{asked.kind} runs in one process, not in {place.processes}", where=where, fix=fix)
            if place.processes > 1 and place.prefix is None:
                fix = f"generate: {{processes: {place.processes}, prefix: srun --ntasks {place.processes} ...}}"
                raise MicotaError(f"nothing starts the {place.processes} processes", where=where, fix=fix)

    @classmethod
    def made_of(cls, data: Mapping[str, Any]) -> MachineProfile:
        """The inverse of `model_dump`."""
        groups = {
            name: {key: StageConfig(**p) for key, p in data.get(name, {}).items()} for name in ("places", "servers")
        }
        return cls(**{**data, **groups})


def load(name: str) -> MachineProfile:
    """A shipped profile by its name, or a YAML file by its path."""
    shipped = {path.stem: path for path in PROFILES.glob("*.yaml")}
    path = shipped.get(name) or Path(name).expanduser()
    if not path.is_file():
        raise MicotaError(f"there is no machine profile '{name}'", fix=suggestion(name, shipped))
    tree = yaml_tree.read(path.read_text(encoding="utf-8"), path.name)
    return _parse(tree, path)


def _parse(tree: yaml_tree.Tree, path: Path) -> MachineProfile:
    if not isinstance(tree.value, dict):
        raise MicotaError(f"{path} holds no machine profile", fix="begin with `jobs: 1`")
    fields = {key: value for key, value in tree.value.items() if key in TOP}
    places = {key: value for key, value in tree.value.items() if key not in (*fields, "servers")}
    known = [*TOP, "servers", *KINDS]
    for key in places:
        if key not in KINDS:
            raise MicotaError(f"unknown key '{key}'", where=tree.where((key,)), fix=suggestion(key, known))
    made = {kind: _place(tree, (kind,), fields_ or {}, path.parent) for kind, fields_ in places.items()}
    listed = tree.value.get("servers") or {}
    if not isinstance(listed, dict):
        raise MicotaError("'servers' is no mapping", where=tree.where(("servers",)), fix="MODEL: {url: ...}")
    servers = {
        model: _place(tree, ("servers", model), {"engine": "openai", **(fields_ or {})}, path.parent)
        for model, fields_ in listed.items()
    }
    try:
        return MachineProfile(**{"name": path.stem, **fields}, places=made, servers=servers)
    except ValidationError as error:
        raise _wrong(tree, (), error) from None


def _place(tree: yaml_tree.Tree, at: tuple[str, ...], fields: dict[str, Any], beside: Path) -> StageConfig:
    if not isinstance(fields, dict):
        raise MicotaError(f"'{at[-1]}' is no mapping of fields", where=tree.where(at), fix="write {engine: ...}")
    try:
        return _absolute(StageConfig(**fields), beside)
    except ValidationError as error:
        raise _wrong(tree, at, error) from None


def _wrong(tree: yaml_tree.Tree, at: tuple[str, ...], error: ValidationError) -> MicotaError:
    first = error.errors()[0]
    where = (*at, *(str(part) for part in first["loc"]))
    fix = suggestion(where[-1], StageConfig.model_fields) if first["type"] == "extra_forbidden" else None
    message = first["msg"].removeprefix("Value error, ")
    return MicotaError(f"{'.'.join(where)}: {message}", where=tree.where(where), fix=fix)


def _absolute(place: StageConfig, beside: Path) -> StageConfig:
    """The place with its script's path made absolute: relative ones start at the profile's folder."""
    if place.script is None:
        return place
    return place.model_copy(update={"script": str((beside / Path(place.script).expanduser()).resolve())})
