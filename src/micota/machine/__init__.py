"""Machine profiles: where and how fast each kind of stage runs. Nothing here affects cache keys."""

from micota.machine.profile import (
    FAKES,
    SECTIONS,
    BpcConfig,
    EngineConfig,
    GenerateConfig,
    MachineProfile,
    PretrainConfig,
    ServerConfig,
    StageConfig,
    TrainConfig,
)
from micota.machine.profile_files import PROFILES, find, load

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
