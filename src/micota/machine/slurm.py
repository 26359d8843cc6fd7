"""What `micota submit` asks of SLURM: the fields of `slurm` in a machine profile. Nothing here affects cache keys."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from micota.specs import FrozenModel

WARNING_S = 300  # how long before its time limit a job stops where it can continue; of a short one a quarter of it
_TIME = r"^(\d+-)?\d+:\d\d:\d\d$"
_KEY = re.compile(r"(key|token|secret|passw|credential)\w*\s*=", re.IGNORECASE)


def _keyless(line: str) -> str:
    if _KEY.search(line):
        raise ValueError("a key does not belong into a script: export it before `micota submit`, and jobs inherit it")
    return line


Word = Annotated[str, Field(pattern=r"^[\w.,+@:/-]+$")]
Folder = Annotated[str, Field(pattern=r"^/[^\x00-\x1f\x7f,:]*$")]
Option = Annotated[str, Field(pattern=r"^--[a-z][a-z-]*(=[^\x00-\x1f\x7f]+)?$"), AfterValidator(_keyless)]


class Container(FrozenModel):
    """The image in which everything on the nodes runs; it holds micota, and Ray where that is used."""

    runtime: Literal["apptainer", "pyxis"] = Field(
        description="apptainer: `apptainer exec`; pyxis: enroot, by `srun --container-image`"
    )
    image: str = Field(pattern=r"^[^\x00-\x1f\x7f]+$", description="its file or address")
    mounts: tuple[Folder, ...] = Field(
        (), description="more folders to see inside, under the same paths; the store and the current folder always are"
    )


class JobConfig(FrozenModel):
    """What one job asks for on each of its nodes."""

    partition: Word | None = Field(None, description="the partition; null: SBATCH_PARTITION, or the cluster's default")
    time: Annotated[str, Field(pattern=_TIME)] | None = Field(
        None, description="the time limit of a job, as in 24:00:00 or 3-00:00:00; null: the partition's"
    )
    cpus: int = Field(1, ge=1, description="CPU cores of a node")
    gpus: int = Field(0, ge=0, description="GPUs of a node")
    memory: Annotated[str, Field(pattern=r"^\d+[MGT]?$")] | None = Field(None, description="of a node, as in 500G")
    extra: tuple[Option, ...] = Field((), description="more options of sbatch, as in --qos=high or --constraint=h100")

    @property
    def warning_s(self) -> int:
        """The seconds before its time limit at which a job stops."""
        days, _, clock = (self.time or "1-00:00:00").rpartition("-")
        hours, minutes, seconds = map(int, clock.split(":"))
        return min(WARNING_S, (((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds) // 4)


class SlurmConfig(JobConfig):
    """`slurm` of a profile: without `head` one job for the recipe, of `nodes` nodes.

    With `head`: a job that runs the recipe and the head of a Ray cluster, best on a node with CPUs only, and an array
    of `nodes` jobs of one node each, which join it as the queue lets them.
    """

    account: Word | None = Field(None, description="the account; null: SBATCH_ACCOUNT, or the user's default")
    nodes: int = Field(1, ge=1, description="nodes of the job, or jobs of the array")
    head: JobConfig | None = Field(
        None, description="the job that runs the recipe, where engines are jobs of their own"
    )
    container: Container | None = Field(None, description="the image in which everything runs")
    modules: tuple[Word, ...] = Field((), description="modules to load, as in cuda/12.8")
    requeue: int = Field(
        100, ge=0, description="how often a job that reaches its time limit is queued again; 0: nor after preemption"
    )
