"""Machine profiles: where and how fast each kind of stage runs. Nothing here affects cache keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from micota.errors import MicotaError
from micota.machine.addresses import check_url, is_fake_server
from micota.machine.cluster import ADDRESS, EnginesOnRay, RayConfig
from micota.machine.slurm import SlurmConfig
from micota.specs import FrozenModel, Generate, LengthDial, Spec

FAKES = ("scripted", "rehearsed")


class StageConfig(FrozenModel):
    """What every kind of stage takes. Without a prefix, stages run in micota's own process, one at a time."""

    prefix: str | None = Field(
        None, description="put before `micota stage WORK/`: `accelerate launch`, `srun --gpus 4`, `ssh host`, ..."
    )
    ray: RayConfig | None = Field(None, description="run it on a node of the Ray cluster, behind the prefix")

    @property
    def inside(self) -> bool:
        """Whether the stage runs in micota's own process, which a lost Ray cluster would end."""
        return self.prefix is None and self.ray is None

    @property
    def gpus(self) -> int:
        """The GPUs of an engine; unknown, 0, for other stages."""
        return 0

    @property
    def on_ray(self) -> bool:
        """Whether the whole stage runs on a node of the Ray cluster."""
        return self.ray is not None

    @property
    def public(self) -> dict[str, Any]:
        """The fields for a manifest, without what can hold a secret: of an address it has the server only."""
        fields = self.model_dump(exclude={"prefix", "script"})
        return (
            {**fields, "url": "{0.scheme}://{0.netloc}".format(urlsplit(url))} if (url := fields.get("url")) else fields
        )


class EngineConfig(StageConfig):
    """A stage that generates with a model: the engine, its batch, and where it runs."""

    ray: EnginesOnRay | None = Field(None, description="run it on a Ray cluster, in several engines")
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
    def on_ray(self) -> bool:
        """Never: the stage is the driver of its engines."""
        return False

    @property
    def gpus(self) -> int:
        """The GPUs of one engine."""
        return self.tensor_parallel * self.data_parallel if self.engine == "vllm" else int("cuda" in self.device)

    @property
    def invents(self) -> bool:
        """Whether its answers are invented: as the profile says; else those of the fake engines and servers are."""
        if self.fake is not None:
            return self.fake
        return self.engine in FAKES or (self.engine == "openai" and is_fake_server(str(self.url)))

    @model_validator(mode="after")
    def _server_has_an_address(self) -> EngineConfig:
        """Refuse a server without an address. A refused value is not repeated: it may be a key."""
        if self.engine == "openai" and self.url is None:
            raise ValueError("the engine openai needs the server's address: url: http://127.0.0.1:8000/v1")
        if self.url is not None:
            check_url(self.url)
        if self.key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", self.key_env):
            raise ValueError("key_env is the name of an environment variable, as in OPENAI_API_KEY, never the key")
        if self.ray is not None and self.budget is not None:
            raise ValueError("several clients cannot keep one budget: leave out `budget:` or `ray:`")
        return self


class GenerateConfig(EngineConfig):
    """Where responses are generated. Searches for merge weights run there too, unless the profile has `search`."""


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
    ray: str | None = Field(
        None, description="the Ray cluster: its address, as in 10.0.0.1:6379, or `auto`: RAY_ADDRESS, or this node's"
    )
    slurm: SlurmConfig | None = Field(None, description="the jobs in which `micota submit` runs a recipe")
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
    adapter: StageConfig = Field(StageConfig(), description="adding LoRA adapters to their bases")
    merge: StageConfig = Field(StageConfig(), description="merging")
    opd: TrainConfig | None = Field(None, description="on-policy distillation; null: as `train`")
    search: EngineConfig | None = Field(None, description="trying merge weights; null: as `generate`")
    bpc: BpcConfig = Field(BpcConfig(), description="measuring bits per character")

    @model_validator(mode="after")
    def _ray_is_used_and_has_an_address(self) -> MachineProfile:
        """Refuse an address that nothing uses, and that of Ray's client, which would run stages elsewhere."""
        if self.ray is not None and not self._on_ray:
            raise ValueError("no stage of this profile runs on Ray: generate: {ray: {replicas: 8}}")
        if self.ray is not None and self.ray != "auto" and not re.fullmatch(r"\[?[\w.:-]+\]?:\d+", self.ray):
            raise ValueError("ray is `auto` or the address of the cluster's head, as in 10.0.0.1:6379")
        return self

    @model_validator(mode="after")
    def _workers_of_slurm_have_something_to_do(self) -> MachineProfile:
        """Refuse workers that nothing uses, and stages that would not wait for them."""
        if self.slurm and self.slurm.head and not self.starts_ray:
            raise ValueError("slurm: the workers beside `head` serve stages with `ray:`, and `ray: auto`")
        if self.slurm and self.slurm.head and not all(ray.wait_s for ray in self._on_ray):
            raise ValueError("slurm: nodes join after `head` has started: add `wait_s: 604800` to each stage's `ray:`")
        return self

    @property
    def _on_ray(self) -> list[RayConfig]:
        configs = (*(config for _, config in self), *self.servers.values())
        return [config.ray for config in configs if isinstance(config, StageConfig) and config.ray]

    @property
    def starts_ray(self) -> bool:
        """Whether stages run on a Ray cluster that is not there yet: jobs of SLURM start one of their own."""
        return self.ray in (None, "auto") and bool(self._on_ray)

    @property
    def address(self) -> dict[str, str]:
        """The environment variable that leads a process to the cluster."""
        return {ADDRESS: self.ray} if self.ray and self.ray != "auto" else {}

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

    def training(self, spec: Spec) -> TrainConfig:
        """The configuration of a stage that trains a model."""
        config = self.place(spec)
        assert isinstance(config, TrainConfig), f"{spec.kind} trains nothing"
        return config

    def invents(self, spec: Spec) -> bool:
        """Whether the answers of a spec's stage are invented; False for a stage that does not generate."""
        config = self.place(spec)
        return isinstance(config, EngineConfig) and config.invents

    def check(self, specs: Iterable[Spec]) -> None:
        """Refuse, before anything is made, what this profile cannot do for these specs. Raises MicotaError."""
        for spec in specs:
            if (
                isinstance(spec, Generate)
                and spec.sampling.thinking_budget
                and self.engine(spec).engine == "openai"
                and (spec.server or "").startswith("endpoint:")
            ):
                raise MicotaError(
                    "a thought cannot be cut at thinking_budget without the model's tokenizer",
                    where=f"{spec.server}, machine profile '{self.name}'",
                    why="no chat can be continued: the prompt and what was written go to the server as tokens",
                    fix="name the model by its Hub id or folder, and the server in the machine profile",
                )
            if isinstance(spec, LengthDial) and self.engine(spec).engine == "openai":
                raise MicotaError(
                    "a server cannot answer for the candidates of a dial",
                    where=f"machine profile '{self.name}'",
                    why="they are merged here, one after the other, and no server has their weights",
                    fix="search: {engine: vllm, device: cuda} in the machine profile, or {engine: transformers}",
                )

    def as_json(self) -> dict[str, Any]:
        """The profile as plain JSON, without the prefixes: these can hold secrets."""
        stages = {name: {"prefix"} for name in SECTIONS}
        return self.model_dump(mode="json", exclude={**stages, "servers": {"__all__": {"prefix"}}})

    @classmethod
    def of_json(cls, data: Mapping[str, Any]) -> MachineProfile:
        """The profile of plain JSON. Raises pydantic's ValidationError."""
        return cls.model_validate_json(json.dumps(data))


SECTIONS: dict[str, type[StageConfig]] = {
    name: type(config)
    for name, config in MachineProfile(search=EngineConfig(), opd=TrainConfig())
    if isinstance(config, StageConfig)
}
"""Each kind of stage, with the class of its fields."""
