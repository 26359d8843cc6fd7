"""The house: imports point downward only, heavy libraries wait, and the drawing in the docs is the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import micota

ROOT = Path(micota.__file__).parent
DRAWING = Path(__file__).parents[1] / "docs" / "architecture.md"
HEAVY = ("torch", "transformers", "trl", "datasets", "accelerate", "sympy", "math_verify", "numpy", "matplotlib")


def rooms() -> dict[str, int]:
    """Each room of the drawing with its level: `L2  stages/ engines/ ...` inside the block marked `rooms`."""
    block = re.search(r"```rooms\n(.*?)```", DRAWING.read_text(encoding="utf-8"), re.S)
    assert block, "docs/architecture.md has no block ```rooms"
    found: dict[str, int] = {}
    for line in block[1].splitlines():
        level = re.match(r"L(\d)\s+(.*)", line)
        assert level, line
        found |= {name.rstrip("/").removesuffix(".py"): int(level[1]) for name in level[2].split("#")[0].split()}
    return found


def room_of(module: str) -> str:
    """The room of `micota.stages.train` is `stages`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> set[str]:
    """The modules of micota that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {
                f"{node.module}.{alias.name}" if node.module == "micota" else str(node.module) for alias in node.names
            }
    return {name for name in found if name == "micota" or name.startswith("micota.")}


def files() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def module(path: Path) -> str:
    return ".".join(["micota", *path.relative_to(ROOT).with_suffix("").parts])


def test_the_drawing_names_every_room_and_nothing_else() -> None:
    there = {room_of(module(path)) for path in files()}
    assert there - {"__init__", "__main__"} == set(rooms())


def test_imports_point_downward_only() -> None:
    level = rooms()
    upward = [
        f"{module(path)} imports {name}"
        for path in files()
        for name in imports(path)
        if room_of(module(path)) in level and room_of(name) in level
        if level[room_of(name)] > level[room_of(module(path))]
    ]
    assert upward == []


def test_stages_never_import_each_other() -> None:
    crossings = [
        f"{path.name} imports {name}"
        for path in (ROOT / "stages").glob("*.py")
        for name in imports(path)
        if name.startswith("micota.stages.")
    ]
    assert crossings == []


def test_the_lowest_rooms_are_pure() -> None:
    """No files and no network in level 0: nothing there opens, and nothing there imports what could."""
    lowest = [path for path in files() if rooms().get(room_of(module(path))) == 0 and "scoring" not in path.parts]
    banned = {"requests", "httpx", "socket", "urllib", "shutil", "tempfile", "subprocess"}
    for path in lowest:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not names & banned, path
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        assert "open" not in calls or path.name == "records.py", path


def test_a_merge_does_not_wait_for_recipes_to_be_imported() -> None:
    code = "import sys, micota.merge; print([m for m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [name for name in ("micota.specs", "micota.report", "pydantic", "torch") if f"'{name}'" in loaded] == []


def test_importing_micota_and_its_help_load_nothing_heavy() -> None:
    code = (
        "import sys, micota, micota.cli, micota.specs, micota.recipe; print([m for m in sys.modules if '.' not in m])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert [name for name in HEAVY if f"'{name}'" in loaded] == []
