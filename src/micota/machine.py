"""Machine profiles: where and how fast each kind of stage runs. Nothing here affects cache keys."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator

import micota
from micota import yaml_tree
from micota.atomic import read_text, written_path
from micota.errors import MicotaError, suggestion
from micota.specs import FrozenModel, LengthDial, Spec

_KEY = re.compile(  # what can be a key in a path; words, versions and numbers of a deployment are none
    r"[=;@%&#,:]|/(api[-_]?key|key|token|secret|auth|bearer|password)s?/|/(sk|pk|rk|hf|gsk|xai|ghp|nvapi|AIza|key|eyJ)[-_]?\w{8}"
    r"|/(?=[^/]*[A-Za-z])(?=[^/]*[0-9])[\w.~+-]{24,}(/|$)",
    re.IGNORECASE,
)
PROFILES = Path(micota.__file__).parent / "recipes" / "machines"
FAKES = ("scripted", "rehearsed")
FAKE_SERVER = "micota-fake"  # what our fake server calls itself
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class StageConfig(FrozenModel):
    """What every kind of stage takes. Without a prefix, stages run in micota's own process, one at a time."""

    prefix: str | None = Field(
        None, description="put before `micota stage WORK/`: `accelerate launch`, `srun --gpus 4`, `ssh host`, ..."
    )

    @property
    def public(self) -> dict[str, Any]:
        """The fields for a manifest, without what can hold a secret: of an address it has the server only."""
        fields = self.model_dump(exclude={"prefix", "script"})
        return (
            {**fields, "url": "{0.scheme}://{0.netloc}".format(urlsplit(url))} if (url := fields.get("url")) else fields
        )


class EngineConfig(StageConfig):
    """A stage that generates with a model: the engine, its batch, and where it runs."""

    engine: Literal["transformers", "vllm", "openai", "scripted", "rehearsed"] = Field(
        "transformers", description="what generates"
    )
    device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    batch: int = Field(128, ge=1, description="responses generated at once; of a server, requests in flight")
    tensor_parallel: int = Field(1, ge=1, description="vllm: GPUs that share one copy of the model")
    data_parallel: int = Field(1, ge=1, description="vllm: copies of the model")
    prefix_caching: bool = Field(True, description="vllm: a prefix that prompts share is computed once")
    memory: float = Field(0.9, gt=0, lt=1, description="vllm: share of a GPU's memory")
    url: str | None = Field(
        None, repr=False, description="openai: the server's address, as in http://127.0.0.1:8000/v1"
    )
    served: str | None = Field(None, description="openai: the model's name on the server, if not the recipe's")
    key_env: str | None = Field(None, description="openai: the environment variable that holds the API key")
    timeout_s: float = Field(3600, gt=0, description="openai: seconds that one response may take")
    patience_s: float = Field(600, ge=0, description="openai: seconds for which failed requests are repeated")
    budget: int | None = Field(None, ge=1, description="openai: tokens, prompts included, that one run may spend")
    script: str | None = Field(None, description="scripted: a JSONL file of responses, relative to the profile")
    fake: bool | None = Field(
        None, description="answers are invented: kept apart, and marked in all that is made of them; null: found out"
    )

    @property
    def invents(self) -> bool:
        """Whether its answers are invented: as the profile says; else those of the fake engines and servers are."""
        if self.fake is not None:
            return self.fake
        return self.engine in FAKES or (self.engine == "openai" and _is_fake_server(str(self.url)))

    @model_validator(mode="after")
    def _server_has_an_address(self) -> EngineConfig:
        """Refuse a server without an address. A refused value is not repeated: it may be a key."""
        if self.engine == "openai" and self.url is None:
            raise ValueError("the engine openai needs the server's address: url: http://127.0.0.1:8000/v1")
        if self.url is not None:
            parts = urlsplit(self.url)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("url is no address: write it as http://127.0.0.1:8000/v1")
            if parts.username or parts.password or parts.query or parts.fragment or _KEY.search(parts.path):
                raise ValueError("url holds more than an address: a key goes into the variable that key_env names")
        if self.key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", self.key_env):
            raise ValueError("key_env is the name of an environment variable, as in OPENAI_API_KEY, never the key")
        return self


class GenerateConfig(EngineConfig):
    """Where responses are generated. Searches for merge weights run there too, unless the profile has `search`."""

    processes: int = Field(
        1, ge=1, description="processes that the prefix starts, as `srun --ntasks` does; they share the problems"
    )


class ServerConfig(GenerateConfig):
    """A server that generates for one model, whatever generates for the others."""

    engine: Literal["transformers", "vllm", "openai", "scripted", "rehearsed"] = Field(
        "openai", description="what generates"
    )


class TrainConfig(StageConfig):
    """Where models are fine-tuned. The launcher stands in the prefix, as in `accelerate launch`."""

    device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    devices: int = Field(1, ge=1, description="accelerators of one training, over all its nodes (for the cost)")
    sharding: Literal["none", "fsdp", "zero3"] = Field(
        "none", description="how the launcher shards the model (for the cost)"
    )
    micro_batch: int = Field(32, ge=1, description="rows at once on each device; accumulated to the batch")
    activation_checkpointing: bool | None = Field(
        None, description="compute activations again in the backward pass; null: on GPUs only"
    )
    attention: str | None = Field(None, description="transformers' name for it: sdpa, flash_attention_2, ...")
    padding_free: bool = Field(False, description="a micro-batch is one row without padding; needs flash attention")
    checkpoint_every: int = Field(50, ge=1, description="optimizer steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that stay until the training ends")
    report_to: tuple[str, ...] = Field((), description="trackers by TRL's names: wandb, trackio, tensorboard")


class PretrainConfig(StageConfig):
    """Where the lab's models are pre-trained: always on one CPU thread."""

    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints")


class BpcConfig(StageConfig):
    """Where bits per character are measured."""

    device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    devices: int = Field(1, ge=1, description="accelerators that share the model's layers")
    batch: int = Field(128, ge=1, description="responses in one forward pass")


class MachineProfile(FrozenModel):
    """How many stages run at once, with how many threads, and the configuration of each kind of stage.

    >>> MachineProfile(jobs=2, generate=GenerateConfig(engine="vllm", device="cuda")).generate.batch
    128
    """

    name: str = Field("here", description="the profile's name in manifests; else that of its file")
    jobs: int = Field(1, ge=1, description="stages that run at the same time")
    threads: int = Field(1, ge=1, description="CPU threads of each stage")
    hardware: str | None = Field(None, description="the accelerator, by its name in the table of `micota plan --cost`")
    price: float | None = Field(None, ge=0, description="of one accelerator for an hour, in any currency")
    servers: dict[str, ServerConfig] = Field(
        default_factory=dict, description="servers of single models, by the recipe's names for these models"
    )
    problems: StageConfig = Field(StageConfig(), description="reading problem sets")
    rows: StageConfig = Field(StageConfig(), description="reading training data")
    generate: GenerateConfig = Field(GenerateConfig(), description="generating responses")
    verify: StageConfig = Field(StageConfig(), description="grading responses")
    select: StageConfig = Field(StageConfig(), description="selecting responses for training")
    mix: StageConfig = Field(StageConfig(), description="mixing training data")
    pretrain: PretrainConfig = Field(PretrainConfig(), description="pre-training models of the lab")
    train: TrainConfig = Field(TrainConfig(), description="fine-tuning")
    merge: StageConfig = Field(StageConfig(), description="merging")
    search: EngineConfig | None = Field(None, description="trying merge weights; null: as `generate`")
    bpc: BpcConfig = Field(BpcConfig(), description="measuring bits per character")

    def place(self, spec: Spec) -> StageConfig:
        """The configuration of a spec's stage: that of its model's server, or of the nearest kind that has one."""
        if spec.server in self.servers:
            return self.servers[spec.server]
        configs = (getattr(self, kind, None) for kind in spec.stage_kinds)
        return next((config for config in configs if config is not None), StageConfig())

    def engine(self, spec: Spec) -> EngineConfig:
        """The configuration of a stage that generates."""
        config = self.place(spec)
        assert isinstance(config, EngineConfig), f"{spec.kind} does not generate"
        return config

    def invents(self, spec: Spec) -> bool:
        """Whether the answers of a spec's stage are invented; False for a stage that does not generate."""
        config = self.place(spec)
        return isinstance(config, EngineConfig) and config.invents

    def check(self, specs: Iterable[Spec]) -> None:
        """Refuse, before anything is made, what this profile cannot do for these specs. Raises MicotaError."""
        for spec in specs:
            if isinstance(spec, LengthDial):
                self._check_search(self.engine(spec))
            else:
                self._check_launcher(self.place(spec))

    def _check_search(self, config: EngineConfig) -> None:
        where = f"machine profile '{self.name}'"
        if config.engine == "openai":
            raise MicotaError(
                "a server cannot answer for the candidates of a dial",
                where=where,
                why="they are merged here, one after the other, and no server has their weights",
                fix="search: {engine: vllm, device: cuda} in the machine profile, or {engine: transformers}",
            )
        if isinstance(config, GenerateConfig) and config.processes > 1:
            fix = "search: {...} of its own in the machine profile, without `processes`"
            raise MicotaError(f"search runs in one process, not in {config.processes}", where=where, fix=fix)

    def _check_launcher(self, config: StageConfig) -> None:
        if isinstance(config, GenerateConfig) and config.processes > 1 and config.prefix is None:
            fix = f"generate: {{processes: {config.processes}, prefix: srun --ntasks {config.processes} ...}}"
            what = f"nothing starts the {config.processes} processes"
            raise MicotaError(what, where=f"machine profile '{self.name}'", fix=fix)

    def as_json(self) -> dict[str, Any]:
        """The profile as plain JSON, without the prefixes: these can hold secrets."""
        stages = {name: {"prefix"} for name in SECTIONS}
        return self.model_dump(mode="json", exclude={**stages, "servers": {"__all__": {"prefix"}}})

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> MachineProfile:
        """The profile of plain JSON. Raises pydantic's ValidationError."""
        return cls.model_validate_json(json.dumps(data))


SECTIONS: dict[str, type[StageConfig]] = {
    name: type(config) for name, config in MachineProfile(search=EngineConfig()) if isinstance(config, StageConfig)
}
"""Each kind of stage, with the class of its fields."""


def load(name: str) -> MachineProfile:
    """A shipped profile by its name, or a YAML file by its path. Raises MicotaError with the line of a mistake."""
    shipped = {path.stem: path for path in PROFILES.glob("*.yaml")}
    path = shipped.get(name) or written_path(name)
    if not path.is_file():
        raise MicotaError(f"there is no machine profile '{name}'", fix=suggestion(name, shipped))
    tree = yaml_tree.read(read_text(path), path.name)
    if not isinstance(tree.value, dict):
        raise MicotaError(f"{path} holds no machine profile", fix="begin with `jobs: 1`")
    fields = {"name": path.stem, **{key: value for key, value in tree.value.items() if value is not None}}
    for config in (fields.get("generate"), fields.get("search"), *_mappings(fields.get("servers"))):
        _make_script_absolute(config, path.parent)
    try:
        return MachineProfile.of_json(fields)
    except ValidationError as error:
        raise _mistake(tree, error) from None


def _is_fake_server(url: str) -> bool:
    """Whether our fake server answers there; it runs on the machine that asks, so no other one is asked."""
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK or parts.scheme != "http":
        return False
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=2)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/models")
        return str(connection.getresponse().getheader("Server")).startswith(FAKE_SERVER)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _mappings(servers: Any) -> Iterable[Any]:
    return servers.values() if isinstance(servers, dict) else ()


def _make_script_absolute(config: Any, folder: Path) -> None:
    """A relative script lies beside the profile, wherever the stage that reads it will run."""
    if isinstance(config, dict) and isinstance(config.get("script"), str):
        config["script"] = str((folder / written_path(config["script"])).resolve())


def _mistake(tree: yaml_tree.Tree, error: ValidationError) -> MicotaError:
    """The first mistake, with its line; of a misplaced field, where it belongs."""
    first = error.errors()[0]
    *parents, last = [str(part) for part in first["loc"]]
    where, section = tree.where((*parents, last)), parents[0] if parents else None
    taken = (ServerConfig if section == "servers" else SECTIONS[section]) if section else MachineProfile
    if first["type"] == "extra_forbidden":
        return _misplaced(last, section, list(taken.model_fields), where)
    if first["type"] in ("model_type", "dict_type"):
        return MicotaError(f"'{last}' is no mapping of fields", where=where, fix=f"{last}: {{field: value, ...}}")
    message = first["msg"].removeprefix("Value error, ")
    meaning = taken.model_fields[last].description if last in taken.model_fields else None
    return MicotaError(f"{'.'.join([*parents, last])}: {message}", where=where, why=meaning and f"{last}: {meaning}")


def _misplaced(field: str, section: str | None, known: list[str], where: str) -> MicotaError:
    """An unknown field: the stages that take it, or else the closest name of those that are taken here."""
    takers = [f"`{stage}:`" for stage, config in SECTIONS.items() if field in config.model_fields]
    return MicotaError(
        f"unknown field '{field}'{f' in `{section}:`' if section else ''}",
        where=where,
        why=f"it takes {', '.join(known)}" if section else None,
        fix=f"move it to {' or '.join(takers)}" if takers else suggestion(field, known),
    )
