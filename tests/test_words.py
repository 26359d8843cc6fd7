"""The words: nothing that a user reads says in a private language what the field has a word for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import micota
from micota.cli import main as cli

ROOT = Path(__file__).parents[1]
SOURCE = Path(micota.__file__).parent
LINES = (Path(__file__).parent / "data" / "words.txt").read_text(encoding="utf-8").splitlines()
BETTER = dict(line.split(" = ") for line in LINES if line and not line.startswith("#"))
PHRASES = re.compile(
    r"(?<![\w-])(" + "|".join(map(re.escape, sorted(BETTER, key=len, reverse=True))) + r")(?![\w-])", re.I
)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.S | re.M)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEMPLATES = sorted(p for p in SOURCE.rglob("*") if p.suffix in (".html", ".md", ".jinja", ".j2", ".tex"))


def phrases(text: str) -> list[str]:
    """What of the list stands in a text, with what to write instead."""
    found = (" ".join(match[0].lower().split()) for match in PHRASES.finditer(" ".join(text.split())))
    return sorted({f"'{phrase}': write '{BETTER[phrase]}'" for phrase in found})


def prose(path: Path) -> str:
    """A page without its code: names in code are not words."""
    text = path.read_text(encoding="utf-8")
    return CODE.sub("", text) if path.suffix == ".md" else text


def helps(command: Any, name: str = "micota") -> Iterator[tuple[str, str]]:
    """Every command with its own help and that of its parameters."""
    yield name, " ".join(filter(None, [command.help, *(getattr(one, "help", None) for one in command.params)]))
    for word, inner in getattr(command, "commands", {}).items():
        yield from helps(inner, f"{name} {word}")


def messages(path: Path) -> Iterator[str]:
    """The texts of a source file that are prose: string literals with a space in them, docstrings apart."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "{}" for part in node.values]
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value if " " in node.value else ""


@pytest.mark.parametrize("path", [*PAGES, *TEMPLATES], ids=lambda path: path.name)
def test_pages_and_templates(path: Path) -> None:
    assert phrases(prose(path)) == []


@pytest.mark.parametrize(("name", "text"), list(helps(get_command(cli.app))), ids=lambda value: value[:20])
def test_the_help_of_every_command(name: str, text: str) -> None:
    assert phrases(text) == []


@pytest.mark.parametrize("room", sorted({path.relative_to(SOURCE).parts[0] for path in SOURCE.rglob("*.py")}))
def test_messages(room: str) -> None:
    paths = [path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] == room]
    found = {path.name: phrases("\n".join(messages(path))) for path in paths}
    assert {name: words for name, words in found.items() if words} == {}
