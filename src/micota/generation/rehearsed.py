"""The engine of a rehearsal: the model reads and writes for real, then the right answer is put behind what it wrote.

A tiny model with random weights neither ends nor solves anything, and nothing would be left to learn from. So each of
its responses ends with the reference answer, from a JSONL file of {"problem": text, "text": answer}.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from micota.chat import THOUGHT
from micota.generation.scripted import read_script
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
        self._answers = {spec.prompt.user_message(line["problem"]): line["text"] for line in read_script(place)}

    def _completion(self, row: _Row) -> Completion:
        completion = super()._completion(row)
        asked = completion.prompt  # an inquiry has the problem somewhere inside
        gold = self._answers.get(asked) or next((g for one, g in self._answers.items() if one in asked), None)
        if gold is None:
            return completion
        text = completion.text
        for marker in (*THOUGHT, "\\boxed"):
            text = text.replace(marker, "")
        close = f"\n{THOUGHT[1]}" if completion.think_prefix else ""
        judged = "\nVerdict: correct" if "Verdict:" in asked else ""
        answer = f"{close}\n\nFinal Answer: \\boxed{{{gold}}}{judged}"
        return replace(completion, text=text + answer, finish_reason="stop")
