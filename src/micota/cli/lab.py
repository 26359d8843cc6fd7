"""`micota lab pretrain`: the recipe `lab-models`, and its models copied out as plain folders."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from micota.atomic import atomic
from micota.errors import MicotaError
from micota.recipe.recipe import Recipe
from micota.workspace import Workspace

RECIPE = "lab-models"


def pretrain(ws: Workspace, out: Path, only: str | None, sets: Sequence[str]) -> None:
    """Pre-train the lab's models, or one of them, and copy them to `out/NAME`.

    Raises MicotaError for an unknown name, and where `out` holds another model of that name.
    """
    recipe = Recipe.load(RECIPE, sets)
    names = [only] if only else [*recipe.names]
    recipe, _ = ws.run(recipe, lambda read: [read.named(name) for name in names], files=True)
    for name in names:
        copy(ws.artifact(recipe.named(name)).path, out / name)
        ws.console.print(f"{name}: {out / name}", soft_wrap=True, highlight=False)


def copy(files: Path, out: Path) -> None:
    """Copy a model folder as it is; a folder with the same weights is left alone. Raises MicotaError for another."""
    if out.exists():
        weights = [folder / "model.safetensors" for folder in (files, out)]
        if weights[1].is_file() and weights[0].read_bytes() == weights[1].read_bytes():
            return
        raise MicotaError(f"{out} is there already", why="what it holds would be lost", fix="name another folder")
    with atomic(out) as temporary:
        shutil.copytree(files, temporary)
