"""A Ray cluster: what a stage asks of it, how a process joins it, and what fits on none of its nodes."""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from micota.errors import MicotaError
from micota.specs import FrozenModel

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
ADDRESS = "RAY_ADDRESS"
AFTER_S = 60.0  # how long another node may take to come in place of a lost one
UNUSED_S = 600.0  # how long GPUs may stand unused while there is work for them, before that is said
NO_CLUSTER = "start one (ray start --head), or name its address in the machine profile: `ray: 10.0.0.1:6379`"


class RayConfig(FrozenModel):
    """`ray` of a stage that runs whole on one node: what it needs there, and what becomes of it when it is lost."""

    cpus: float = Field(1, ge=0, description="CPU cores")
    gpus: float | None = Field(None, ge=0, description="GPUs; null: those of the engine, and none for other stages")
    memory: str | None = Field(
        None, pattern=r"^\d+(\.\d+)?(MB|GB|TB)$", description="memory, as in 64GB: for finding a node, no limit"
    )
    resources: dict[str, float] = Field(
        default_factory=dict, description="other resources, by the names that `ray start --resources` gave them"
    )
    select: dict[str, str] = Field(
        default_factory=dict, description="labels of the node, as in ray.io/accelerator-type: H100"
    )
    python: str | None = Field(
        None, description="the interpreter of another environment, with the same micota, Python and Ray"
    )
    retries: int = Field(2, ge=0, description="how often a lost one is started again before it gives up")
    wait_s: float = Field(
        0, ge=0, description="seconds to wait for a node that is large enough, where nodes may still join"
    )

    def asks(self, gpus: float = 0) -> dict[str, float]:
        """What is asked of one node, by Ray's names; `gpus` where the profile leaves them out. Memory in bytes."""
        memory = float(self.memory[:-2]) * UNITS[self.memory[-2:]] if self.memory else 0
        wanted = {"CPU": self.cpus, "GPU": gpus if self.gpus is None else self.gpus, "memory": memory}
        return {name: number for name, number in {**wanted, **self.resources}.items() if number}

    def options(self, gpus: float = 0) -> dict[str, Any]:
        """The same as options of a Ray actor or task."""
        asks = self.asks(gpus)
        names = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
        own = {option: asks.pop(name, 0) for name, option in names.items()}
        other = {"runtime_env": {"py_executable": self.python}} if self.python else {}
        return {**own, "resources": asks, "label_selector": self.select, **other}


class EnginesOnRay(RayConfig):
    """`ray` of a stage that generates: engines, each with devices of its own on one node, that share the problems."""

    replicas: int = Field(1, ge=1, description="engines at most; those for which there is no room yet start later")


class TrainingOnRay(RayConfig):
    """`ray` of a training: on one node behind its prefix, or in several processes over nodes (Ray Train)."""

    workers: int | None = Field(
        None, ge=1, description="processes that train together, for each of which the rest is asked; null: see prefix"
    )


def join() -> Any:
    """The library ray, joined to the cluster of RAY_ADDRESS or else to this node's. Raises MicotaError without one."""
    try:
        import ray
    except ModuleNotFoundError:
        what = "the machine profile has `ray:`, and Ray is not installed"
        raise MicotaError(what, fix='pip install "micota[ray]" -c constraints/ray.txt') from None
    if ray.is_initialized():
        return ray
    address = os.environ.get(ADDRESS) or "auto"
    try:
        if address != "auto":  # Ray itself would try for minutes
            _connect(address)
        ray.init(address=address, log_to_driver=True, logging_level="ERROR")
    except Exception as error:
        where = "this node" if address == "auto" else address
        why = " ".join(str(error).split())[:400]
        raise MicotaError(f"no Ray cluster can be joined at {where}", why=why, fix=NO_CLUSTER) from None
    return ray


class Head:
    """The head of a cluster, looked at now and then: Ray itself ends a process that has lost it only after a minute."""

    def __init__(self, ray: Any) -> None:
        self._address = str(ray.get_runtime_context().gcs_address)
        self._seen = self._looked = time.monotonic()

    def check(self, every_s: float = 5, patience_s: float = 20) -> None:
        """Raises MicotaError once the head has not answered for `patience_s` seconds."""
        now = time.monotonic()
        if now - self._looked < every_s:
            return
        self._looked = now
        try:
            _connect(self._address)
            self._seen = now
        except OSError as error:
            if now - self._seen > patience_s:
                raise MicotaError(
                    f"the head of the Ray cluster at {self._address} does not answer ({error})",
                    fix="start a cluster again, then repeat the command: it continues with what is missing",
                ) from None


def _connect(address: str) -> None:
    """Raises OSError if nothing listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=2).close()


def misfit(ray: Any, config: RayConfig, gpus: float = 0, times: int = 1) -> str:
    """Why the cluster's nodes can never hold what is asked, so many times: what is asked, and what they have; or ""."""
    asks, nodes = config.asks(gpus), [node for node in ray.nodes() if node["Alive"]]
    if sum(_room(node, asks, config.select) for node in nodes) >= times:
        return ""
    labels = "".join(f", {name}={value}" for name, value in config.select.items())
    has = sorted({_said(node["Resources"], asks) for node in nodes}, reverse=True)
    of = "one node" if times == 1 else f"one node, {times} times in all"
    return f"{_said(asks, asks)}{labels} are asked of {of}; the {len(nodes)} nodes have {' or '.join(has)}"


class Unused:
    """GPUs of a cluster that stand unused while there is work for them, looked at now and then."""

    def __init__(self, ray: Any, after_s: float = UNUSED_S) -> None:
        self._ray, self._after_s = ray, after_s
        self._since: float | None = None
        self._looked, self._said = -math.inf, ""

    def check(self, work: bool, every_s: float = 30) -> str:
        """What to say of them once it has been so for ten minutes: too little is asked for, or too much beside them."""
        now = time.monotonic()
        if now - self._looked > min(every_s, self._after_s):
            self._looked = now
            free = self._ray.available_resources().get("GPU", 0) if work else 0
            self._since = (self._since or now) if free >= 1 else None
            late = self._since is not None and now - self._since >= self._after_s
            what = (
                f"{free:g} GPUs of the cluster have stood unused for {self._after_s / 60:.0f} minutes while work waits"
            )
            hint = "raise `replicas`, or ask for fewer `cpus`, less `memory` or other nodes by `select`"
            if late and not self._said:
                say(f"{what}: {hint}")
            self._said = what if late else ""
        return self._said


class Room:
    """Whether the nodes of a cluster can hold what is asked, looked at now and then: Ray itself waits in silence."""

    def __init__(self, ray: Any, what: str, config: RayConfig, gpus: float = 0, times: int = 1) -> None:
        self._ray, self._what, self._config, self._gpus, self._times = ray, what, config, gpus, times
        self._since: float | None = None
        self._looked, self._patience = -math.inf, config.wait_s
        self._unused = Unused(ray)

    def note(self) -> str:
        """What waits for its turn, and GPUs that stand unused meanwhile, for the progress of a stage."""
        asks = self._config.asks(self._gpus)
        unused = self._unused.check("GPU" in asks)
        many = f"{self._times} x " if self._times > 1 else ""
        return f"waits for {many}{_said(asks, asks)}{f'; {unused}' if unused else ''}"

    def check(self, every_s: float = 5) -> bool:
        """Raises MicotaError once it has been so for `wait_s` seconds that none can; a minute, if nodes have left."""
        now = time.monotonic()
        if now - self._looked > every_s:
            self._looked = now
            why = misfit(self._ray, self._config, self._gpus, self._times)
            self._since = (self._since or now) if why else None
            if self._since is None:
                self._patience = max(self._config.wait_s, AFTER_S)
            elif now - self._since >= self._patience:
                raise unfit(self._what, why)
        return self._since is None


def unfit(what: str, why: str) -> MicotaError:
    """The message about something that no node can hold, from what `misfit` said."""
    fix = (
        "change its `ray:` in the machine profile (engines on CPUs: `gpus: 0`), add such a node, or give `wait_s: 3600`"
    )
    return MicotaError(f"no node of the Ray cluster can hold {what}", why=why, fix=f"{fix} where one is still to join")


def _room(node: Mapping[str, Any], asks: Mapping[str, float], select: Mapping[str, str]) -> float:
    """How many times a node has what is asked. Ray's operators in labels (`!x`, `in(a, b)`) are left to Ray."""
    labels = node.get("Labels", {})
    if not all(labels.get(name) == value or value[:1] == "!" or "(" in value for name, value in select.items()):
        return 0
    return min((node["Resources"].get(name, 0) // number for name, number in asks.items()), default=math.inf)


def _said(resources: Mapping[str, float], names: Iterable[str]) -> str:
    """Amounts of resources in words, in the order of `names`."""
    gb = {name: f"{resources.get(name, 0) / 10**9:.4g} GB of memory" for name in names if name == "memory"}
    return ", ".join(gb.get(name) or f"{resources.get(name, 0):g} {name}" for name in names) or "nothing"


def say(text: str) -> None:
    """A line for the log of the stage."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)
