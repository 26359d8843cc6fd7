"""What each kind of stage takes in a machine profile: where it runs, with which engine, on how many devices."""

from __future__ import annotations

import re
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from micota.machine.addresses import check_url, is_fake_server
from micota.machine.cluster import EnginesOnRay, RayConfig, TrainingOnRay
from micota.specs import FrozenModel

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
    def workers(self) -> int | None:
        """The processes of a training that Ray starts; None for other stages."""
        return None

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
    """Where models are fine-tuned. The launcher stands in the prefix, as in `accelerate launch`, or is Ray Train."""

    ray: TrainingOnRay | None = Field(None, description="run it on nodes of the Ray cluster")
    device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    devices: int = Field(1, ge=1, description="accelerators of one training, over all its nodes (for the cost)")
    sharding: Literal["none", "fsdp", "zero3"] = Field(
        "none", description="how the model is sharded: said of a launcher (for the cost), done over Ray's workers"
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

    @property
    def workers(self) -> int | None:
        """The processes over nodes of a Ray cluster; None where the prefix starts them."""
        return self.ray.workers if self.ray else None

    @property
    def gpus(self) -> int:
        """The GPUs of each of Ray's workers."""
        return int(self.workers is not None and "cuda" in self.device)

    @property
    def accelerators(self) -> int:
        """The devices of one training, over all its nodes: each of Ray's workers has one."""
        return self.workers or self.devices

    @model_validator(mode="after")
    def _workers_have_no_launcher(self) -> TrainConfig:
        """Refuse a launcher where Ray starts the processes, and another number of devices."""
        if self.workers and self.prefix:
            raise ValueError("Ray starts the `workers`: leave out `prefix:`, or `workers:` for `accelerate launch`")
        if self.workers and self.devices not in (1, self.workers):
            raise ValueError("each of Ray's `workers` has one device: leave out `devices:`")
        return self


class PretrainConfig(StageConfig):
    """Where the lab's models are pre-trained: always on one CPU thread."""

    checkpoint_every: int = Field(50, ge=1, description="steps between checkpoints")


class BpcConfig(StageConfig):
    """Where bits per character are measured."""

    device: str = Field("cpu", description="cpu, cuda, cuda:1, ...")
    devices: int = Field(1, ge=1, description="accelerators that share the model's layers")
    batch: int = Field(128, ge=1, description="responses in one forward pass")
