"""What `micota generate` writes: a row for each answer, and the card of a data set of the Hub."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from micota.atomic import atomic
from micota.export import hub
from micota.specs import Generate
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
            file.write(json.dumps({name: row[name] for name in COLUMNS}, ensure_ascii=False) + "\n")
    return count


def card(spec: Generate, facts: dict[str, Any], model: str, problems: str) -> str:
    """The data set's card: what the Hub reads at its top, and what a reader must know below."""
    sampling = spec.sampling
    drawn = f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}" if sampling.temperature else "greedy"
    columns = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in COLUMNS.items())
    return f"""---
task_categories: [text-generation]
tags: [micota, chain-of-thought, synthetic]
configs:
- config_name: default
  data_files: rows.jsonl
---
# Answers of {model} to {problems}

{facts["rows"]:,} answers, {spec.n} to each problem; mean length {facts["mean_tokens"]:.0f} tokens.
{facts["truncated"]:,} are cut at {sampling.max_tokens:,} tokens, {facts["looped"]:,} end in degenerate repetition.
They are as the model wrote them: not graded, not filtered. Sampling: {drawn}, in {spec.precision}. Made with micota.

The first prompt, as the model read it:

````text
{facts.get("first_prompt", "")}
````

| column | what it is |
|---|---|
{columns}

The terms of the model and of the problems hold for this data too.
"""


def push(repo: str, out: Path, text: str) -> str:
    """Put rows and card into a data set of the Hub, private if it is new; returns its address."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "README.md").write_text(text, encoding="utf-8")
        os.symlink(out.absolute(), Path(folder) / "rows.jsonl")
        return hub.push(repo, "dataset", Path(folder), out)
