"""YAML read by the rules of version 1.2, as plain values together with the line that each one stands in.

In YAML 1.1, which PyYAML reads by itself, a key `on` is a boolean and `1e-5` a string; here `on` is a word and `1e-5`
a number. PyYAML parses; only what a scalar means is decided here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from micota.errors import MicotaError, suggestion

Path = tuple[str | int, ...]
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "true": True, "false": False}
_WORDS |= {"null": None, ".nan": float("nan"), ".inf": float("inf"), "-.inf": float("-inf")}


@dataclass(frozen=True)
class Tree:
    """The plain value of a document; `lines` maps the path of each value to its line number, from 1."""

    value: Any
    name: str
    lines: dict[Path, int] = field(default_factory=dict)

    def where(self, path: Path) -> str:
        """`lab.yaml, line 7, let.ta-long.train.lr`"""
        known = next((self.lines[path[:i]] for i in range(len(path), -1, -1) if path[:i] in self.lines), None)
        line = [f"line {known}"] if known else []
        dotted = ".".join(str(part) for part in path)
        return ", ".join([self.name, *line, *([dotted] if dotted else [])])


def read(text: str, name: str) -> Tree:
    """Parse one document. Errors of syntax, doubled keys and keys that are no words are MicotaErrors."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise MicotaError(f"{name} is not YAML: {error}") from None
    lines: dict[Path, int] = {}
    value = None if node is None else _plain(node, (), lines, name)
    return Tree(value, name, lines)


def scalar(text: str) -> Any:
    """A plain (unquoted) scalar by the core schema of YAML 1.2."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def override(top: dict[str, Any], text: str) -> None:
    """Apply `--set a.b=c`; the path must exist or end in a field that its kind will check."""
    place, equals, value = text.partition("=")
    if not equals:
        raise MicotaError(f"'--set {text}' sets nothing", fix="--set let.ta-long.train.lr=2e-5")
    node: Any = top
    key: Any
    *parents, last = place.split(".")
    for i, part in enumerate(parents):
        key = int(part) if isinstance(node, list) and part.isdigit() else part
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            known = [str(k) for k in node] if isinstance(node, dict) else []
            where = ".".join(parents[:i]) or "the recipe"
            raise MicotaError(f"'--set {place}': {where} has no '{part}'", fix=suggestion(part, known)) from None
    if not isinstance(node, dict | list):
        raise MicotaError(f"'--set {place}': {'.'.join(parents)} has no fields")
    key = int(last) if isinstance(node, list) and last.isdigit() else last
    node[key] = read(value, "--set").value


def _plain(node: Any, path: Path, lines: dict[Path, int], name: str) -> Any:
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, name)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, i), lines, name) for i, item in enumerate(node.value)]
    return node.value if node.style else scalar(node.value)  # a quoted scalar has a style


def _mapping(node: yaml.MappingNode, path: Path, lines: dict[Path, int], name: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise MicotaError("a key must be a word", where=f"{name}, line {line}")
        key = key_node.value
        if key in result:
            raise MicotaError(f"the key '{key}' stands twice", where=f"{name}, line {line}", fix="keep one of the two")
        result[key] = _plain(value_node, (*path, key), lines, name)
        lines[(*path, key)] = line
    return result
