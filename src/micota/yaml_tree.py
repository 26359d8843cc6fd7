"""YAML read by the rules of version 1.2, as plain values together with the line that each one stands in.

In YAML 1.1, which PyYAML reads by itself, a key `on` is a boolean and `1e-5` a string; here `on` is a word and `1e-5`
a number. PyYAML finds the scalars and brackets; what they mean is decided here, within bounds: a document from a
stranger must not take memory, depth or digits without end.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from micota.errors import MicotaError, expected, suggestion

Path = tuple[str | int, ...]
VALUES, DEPTH = 100_000, 64
"""The most values of a document with its aliases written out, and the most brackets inside each other."""
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
        dotted = ".".join(f"{part:.80}" if isinstance(part, str) else str(part) for part in path)
        return ", ".join([self.name, *line, *([dotted] if dotted else [])])


def read(text: str, name: str) -> Tree:
    """Parse one document. Errors of syntax, doubled keys and what is beyond the bounds are MicotaErrors."""
    lines: dict[Path, int] = {}
    return Tree(_Reading(text, name, lines).document(), name, lines)


def scalar(text: str) -> Any:
    """A plain (unquoted) scalar by the core schema of YAML 1.2. A number that no field can hold is a ValueError."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        number = int(text, 0) if text[:2] in ("0o", "0x") else int(text) if len(text) < 30 else 2**63
        if abs(number) >= 2**63:
            raise ValueError(f"a number of {len(text)} digits is too large")
        return number
    if not _FLOAT.fullmatch(text):
        return text
    if math.isinf(float(text)):
        raise ValueError(f"{text:.40} is too large for a number")
    return float(text)


class _Reading:
    """One document, read event by event."""

    def __init__(self, text: str, name: str, lines: dict[Path, int]) -> None:
        self._text, self._name, self._lines = text, name, lines
        self._events = self._parse()
        self._anchors: dict[str, tuple[Any, int]] = {}  # the value, and how many values are in it
        self._values = 0

    def document(self) -> Any:
        event = next(
            one for one in self._events if not isinstance(one, yaml.StreamStartEvent | yaml.DocumentStartEvent)
        )
        value = None if isinstance(event, yaml.StreamEndEvent) else self._value(event, ())
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise self._wrong(event, "a second document begins", "keep one document, without `---`")
        return value

    def _parse(self) -> Iterator[Any]:
        text = self._text.encode("utf-8", "replace").decode()  # a lone surrogate is a question mark
        try:
            yield from yaml.parse(text, Loader=_LOADER)
        except yaml.reader.ReaderError as error:
            line = text.encode()[: error.position].count(b"\n")
            raise self._broken(line, f"the character {error.character!r:.20} is none of YAML") from None
        except yaml.MarkedYAMLError as error:
            raise self._broken(error.problem_mark.line if error.problem_mark else 0, str(error.problem)) from None

    def _broken(self, line: int, what: str) -> MicotaError:
        return MicotaError(f"{self._name} is not YAML: {what}", where=f"{self._name}, line {line + 1}")

    def _wrong(self, event: Any, what: str, fix: str | None = None) -> MicotaError:
        return MicotaError(what, where=f"{self._name}, line {_line(event)}", fix=fix)

    def _value(self, event: Any, path: Path) -> Any:
        self._lines.setdefault(path, _line(event))
        before = self._values
        self._count(event, 1)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag is not None:
            raise self._wrong(event, f"the tag {event.tag} has no meaning here", "quote a text that begins with !")
        if len(path) > DEPTH:
            raise self._wrong(event, f"more than {DEPTH} brackets or levels are inside each other")
        value = self._content(event, path)
        if event.anchor:
            self._anchors[event.anchor] = value, self._values - before
        return value

    def _content(self, event: Any, path: Path) -> Any:
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(path)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Any] = []
            while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
                items.append(self._value(event, (*path, len(items))))
            return items
        try:
            return event.value if event.style else scalar(event.value)  # a quoted scalar has a style
        except ValueError as error:
            raise self._wrong(event, str(error), "quote it if it is a text") from None

    def _mapping(self, path: Path) -> dict[str, Any]:
        result: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self._wrong(event, "a key must be a word")
            key = event.value
            if key in result:
                raise self._wrong(event, f"the key '{key}' stands twice", "keep one of the two")
            self._lines[(*path, key)] = _line(event)
            result[key] = self._value(next(self._events), (*path, key))
        return result

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise self._wrong(event, f"*{event.anchor} stands inside what it repeats, or before it")
        value, size = self._anchors[event.anchor]
        self._count(event, size)
        return copy.deepcopy(value)  # a value of its own: `--set` changes one of them

    def _count(self, event: Any, more: int) -> None:
        self._values += more
        if self._values > VALUES:
            raise self._wrong(event, f"there are more than {VALUES:,} values, those of aliases included")


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def override(top: dict[str, Any], text: str) -> None:
    """Apply `--set a.b=c`; the value is a text as it stands, a number or a word of YAML, or YAML in brackets.

    Mappings that a form leaves out are added; the names of a section must exist.
    """
    place, equals, value = expected(text, str, "a text `a.b=c`").partition("=")
    if not equals or not place:
        raise MicotaError(f"'--set {text}' sets nothing", fix="--set let.ta-long.train.lr=2e-5")
    node: Any = top
    done: tuple[str, ...] = ()
    rest = place.split(".")
    while True:
        key, rest = _key(node, rest, ".".join(done) or "the recipe", place)
        if not rest:
            node[key] = _given(value, text)
            return
        if isinstance(node, dict) and node.get(key) is None:
            if done[:1] in _NAMED and len(done) < 3:
                what = f"'--set {place}': {'.'.join(done)} has no '{key}'"
                raise MicotaError(what, fix=suggestion(key, [str(one) for one in node]))
            node[key] = {}
        node, done = node[key], (*done, str(key))


_NAMED = (("let",), ("arms",), ("for",))


def _key(node: Any, parts: list[str], where: str, place: str) -> tuple[Any, list[str]]:
    """The key that the parts of a place begin with, and the parts behind it; a name with dots is one key."""
    if isinstance(node, list):
        if not parts[0].isdecimal() or int(parts[0]) >= len(node):
            fix = f"number its entries from 0 to {len(node) - 1}" if node else None
            raise MicotaError(f"'--set {place}': {where} is a list of {len(node)}, without '{parts[0]}'", fix=fix)
        return int(parts[0]), parts[1:]
    if not isinstance(node, dict):
        raise MicotaError(f"'--set {place}': {where} has no fields: it is {node!r:.80}")
    whole = next((i for i in range(len(parts), 0, -1) if ".".join(parts[:i]) in node), 1)
    return ".".join(parts[:whole]), parts[whole:]


def _given(value: str, text: str) -> Any:
    """The value of an override: YAML where it is a list, a mapping or a quoted text from end to end, else a text."""
    if value[:1] in ("[", '"', "'") or (value[:1] == "{" and (":" in value or value == "{}")):
        try:
            (whole,) = read(f"[{value}]", "--set").value  # in brackets nothing behind it gets lost
            return whole
        except (MicotaError, ValueError):
            pass
    try:
        return scalar(value)
    except ValueError as error:
        raise MicotaError(f"'--set {text:.80}': {error}") from None
