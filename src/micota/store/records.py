"""The rows that stages hand to each other, and the keys that join them: one JSON object a line."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from micota.atomic import files_only
from micota.chat import answer_begins

FinishReason = Literal["stop", "length", "filter"]  # the last: a server refused to say it


def text_key(*texts: str) -> str:
    """The first 16 hexadecimal digits of the texts' SHA-256; any string is accepted, lone surrogates too."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem and its reference answer. `key` is the hash of the problem's text."""

    key: str
    problem: str
    answer: Any


@dataclass(frozen=True, slots=True)
class Request:
    """One sample of one problem to generate; `prompt` is the user message."""

    key: str
    sample: int
    prompt: str

    def seed(self, seed: int) -> int:
        """The row's own random seed, so that a sampled text depends on nothing but (seed, key, sample)."""
        return int(text_key(str(seed), self.key, str(self.sample)), 16) >> 1


@dataclass(frozen=True, slots=True)
class Completion:
    """One response as the engine returned it, with the engine's name and version; tokens are the model's own.

    A template can end the prompt inside the reasoning (`<think>` and a line's end): `think_prefix` is that piece; its
    key in a pool's lines is `opened`.
    """

    key: str
    sample: int
    prompt: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    engine: str
    think_prefix: str = ""

    @property
    def target(self) -> str:
        """What a student is trained on: the text, after the think prefix that the prompt's template wrote."""
        return self.think_prefix + self.text

    @property
    def answered(self) -> bool:
        """Whether anything follows its thought: one that never ends holds no answer, whatever stands in it."""
        return bool(self.text[answer_begins(self.text, self.think_prefix) :].strip())

    @property
    def sha(self) -> str:
        """The hash of the training example of this row: the prompt and the target."""
        return text_key(self.prompt, self.target)

    def line(self) -> str:
        """The completion as a line of JSON, which ends in its check sum."""
        data = {key: getattr(self, name) for name, key in _KEYS.items()}
        text = json.dumps(data, separators=(",", ":"))
        return f'{text[:-1]},"crc":"{zlib.crc32(text.encode()):08x}"}}\n'

    @classmethod
    def parse(cls, line: str | bytes) -> Completion:
        """The completion of a line of JSON."""
        data = json.loads(line)
        data.pop("crc", None)
        return cls(**{"think_prefix" if name == "opened" else name: value for name, value in data.items()})


_KEYS = {one.name: "opened" if one.name == "think_prefix" else one.name for one in fields(Completion)}
CRC = re.compile(rb',"crc":"([0-9a-f]{8})"\}\n')


def intact(line: bytes) -> bool:
    """Whether a line of completions is as it was written; one without a check sum need only be a completion."""
    if end := CRC.fullmatch(line[-19:]):
        return zlib.crc32(b"}", zlib.crc32(memoryview(line)[:-19])) == int(end[1], 16)
    try:
        bare = line.endswith(b"}\n") and b'"crc"' not in line[-22:]
        return bare and isinstance(Completion.parse(line).text, str)
    except (ValueError, TypeError, AttributeError):
        return False


def solves(verdict: dict[str, Any]) -> bool:
    """Whether a row of verdicts is about a response that is correct and not truncated."""
    return bool(verdict["verdict"] == "correct" and not verdict["truncated"])


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows sorted by (key, sample), so that equal sets of rows are equal files; return their number."""
    ordered = sorted(rows, key=lambda row: (row["key"], row.get("sample", 0)))
    with open(path, "w", encoding="utf-8", newline="\n", opener=files_only) as file:
        file.writelines(json.dumps(row, separators=(",", ":")) + "\n" for row in ordered)
    return len(ordered)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `write_rows` wrote."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]
