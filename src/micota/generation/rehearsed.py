"""The engine of a rehearsal: the model reads and writes for real, then the answer that was wanted is put behind it.

A tiny model with random weights neither ends nor solves anything, and nothing would be left to learn from. So each of
its responses ends with the gold answer, from a JSONL file of {"problem": text, "text": answer}.
"""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from micota.chat import THOUGHT
from micota.errors import MicotaError
from micota.generation.transformers import Transformers
from micota.machine import EngineConfig
from micota.specs import Generate
from micota.store.records import Completion

if TYPE_CHECKING:
    from micota.generation.transformers import _Row


class Rehearsed(Transformers):
    """Transformers, with the script's answer at the end of each response."""

    def __init__(self, spec: Generate, model: Path, place: EngineConfig, threads: int, stop: Event) -> None:
        super().__init__(spec, model, place, threads, stop)
        if place.script is None:
            raise MicotaError("the rehearsed engine has no script", fix="micota rehearse RECIPE writes one")
        with open(place.script, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        self._answers = {spec.prompt.user_message(row["problem"]): row["text"] for row in rows}

    def _completion(self, row: _Row) -> Completion:
        made = super()._completion(row)
        if made.prompt not in self._answers:
            return made
        written = made.text
        for taken in (*THOUGHT, "\\boxed"):
            written = written.replace(taken, "")
        close = f"\n{THOUGHT[1]}" if made.opened else ""
        text = f"{written}{close}\n\nFinal Answer: \\boxed{{{self._answers[made.prompt]}}}"
        return Completion(
            made.key, made.sample, made.prompt, text, "stop", made.prompt_tokens, made.completion_tokens, made.engine,
            made.opened,
        )  # fmt: skip
