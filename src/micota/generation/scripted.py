"""A public fake engine: it answers from a JSONL file. For tests and for dry runs of a recipe; no model is loaded.

Each line is {"problem": text, "text": answer} and may have "sample" and "finish_reason"; the problem `*` answers
what no other line does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import micota
from micota.errors import MicotaError
from micota.machine import EngineConfig
from micota.specs import Generate
from micota.store.records import Completion, Request


class Scripted:
    """Answers by the user turn of each line's problem; a word counts as a token."""

    def __init__(self, spec: Generate, place: EngineConfig) -> None:
        if place.script is None:
            raise MicotaError(
                "the scripted engine has no script", fix="generate: {engine: scripted, script: answers.jsonl}"
            )
        self.batch: int | None = place.batch
        self._path = Path(place.script)
        self._lines: dict[tuple[str, int | None], dict[str, Any]] = {}
        with open(self._path, encoding="utf-8") as file:
            for row in map(json.loads, file):
                turn = "*" if row["problem"] == "*" else spec.prompt.user_message(row["problem"])
                self._lines[turn, row.get("sample")] = row

    def render(self, request: Request) -> str:
        return request.prompt

    def close(self) -> None: ...

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        yield [self._one(request) for request in requests]

    def _one(self, request: Request) -> Completion:
        keys = [(request.prompt, request.sample), (request.prompt, None), ("*", None)]
        row = next((self._lines[key] for key in keys if key in self._lines), None)
        if row is None:
            raise MicotaError(
                f"the script has no answer to {request.prompt!r}",
                where=str(self._path),
                fix='add {"problem": "*", ...}',
            )
        text = str(row["text"])
        tokens = len(request.prompt.split()), len(text.split())
        finish = row.get("finish_reason", "stop")
        return Completion(
            request.key, request.sample, request.prompt, text, finish, *tokens, f"scripted {micota.__version__}"
        )
