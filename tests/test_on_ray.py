"""Whole stages on nodes of a Ray cluster of real raylets, and a recipe with every stage there. `make test-ray`."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RECIPE, Quiet, World
from raylets import Raylets, raylets
from test_dial import DIAL, MERGE

from micota.errors import StageFailed
from micota.machine import SECTIONS, GenerateConfig, MachineProfile, StageConfig, TrainConfig
from micota.machine.cluster import EnginesOnRay, RayConfig, TrainingOnRay
from micota.run.execution import Run

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: make test-ray"),
    pytest.mark.filterwarnings("default"),  # Ray's own
]


@pytest.fixture(scope="module")
def two() -> Iterator[Raylets]:
    """Two nodes."""
    with raylets(1, 1) as cluster:
        yield cluster


def profile(address: str, generate: GenerateConfig, **stages: StageConfig) -> MachineProfile:
    """Every stage on the cluster, what generates in two engines."""
    ray = {"ray": {"cpus": 0.1, "resources": {"engine": 0.1}}}
    plain = {
        name: config.model_validate(ray) for name, config in SECTIONS.items() if name not in ("generate", "search")
    }
    engines = generate.changed(ray=EnginesOnRay(replicas=2, cpus=0.1, resources={"engine": 0.5}))
    return MachineProfile(name="test", jobs=3, ray=address, **{**plain, "generate": engines, **stages})  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, str]:
    """The content of every artifact of a store."""
    manifests = folder.glob("artifacts/*/manifest.json")
    return {path.parent.name: json.loads(path.read_text())["content"] for path in manifests}


def test_a_recipe_on_ray_is_the_recipe(two: Raylets, world: World) -> None:
    world.run(only="micota", machine=profile(two.address, world.machine.generate))
    world.folder.joinpath("store").rename(world.folder / "on-ray")
    world.run(only="micota")
    made = contents(world.folder / "on-ray")
    assert made == contents(world.folder / "store") and len(made) >= 10


def test_two_models_answer_as_one(two: Raylets, world: World) -> None:
    (spec,) = [one for one in world.load().named("long-cot").children if one.kind == "generate"]
    generate = GenerateConfig(engine="transformers", batch=2)
    Run(world.fresh("on-ray"), profile(two.address, generate), Quiet()).go([spec])
    Run(world.fresh("store"), MachineProfile(generate=generate), Quiet()).go([spec])
    assert contents(world.folder / "on-ray") == contents(world.folder / "store")


def test_candidates_of_a_dial_answer_on_ray_as_here(two: Raylets, world: World) -> None:
    steps = DIAL.replace("steps: 3", "steps: 2, refine: 0, fallback: nearest").replace("ta-long", "teacher")
    world.write("recipe.yaml", RECIPE.replace(MERGE, steps))
    generate = GenerateConfig(engine="transformers", batch=3)
    world.run(only="ta-mid", machine=profile(two.address, generate))
    world.folder.joinpath("store").rename(world.folder / "on-ray")
    world.run(only="ta-mid", machine=MachineProfile(generate=generate))
    made = contents(world.folder / "on-ray")
    assert made == contents(world.folder / "store") and any(name.startswith("search-") for name in made)


def test_what_fits_nowhere_and_what_fails_is_said(two: Raylets, world: World) -> None:
    problems = StageConfig(ray=RayConfig(gpus=8))
    with pytest.raises(StageFailed, match=r"8 GPU are asked of one node; the 3 nodes have .*0 GPU"):
        world.run(only="long-cot", machine=profile(two.address, world.machine.generate, problems=problems))
    world.write("train.jsonl", '{"problem": "1+1"}\n')
    with pytest.raises(StageFailed, match="answer") as error:
        world.run(only="long-cot", machine=profile(two.address, world.machine.generate))
    assert "log:" in str(error.value)


def test_a_training_goes_on_when_its_node_is_lost(two: Raylets, world: World) -> None:
    sets = ("defaults.train.max_steps=60",)
    train = TrainConfig(checkpoint_every=5, ray=TrainingOnRay(cpus=0.1, resources={"lost": 1}), micro_batch=4)
    node = two.join(lost=1)
    world.run(*sets, only="long-cot")
    spec = world.load(*sets).named("ta-long")
    killed = []

    class Killing:
        """A watcher that kills the node once a checkpoint is whole, and lets another one join."""

        def tick(self) -> None:
            if not killed and list(world.folder.glob("store/making/train-*/scratch/checkpoints/*/complete")):
                two.kill(node)
                killed.append(two.join(lost=1))

        def __getattr__(self, name: str) -> object:
            return lambda *_: None

    outcome = Run(world.fresh(), profile(two.address, world.machine.generate, train=train), Killing()).go([spec])  # type: ignore[arg-type]
    assert outcome.executed == [spec.id] and killed
    world.folder.joinpath("store").rename(world.folder / "on-ray")
    world.run(*sets, only="ta-long", machine=world.machine.changed(train=TrainConfig(micro_batch=4)))
    assert contents(world.folder / "on-ray")[spec.id] == contents(world.folder / "store")[spec.id]
