"""Machine profiles: fields checked by kind of stage; the shipped ones load, and their launchers know their flags."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
from pathlib import Path

import pytest
from conftest import World
from typer.testing import CliRunner

from micota import machine as machines
from micota.cli.main import app
from micota.errors import MicotaError
from micota.machine import EngineConfig, GenerateConfig, MachineProfile, ServerConfig, TrainConfig
from micota.machine.cluster import EnginesOnRay, TrainingOnRay
from micota.run.plan import STAGES
from micota.run.torch_trainer import accelerate_settings

PROFILES = sorted(path.stem for path in machines.PROFILES.glob("*.yaml"))


WRONG = [
    ("merge: {engine: vllm}", "unknown field 'engine' in `merge:`", "move it to `generate:` or `search:`"),
    ("bpc: {micro_batch: 2}", "unknown field 'micro_batch' in `bpc:`", "move it to `train:`"),
    ("generate: {processes: 16}", "`processes` is gone: Ray shares", "generate: {ray: {replicas: 16}"),
    ("train: {engine: vllm}", "it takes prefix, ray, device, devices", "move it to `generate:` or `search:`"),
    ("generate: {ray: {replica: 2}}", "unknown field 'replica' in `generate.ray:`", "did you mean 'replicas'?"),
    ("generate: {replicas: 2}", "unknown field 'replicas' in `generate:`", "move it to `ray:` of the stage"),
    ("generate: {ray: {memory: 64}}", "generate.ray.memory: Input should be a valid string", "as in 64GB"),
    ("generate: {budget: 9, ray: {replicas: 2}}", "generate: several clients cannot keep one budget", "leave out"),
    ("ray: auto", "no stage of this profile runs on Ray", "generate: {ray: {replicas: 8}}"),
    ("merge: {ray: {workers: 2}}", "unknown field 'workers' in `merge.ray:`", "it takes cpus, gpus, memory"),
    ("train: {workers: 2}", "unknown field 'workers' in `train:`", "move it to `ray:` of the stage"),
    ("train: {ray: {workers: 2}, prefix: accelerate launch}", "train: Ray starts the `workers`", "leave out `prefix:`"),
    ("train: {ray: {workers: 2}, devices: 4}", "train: each of Ray's `workers` has one device", "leave out `devices:`"),
    ("pretrain: {device: cuda}", "unknown field 'device' in `pretrain:`", "it takes prefix, ray, checkpoint_every"),
    ("micro_batch: 2", "unknown field 'micro_batch'", "move it to `train:`"),
    ("generate: {enigne: vllm}", "unknown field 'enigne' in `generate:`", "did you mean 'engine'?"),
    ("generat: {engine: vllm}", "unknown field 'generat'", "did you mean 'generate'?"),
    ("servers: {teacher: {ulr: here}}", "unknown field 'ulr' in `servers:`", "did you mean 'url'?"),
    ("servers: {teacher: {}}", "servers.teacher: the engine openai needs", "url: http://127.0.0.1:8000/v1"),
    ("train: 3", "'train' is no mapping of fields", "train: {field: value, ...}"),
    ("train: {micro_batch: 0}", "train.micro_batch: Input should be greater", "rows at once on each device"),
    ("jobs: '2'", "jobs: Input should be a valid integer", "stages that run at the same time"),
]


@pytest.mark.parametrize(("line", "what", "also"), WRONG, ids=[line for line, *_ in WRONG])
def test_a_wrong_field_names_its_line_and_where_it_belongs(line: str, what: str, also: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"threads: 2\n{line}\n")
    with pytest.raises(MicotaError) as error:
        machines.load(str(tmp_path / "mine.yaml"))
    assert what in str(error.value) and also in str(error.value) and "mine.yaml, line 2" in str(error.value)


@pytest.mark.parametrize("url", ["http://user:hunter2@host/v1", "http://host/v1?key=hunter2", "hunter2"])
def test_a_refused_address_is_not_repeated(url: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(f"generate: {{engine: openai, url: '{url}'}}\n")
    with pytest.raises(MicotaError) as error:
        machines.load(str(tmp_path / "mine.yaml"))
    assert "hunter2" not in str(error.value)


def test_every_kind_of_stage_has_a_section_and_every_field_a_meaning() -> None:
    under = {"filter": "select", "rewrite": "select", "candidate": "select", "inquiry": "problems"}
    assert machines.SECTIONS.keys() == {under.get(kind, kind) for kind in STAGES}
    for config in (MachineProfile, ServerConfig, *machines.SECTIONS.values()):
        assert all(field.description for field in config.model_fields.values()), config


def test_a_profile_survives_the_task_file_without_its_prefixes() -> None:
    profile = MachineProfile(
        price=2,
        generate=GenerateConfig(prefix="env KEY=hunter2", ray=EnginesOnRay(replicas=2)),
        search=EngineConfig(batch=3),
        train=TrainConfig(report_to=("wandb",), prefix="ssh hunter2"),
        servers={"teacher": ServerConfig(url="http://127.0.0.1:1/v1", prefix="hunter2")},
    )
    text = json.dumps(profile.as_json())
    again = MachineProfile.of_json(json.loads(text))
    assert "hunter2" not in text
    assert (again.search, again.train.report_to) == (profile.search, ("wandb",))
    assert again.servers["teacher"].url == "http://127.0.0.1:1/v1" and again.generate.ray == profile.generate.ray
    for name in PROFILES:
        loaded = machines.load(name)
        assert MachineProfile.of_json(loaded.as_json()).as_json() == loaded.as_json()


def test_a_relative_script_lies_beside_the_profile(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("generate: {engine: scripted, script: answers.jsonl}\nsearch:\n")
    assert machines.load(str(tmp_path / "mine.yaml")).generate.script == str(tmp_path / "answers.jsonl")


def launched(profile: str) -> list[str] | None:
    """What the training's prefix says after `accelerate launch`."""
    words = shlex.split(machines.load(profile).train.prefix or "")
    return words[words.index("launch") + 1 :] if "launch" in words else None


def test_one_process_on_the_cpu_needs_no_launcher() -> None:
    place = machines.load("laptop").train
    assert (place.prefix, place.device, place.devices, place.sharding) == ("env", "cpu", 1, "none")


@pytest.mark.parametrize(
    "profile", [name for name in PROFILES if name != "laptop" and not machines.load(name).train.workers]
)
def test_every_launcher_takes_its_flags(profile: str) -> None:
    from accelerate.commands.launch import launch_command_parser

    flags = launched(profile)
    assert flags is not None
    args = launch_command_parser().parse_args([*flags, "micota", "stage", "WORK"])
    place = machines.load(profile).train
    assert args.num_processes == place.devices
    assert bool(args.use_fsdp) == (place.sharding == "fsdp")
    assert bool(args.use_deepspeed) == (place.sharding == "zero3")


@pytest.mark.parametrize("profile", ["ddp", "fsdp2", "zero3"])
def test_workers_of_ray_get_what_a_launcher_gives(profile: str) -> None:
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    args = launch_command_parser().parse_args([*(launched(profile) or []), "micota", "stage", "WORK"])
    args.main_process_port, args.deepspeed_fields_from_accelerate_config = 29500, ""
    given = prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)
    place = TrainConfig(device="cuda", sharding=machines.load(profile).train.sharding, ray=TrainingOnRay(workers=8))
    settings = accelerate_settings(place)
    assert settings.items() <= given.items()
    used = {name for name in given if name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "FSDP_VERSION")}
    assert used <= settings.keys()
    assert (place.gpus, place.accelerators) == (1, 8)


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


ADDRESSES = (
    *("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000", "https://api.example.com/openai/deployments/gpt-4o-mini/v1"),
    *("https://api.example.com/v2/vllm-abc123xyz/openai/v1/", "https://host/v1beta/openai", "http://[::1]:8000/v1"),
    *("https://host/proxy/team-7/Qwen2.5-7B-Instruct/v1", "https://host/keys-of-life/v1", "https://host/sk/v1"),
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_no_key_and_a_manifest_has_its_server_only(address: str) -> None:
    place = EngineConfig(engine="openai", url=address)
    assert address.startswith(place.public["url"]) and place.public["url"].count("/") == 2


@pytest.mark.parametrize("prefix", ["", ", prefix: accelerate launch"])
@pytest.mark.parametrize("tracker", ["no_such_tracker", "..", "''"])
def test_a_tracker_that_is_not_here_is_found_before_anything_is_made(world: World, tracker: str, prefix: str) -> None:
    profile, store = world.folder / "mine.yaml", str(world.folder / "fresh")
    profile.write_text(f"train: {{report_to: [{tracker}]{prefix}}}")
    for command in (["check"], ["plan", "--store", store], ["run", "--store", store]):
        result = CliRunner().invoke(app, [*command, str(world.recipe_file), "--machine", str(profile)])
        assert isinstance(result.exception, MicotaError) and "of report_to is not installed" in str(result.exception)
    assert not list(Path(store).rglob("manifest.json"))
    profile.write_text(f"train: {{report_to: [{tracker}], prefix: ssh gpu1 accelerate launch}}")
    assert CliRunner().invoke(app, ["check", str(world.recipe_file), "--machine", str(profile)]).exit_code == 0
