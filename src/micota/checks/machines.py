"""What a machine cannot do for specs: found before anything is made, not when a training begins."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence

from micota.errors import MicotaError
from micota.machine import MachineProfile
from micota.specs import FineTuned, Spec

LOCAL = ("accelerate", "torchrun", "deepspeed", "python", "python3", "env", "nice")
"""Launchers that start a stage on this machine, with the libraries that are here."""
MODULES = {"tensorboard": ("tensorboard", "tensorboardX"), "azure_ml": ("azureml",)}
"""Modules of trackers by TRL's names for them, where there are several or they differ."""


def check_machine(machine: MachineProfile, specs: Sequence[Spec]) -> None:
    """Refuse what a profile cannot do for these specs, and trackers that are not installed. Raises MicotaError."""
    machine.check(specs)
    configs = [machine.training(spec) for spec in specs if isinstance(spec, FineTuned)]
    here = [
        one for one in configs if (one.prefix or LOCAL[0]).split()[0] in LOCAL
    ]  # of another machine nothing is known
    for name in dict.fromkeys(name for one in here for name in one.report_to):
        modules = MODULES.get(name, (name,))
        if not any(map(_is_there, modules)):
            fix = f"pip install {modules[0]}, or leave it out"
            what = f"the tracker {name} of report_to is not installed"
            raise MicotaError(what, where=f"machine profile '{machine.name}'", fix=fix)


def check_allocation(machine: MachineProfile, specs: Sequence[Spec]) -> None:
    """Refuse to make anything by a profile of SLURM outside of its jobs, as on a login node. Raises MicotaError."""
    if machine.slurm and "SLURM_JOB_ID" not in os.environ and not all(spec.made_elsewhere for spec in specs):
        raise MicotaError(
            f"the machine profile '{machine.name}' is for jobs of SLURM, and this is none",
            fix=f"micota submit RECIPE --machine {machine.name}; or the same command in an allocation (salloc)",
        )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
