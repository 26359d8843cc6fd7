"""Pictures that are kept: a figure is drawn again only if what it shows, or the code that draws it, has changed.

A picture lies in the folder under the hash of both, so a changed figure never finds an old one.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path

from micota.report import drawing
from micota.report.drawing import Picture
from micota.report.page import Figure


def pictures(figures: Iterable[Figure], folder: Path) -> dict[str, Picture]:
    """The picture of each figure by the figure's key, taken from the folder or drawn; what no figure needs goes."""
    wanted = {figure.key: (figure, shown(figure)) for figure in figures}
    made = {key: _taken(folder, name) or _kept(folder, name, figure) for key, (figure, name) in wanted.items()}
    names = {name for _, name in wanted.values()}
    for path in folder.glob("*.*"):
        if path.stem not in names:
            path.unlink(missing_ok=True)
    return made


def shown(figure: Figure) -> str:
    """A hash of what a figure shows, which are the values that its drawing function holds, and of the code."""
    held = sorted(inspect.getclosurevars(figure.draw).nonlocals.items())
    what = (_code(), figure.draw.__qualname__, figure.key, figure.title, figure.alt, figure.panels, held)
    return hashlib.sha256(repr(what).encode()).hexdigest()[:32]


@cache
def _code() -> str:
    """A hash of all that can draw: this package's sources and the library's version."""
    texts = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"".join([metadata.version("matplotlib").encode(), *texts])).hexdigest()


def _taken(folder: Path, name: str) -> Picture | None:
    try:
        return drawing.whole((folder / f"{name}.png").read_bytes(), (folder / f"{name}.svg").read_bytes())
    except FileNotFoundError:
        return None


def _kept(folder: Path, name: str, figure: Figure) -> Picture:
    made = drawing.picture(figure)
    write(folder / f"{name}.png", made.png)
    write(folder / f"{name}.svg", made.light)
    return made


def write(path: Path, data: bytes) -> None:
    """Write a file aside, then rename it: a reader finds the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(data)
    os.replace(aside, path)
