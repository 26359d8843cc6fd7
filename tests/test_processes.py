"""Training in two processes, replicated (DDP) or sharded (FSDP2), is training in one; interruptions change nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import World
from safetensors.torch import load_file

from micota.machine import TrainConfig

BIN = Path(sys.executable).parent
FSDP = (
    "ACCELERATE_USE_FSDP=true FSDP_VERSION=2 FSDP_AUTO_WRAP_POLICY=TRANSFORMER_BASED_WRAP "
    "FSDP_STATE_DICT_TYPE=SHARDED_STATE_DICT FSDP_RESHARD_AFTER_FORWARD=true FSDP_CPU_RAM_EFFICIENT_LOADING=true"
)
SETS = ("let.student=lab:student", "defaults.train.batch=3", "defaults.train.max_steps=4", "defaults.train.held_out=1")


def prefix(kind: str) -> str:
    """A launcher of two processes on the CPU."""
    launch = "torchrun --standalone --nproc_per_node 2"
    if kind == "ddp":
        return f"env ACCELERATE_USE_CPU=true {launch}"
    return f"env ACCELERATE_USE_CPU=true {FSDP} {launch} {Path(__file__).with_name('fsdp_on_cpu.py')}"


def forked(kind: str) -> str:
    """The same at less than half of the start's cost, where the launcher is not what is tested."""
    launch = f"{sys.executable} {Path(__file__).with_name('two_on_cpu.py')}"
    return f"env ACCELERATE_USE_CPU=true {FSDP if kind == 'fsdp2' else ''} {launch}"


def trained(world: World, store: str, *sets: str, **place: object) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    """The weights and the facts of the arm `strong`, made in a store of its own."""
    if (world.folder / "store").exists():
        (world.folder / "store").rename(world.folder / f"before-{store}")
    world.run(*SETS, *sets, only="strong", machine=world.machine.model_copy(update={"train": TrainConfig(**place)}))
    manifest = world.store.manifest(world.load(*SETS, *sets).named("strong"))
    assert manifest is not None
    return load_file(world.store.files(manifest) / "model.safetensors"), manifest.facts


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.parametrize("kind", ["ddp", pytest.param("fsdp2", marks=pytest.mark.slow)])
def test_two_processes_train_what_one_trains(world: World, kind: str) -> None:
    """Seven examples in steps of three: one of two processes gets a row with nothing to learn in most steps."""
    alone, facts = trained(world, "one", micro_batch=2)
    together, same_facts = trained(world, "two", micro_batch=1, prefix=forked(kind))
    same(alone, together)
    assert same_facts["distributed"] == {"ddp": "2 processes, MULTI_CPU", "fsdp2": "2 processes, FSDP2"}[kind]
    assert facts["steps"] == same_facts["steps"] == 4
    for name in ("loss", "held_out_loss"):
        one, two = facts[name], same_facts[name]
        assert isinstance(one, list) and isinstance(two, list)
        assert [step for step, _ in one] == [step for step, _ in two]
        assert [loss for _, loss in two] == pytest.approx([loss for _, loss in one], rel=1e-4), name


def test_a_launcher_that_gives_its_stage_no_input_does_not_end_it(world: World) -> None:
    """As sbatch, whose jobs read from /dev/null."""
    _, facts = trained(world, "one", prefix="sh -c 'exec \"$@\" < /dev/null' sh")
    assert facts["steps"] == 4


LONGER = (*SETS, "defaults.train.max_steps=12")


def started(world: World, kind: str) -> subprocess.Popen[str]:
    """A run of the arm `strong` as a process of its own; it writes a checkpoint at every step."""
    script = world.folder / "answers.jsonl"
    train = f"{{prefix: '{prefix(kind)}', micro_batch: 1, checkpoint_every: 1}}"
    world.write("machine.yaml", f"generate: {{engine: scripted, script: {script}, batch: 4}}\ntrain: {train}\n")
    sets = [word for one in LONGER for word in ("--set", one)]
    command = [BIN / "micota", "run", "recipe.yaml", "--machine", "./machine.yaml", "--only", "strong", *sets]
    return subprocess.Popen(
        [*command, "--store", "store"], cwd=world.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def last(world: World) -> int:
    """The newest whole checkpoint."""
    found = world.folder.glob("store/making/train-*/scratch/checkpoints/checkpoint-*/complete")
    return max((int(path.parent.name.partition("-")[2]) for path in found), default=0)


def interrupted(world: World, kind: str, step: int, number: int) -> int:
    """A run that gets a signal when it has reached that step; its exit code."""
    run = started(world, kind)
    while run.poll() is None and last(world) < step:
        time.sleep(0.05)
    os.kill(run.pid, number)
    said = run.communicate(timeout=120)[0]
    assert step <= last(world) < 12, said
    return run.returncode


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_interrupted_end_with_the_same_weights(world: World, kind: str) -> None:
    alone, _ = trained(world, "one", "defaults.train.max_steps=12", micro_batch=2)
    (world.folder / "store").rename(world.folder / "before")
    assert interrupted(world, kind, 4, signal.SIGKILL) == -signal.SIGKILL  # inside the second epoch of three steps
    assert interrupted(world, kind, last(world) + 2, signal.SIGUSR1) == 143
    run = started(world, kind)
    said = run.communicate(timeout=200)[0]
    assert run.returncode == 0 and "1 stages executed" in said, said
    world.fresh()
    files = world.files_of(world.load(*LONGER).named("strong"))
    same(alone, load_file(files / "model.safetensors"))
    facts = json.loads((files.parent / "manifest.json").read_text())["facts"]
    assert facts["steps"] == 12 and facts["distributed"].startswith("2 processes")


@pytest.mark.slow
def test_what_two_processes_began_one_ends_with_the_same_weights(world: World) -> None:
    alone, _ = trained(world, "one", "defaults.train.max_steps=12", micro_batch=2)
    (world.folder / "store").rename(world.folder / "before")
    assert interrupted(world, "ddp", 4, signal.SIGUSR1) == 143  # by a file, which must not stop the next run too
    world.run(*LONGER, only="strong", machine=world.machine.model_copy(update={"train": TrainConfig(micro_batch=2)}))
    files = world.files_of(world.load(*LONGER).named("strong"))
    same(alone, load_file(files / "model.safetensors"))
