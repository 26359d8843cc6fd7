"""Machine profiles: where and how fast each kind of stage runs. Nothing here affects cache keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field, model_validator

from micota.errors import MicotaError
from micota.machine.cluster import ADDRESS, RayConfig
from micota.machine.slurm import SlurmConfig
from micota.machine.stage_configs import (
    BpcConfig,
    EngineConfig,
    GenerateConfig,
    PretrainConfig,
    ServerConfig,
    StageConfig,
    TrainConfig,
)
from micota.specs import FrozenModel, Generate, LengthDial, Spec


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
