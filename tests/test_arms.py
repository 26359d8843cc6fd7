"""Arms beside the paper's: a straight line between two models."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import World
from safetensors.torch import load_file

import micota as mc

LINE = """
name: line
for: {w: [0.4, 0.5]}
arms:
  instruct: ./models/ta
  line: {interpolate: {base: ./models/ta, model: ./models/teacher, weight: $w}}
  as-merge: {merge: {base: ./models/ta, models: [./models/teacher], method: task_arithmetic, weight: $w, rescale: null}}
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: one for file in folder.glob("*.safetensors") for name, one in load_file(file).items()}


def test_the_line_between_two_models_is_their_weighted_mean(world: World) -> None:
    ws, models = mc.Workspace(world.folder / "line"), world.folder / "models"
    base, model = weights(models / "ta"), weights(models / "teacher")
    for share in (0.0, 0.25, 1.0):
        made = weights(ws.make(mc.interpolate(models / "ta", models / "teacher", share)).path)
        assert made.keys() == base.keys()
        for name, one in made.items():
            expected = (1 - share) * base[name].double() + share * model[name].double()
            assert one.dtype == base[name].dtype
            assert torch.allclose(one.double(), expected, rtol=1e-6, atol=1e-8), name


def test_a_recipe_names_it_and_it_is_one_artifact_with_the_merge(world: World) -> None:
    world.write("line.yaml", LINE)
    recipe = mc.load(str(world.folder / "line.yaml"))
    for w in ("0.4", "0.5"):
        assert recipe.named(f"line[w={w}]").digest == recipe.named(f"as-merge[w={w}]").digest
    assert recipe.named("line[w=0.4]") != recipe.named("line[w=0.5]")
