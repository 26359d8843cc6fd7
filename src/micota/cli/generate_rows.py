"""What `micota generate` writes: a row for each answer, in a file or in a data set of the Hub."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from micota.atomic import atomic
from micota.chat import paired
from micota.export import card, hub
from micota.workspace import Artifact

COLUMNS = {
    "key": "the hash of the problem's text",
    "sample": "the number of the sample, from 0",
    "problem": "the problem",
    "gold": "its reference answer, as the problem set has it",
    "prompt": "the user message that the model read",
    "response": "what it answered, with its thought",
    "finish_reason": "`stop`, or `length` where it was cut at the limit (`filter`: refused by a server)",
    "repetitive": "whether it ends in degenerate repetition",
    "prompt_tokens": "tokens that the model read",
    "completion_tokens": "tokens that it wrote",
    "engine": "what generated it",
}


def write_rows(answers: Artifact, out: Path) -> int:
    """Write the rows aside and then rename them; returns how many there are."""
    count = 0
    with atomic(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for count, row in enumerate(answers.rows(), 1):  # noqa: B007
            file.write(paired(json.dumps({name: row[name] for name in COLUMNS}, ensure_ascii=False)) + "\n")
    return count


def push(repo: str, out: Path, answers: Artifact, model: str, problems: str) -> str:
    """Put rows and card into a data set of the Hub, private if it is new; returns its address."""
    text = card.of_answers(answers.manifest, model, problems, COLUMNS)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "README.md").write_text(text, encoding="utf-8")
        os.symlink(out.absolute(), Path(folder) / "rows.jsonl")
        return hub.push(repo, "dataset", Path(folder), out)
