"""A public fake engine: it answers from a JSONL file. For tests and for dry runs of a recipe; no model is loaded.

Each line is {"problem": text, "text": answer} and may have "sample" and "finish_reason"; the problem `*` answers
what no other line does. `"seconds": 0.5` is how long an answer takes, counted from the beginning of its batch, and
`"crash": true` kills the process that answers.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import micota
from micota.errors import MicotaError
from micota.machine import EngineConfig
from micota.specs import Generate
from micota.store.records import Completion, Request


def read_script(place: EngineConfig) -> list[dict[str, Any]]:
    """The lines of the file that the profile names as `script`."""
    if place.script is None:
        what = f"the engine {place.engine} has no script"
        raise MicotaError(what, fix=f"generate: {{engine: {place.engine}, script: answers.jsonl}}")
    with open(place.script, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class Scripted:
    """Answers by the user message of each line's problem; a word counts as a token."""

    def __init__(self, spec: Generate, place: EngineConfig) -> None:
        self.batch: int | None = place.batch
        self._lines: dict[tuple[str, int | None], dict[str, Any]] = {}
        for line in read_script(place):
            message = "*" if line["problem"] == "*" else spec.prompt.user_message(line["problem"])
            self._lines[message, line.get("sample")] = line
        self._path = Path(str(place.script))

    def render(self, request: Request) -> str:
        """The user message: there is no template."""
        return request.prompt

    def close(self) -> None:
        """Nothing is held."""

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """The completions in groups that take the same time; a problem that the script lacks is a `MicotaError`."""
        began = time.monotonic()
        for seconds, group in groupby(sorted(requests, key=self._seconds), self._seconds):
            time.sleep(max(0.0, began + seconds - time.monotonic()))
            yield [self._completion(request) for request in group]

    def _seconds(self, request: Request) -> float:
        return float(self._line(request).get("seconds", 0))

    def _line(self, request: Request) -> dict[str, Any]:
        keys = [(request.prompt, request.sample), (request.prompt, None), ("*", None)]
        line = next((self._lines[key] for key in keys if key in self._lines), None)
        if line is None:
            what = f"the script has no answer to {request.prompt!r}"
            raise MicotaError(what, where=str(self._path), fix='add {"problem": "*", ...}')
        return line

    def _completion(self, request: Request) -> Completion:
        line = self._line(request)
        if line.get("crash"):
            os.kill(os.getpid(), signal.SIGKILL)
        text, finish = str(line["text"]), line.get("finish_reason", "stop")
        tokens = len(request.prompt.split()), len(text.split())
        name = f"scripted {micota.__version__}"
        return Completion(request.key, request.sample, request.prompt, text, finish, *tokens, name)
