"""The shipped machine profiles: they can be read, their launchers' flags exist, DeepSpeed's parser takes its part."""

from __future__ import annotations

import importlib.util
import os
import shlex
from pathlib import Path

import pytest

from micota import machine as machines

PROFILES = sorted(path.stem for path in machines.PROFILES.glob("*.yaml"))


def launched(profile: str) -> list[str] | None:
    """What the training's prefix says after `accelerate launch`."""
    words = shlex.split(machines.load(profile).places["train"].prefix or "")
    return words[words.index("launch") + 1 :] if "launch" in words else None


@pytest.mark.parametrize("profile", PROFILES)
def test_every_launcher_takes_its_flags(profile: str) -> None:
    from accelerate.commands.launch import launch_command_parser

    flags = launched(profile)
    assert flags is not None
    args = launch_command_parser().parse_args([*flags, "micota", "stage", "WORK"])
    place = machines.load(profile).places["train"]
    assert args.num_processes == place.devices
    assert bool(args.use_fsdp) == (place.sharding == "fsdp")
    assert bool(args.use_deepspeed) == (place.sharding == "zero3")


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="no DeepSpeed: micota[deepspeed]")
def test_deepspeed_reads_the_configuration_of_its_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As accelerate's launcher hands it on and transformers' trainer fills it, for the one process that is here."""
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils import DeepSpeedPlugin
    from accelerate.utils.launch import prepare_deepspeed_cmd_env
    from deepspeed.runtime.config import DeepSpeedConfig

    args = launch_command_parser().parse_args([*(launched("zero3") or []), "micota"])
    args.deepspeed_fields_from_accelerate_config = ""  # what its launcher adds itself
    for name, value in prepare_deepspeed_cmd_env(args)[1].items():
        if name not in os.environ:
            monkeypatch.setenv(name, value)
    config = DeepSpeedPlugin().deepspeed_config
    filled = {"train_batch_size": 4, "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 4}
    config |= filled | {"gradient_clipping": 1.0, "bf16": {"enabled": True}}
    assert config["zero_optimization"]["stage"] == 3
    assert config["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"]
    assert "auto" not in str(config), config

    read = DeepSpeedConfig(config)
    assert read.zero_optimization_stage == 3 and read.bfloat16_config.enabled
    assert (read.train_batch_size, read.gradient_accumulation_steps) == (4, 4)
