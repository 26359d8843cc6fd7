"""Machine profiles: where and how fast each kind of stage runs. Nothing here affects cache keys."""

from micota.machine.profile import SECTIONS, MachineProfile
from micota.machine.profile_files import PROFILES, find, load
from micota.machine.stage_configs import (
    FAKES,
    BpcConfig,
    EngineConfig,
    GenerateConfig,
    PretrainConfig,
    ServerConfig,
    StageConfig,
    TrainConfig,
)

__all__ = [
    "FAKES",
    "PROFILES",
    "SECTIONS",
    "BpcConfig",
    "EngineConfig",
    "GenerateConfig",
    "MachineProfile",
    "PretrainConfig",
    "ServerConfig",
    "StageConfig",
    "TrainConfig",
    "find",
    "load",
]
