"""The files of recipes: those that come with micota by their names, others by their paths."""

from __future__ import annotations

from pathlib import Path

import micota
from micota.atomic import written_path
from micota.errors import MicotaError, suggestion

SHIPPED = Path(micota.__file__).parent / "recipes"


def shipped() -> dict[str, Path]:
    """The recipes that come with the package: by their names the files."""
    found = (path for folder in (".", "paper") for path in sorted((SHIPPED / folder).glob("*.yaml")))
    return {path.relative_to(SHIPPED).with_suffix("").as_posix(): path for path in found}


def known(name: str) -> Path | None:
    """The file of a recipe: a shipped one by its name, a path, or NAME.yaml here; None if there is none."""
    paths = (shipped().get(name), written_path(name), written_path(f"{name}.yaml"))
    return next((path for path in paths if path is not None and path.is_file()), None)


def find(name: str) -> Path:
    """The same; a MicotaError if there is none."""
    path = known(name)
    if path is None:
        raise MicotaError(
            f"there is no recipe '{name}'", fix=suggestion(name, shipped()) + " or the path of a YAML file"
        )
    return path


def named(name: str) -> tuple[Path, list[str]]:
    """The file of a recipe, and the changes that its name says: those of `lab-mini+micota.lr=1e-3`."""
    parts = name.split("+")
    for i in range(len(parts) - 1, 0, -1):
        base = "+".join(parts[:i])
        if not written_path(name).is_file() and (base in shipped() or written_path(base).is_file()):
            return find(base), parts[i:]
    return find(name), []
