"""A training in processes over nodes of a Ray cluster of real raylets: what a death costs. `make test-ray`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import Quiet, World, scripted_world
from raylets import Raylets, raylets, until

from micota.errors import StageFailed, Stopped
from micota.machine import MachineProfile, TrainConfig
from micota.machine.cluster import TrainingOnRay
from micota.run.execution import Run

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-ray"),
    pytest.mark.filterwarnings("default"),  # Ray's own
]
SETS = ("defaults.train.max_steps=120",)
SHARDED = f"{sys.executable} {Path(__file__).with_name('fsdp_on_cpu.py')}"


@pytest.fixture(scope="module")
def two() -> Iterator[Raylets]:
    """Two nodes that have room for one process of a training each."""
    with raylets() as cluster:
        cluster.nodes += [cluster.join(trainer=1) for _ in range(2)]
        yield cluster


def trainers() -> list[psutil.Process]:
    """The processes of trainings that live on this machine."""
    found = []
    for one in psutil.process_iter(["cmdline"]):
        if "ray::RayTrainWorker" in " ".join(one.info["cmdline"] or ()):
            found.append(one)
    return found


def profile(world: World, address: str, kind: str) -> MachineProfile:
    """A training in two processes, each on a node of its own."""
    other = {"python": SHARDED} if kind == "fsdp2" else {}
    ray = TrainingOnRay(workers=2, cpus=0.1, resources={"trainer": 1}, **other)
    sharding = "fsdp" if kind == "fsdp2" else "none"
    train = TrainConfig(ray=ray, sharding=sharding, micro_batch=1, checkpoint_every=10)
    return world.machine.changed(ray=address, train=train)


class Disturbing(Quiet):
    """A watcher that does something once a checkpoint is whole, and has done it once."""

    def __init__(self, folder: Path, disturb: Callable[[], object]) -> None:
        super().__init__()
        self._folder, self._disturb, self.done = folder, disturb, False

    def tick(self) -> None:
        if not self.done and list(self._folder.glob("store/making/train-*/scratch/checkpoints/*/complete")):
            self.done = True
            self._disturb()


def trained(world: World, machine: MachineProfile, disturb: Callable[[], object], *sets: str) -> tuple[str, str]:
    """The content of the weights of a training that is disturbed after its first checkpoint, and how it was shared."""
    world.run(*SETS, only="long-cot")
    spec = world.load(*SETS, *sets).named("ta-long")
    watch = Disturbing(world.folder, disturb)
    outcome = Run(world.fresh(), machine, watch).go([spec])
    manifest = world.store.manifest(spec)
    assert outcome.executed == [spec.id] and watch.done and manifest is not None
    return manifest.content, str(manifest.facts["distributed"])


@pytest.fixture(scope="module", params=["ddp", "fsdp2"])
def undisturbed(request: pytest.FixtureRequest, two: Raylets, tmp_path_factory: pytest.TempPathFactory, models: Path):
    """How the model is shared out, and the content of its weights."""
    world = scripted_world(tmp_path_factory.mktemp(request.param), models)
    content, shared = trained(world, profile(world, two.address, request.param), lambda: None)
    assert shared == {"ddp": "2 processes, MULTI_CPU", "fsdp2": "2 processes, FSDP2"}[request.param]
    return request.param, content


@pytest.mark.parametrize("lost", ["worker", "node"])
def test_training_survives(two: Raylets, world: World, undisturbed: tuple[str, str], lost: str) -> None:
    kind, content = undisturbed

    def kill() -> None:
        if lost == "worker":
            trainers()[0].kill()
        else:
            (busy,) = [one for one in two.nodes if two.of(one, trainers()[0])]
            two.kill(busy)
            two.nodes[two.nodes.index(busy)] = two.join(trainer=1)

    assert trained(world, profile(world, two.address, kind), kill)[0] == content


def test_an_own_error_ends_the_training_at_once(two: Raylets, world: World) -> None:
    sets = (*SETS, "defaults.train.cutoff=2")
    world.run(*sets, only="long-cot")
    with pytest.raises(StageFailed, match="examples are longer than the cutoff of 2 tokens") as error:
        Run(world.fresh(), profile(world, two.address, "ddp"), Quiet()).go([world.load(*sets).named("ta-long")])
    assert str(error.value).count("longer than the cutoff") == 1
    logs = Path("/tmp/ray/session_latest/logs").resolve().glob("worker-*.err")
    parts = [part for path in logs for part in path.read_text(errors="replace").split("rank 0 of 2 begins")[1:]]
    begun = [part for part in parts if "longer than the cutoff of 2 tokens" in part]
    assert len(begun) == 1  # it was not tried again


def test_a_stopped_training_goes_on_from_its_checkpoint(
    two: Raylets, world: World, undisturbed: tuple[str, str]
) -> None:
    kind, content = undisturbed
    world.run(*SETS, only="long-cot")
    spec = world.load(*SETS).named("ta-long")
    machine = profile(world, two.address, kind)
    run = Run(world.fresh(), machine, watch := Disturbing(world.folder, lambda: run.stop()))
    with pytest.raises(Stopped):
        run.go([spec])
    assert watch.done and until(lambda: not trainers(), 20)
    Run(world.fresh(), machine, Quiet()).go([spec])
    manifest = world.store.manifest(spec)
    assert manifest is not None and manifest.content == content


def test_processes_for_which_there_is_no_room_are_said_and_waiting_can_be_stopped(two: Raylets, world: World) -> None:
    world.run(*SETS, only="long-cot")
    spec = world.load(*SETS).named("ta-long")
    machine = profile(world, two.address, "ddp")
    ray = machine.train.ray
    assert ray is not None
    many = machine.changed(train=TrainConfig(ray=ray.changed(workers=9)))
    with pytest.raises(StageFailed, match="1 trainer are asked of one node, 9 times in all; the 3 nodes have"):
        Run(world.fresh(), many, Quiet()).go([spec])
