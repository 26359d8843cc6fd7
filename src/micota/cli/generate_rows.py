"""`micota generate`: a model's answers to problems and nothing else, as rows that can be read anywhere or be pushed.

It is a recipe of one expression, written beside the rows: the same command goes on after an interruption, and the
recipe is one to grow from.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from micota import yaml_tree
from micota.atomic import atomic, write_text
from micota.benchmarks import BENCHMARKS
from micota.errors import MicotaError
from micota.export import hub
from micota.generation.repetition import loops
from micota.specs import Generate
from micota.store.artifacts import Store
from micota.store.records import read_rows
from micota.store.resolution import is_literal

NAME = "answers"
WRITTEN = "# Written by a command of micota, which writes it anew: copy it to change it.\n"
COLUMNS = {
    "key": "the hash of the problem's text",
    "sample": "the number of the sample, from 0",
    "problem": "the problem",
    "gold": "its answer, as the problem set has it",
    "prompt": "what the model was asked: the user's turn",
    "response": "what it answered, with its thought",
    "finish_reason": "`stop`, or `length` where it was cut at the limit (`filter`: refused by a server)",
    "looped": "whether it ends in the same piece again and again",
    "prompt_tokens": "tokens that the model read",
    "completion_tokens": "tokens that it wrote",
    "engine": "what generated it",
}


def write_recipe(
    out: Path, model: str, problems: str, asked: dict[str, Any], part: dict[str, Any], sets: Iterable[str] = ()
) -> Path:
    """The recipe of one expression, beside the rows; `part` says which of the problems. What is None is left out."""
    fields = {name: value for name, value in asked.items() if value not in (None, {})}
    chosen = {name: value for name, value in part.items() if value is not None}
    asking = {"model": word(model), "problems": problem_set(problems, chosen), "prompt": {}, "sampling": {}, **fields}
    for one in sets:
        yaml_tree.override(asking, one)
    expression = {"generate": {name: value for name, value in asking.items() if value != {}}}
    text = f"name: {json.dumps(out.stem)}\nlet:\n  {NAME}: {json.dumps(expression)}\n"
    return write_beside(out.with_suffix(".yaml"), text)


def write_beside(path: Path, text: str) -> Path:
    """Write a command's recipe, aside and renamed; a recipe of the user's own is never overwritten."""
    if path.exists() and not path.read_text(encoding="utf-8").startswith(WRITTEN):
        fix = "give --out another name, or rename that file"
        raise MicotaError(f"{path} is a file of your own", why="this command writes its recipe there", fix=fix)
    write_text(path, WRITTEN + text)
    return path


def problem_set(given: str, chosen: dict[str, Any]) -> Any:
    """The expression of problems: their word alone, or with the part that was chosen of them."""
    if not chosen:
        return word(given)
    if given in BENCHMARKS:
        b = BENCHMARKS[given]
        own = {"source": b.source, "benchmark": given, "config": b.config, "split": b.split}
        return {"problems": {name: value for name, value in {**own, **chosen}.items() if value is not None}}
    return {"problems": {"source": word(given), **chosen}}


def word(given: str) -> str:
    """A path as one that means the same in the recipe's folder; any other word as it is."""
    path = Path(given).expanduser()
    there = path.exists() or (is_literal(given) and given.startswith((".", "/", "~")))
    return os.path.abspath(path) if there else given


def rows(spec: Generate, store: Store) -> Iterator[dict[str, Any]]:
    """The answers with their problems: one row for each sample."""
    answers, problems = store.manifest(spec), store.manifest(spec.problems)
    assert answers is not None and problems is not None, "asked once they are made"
    asked = {row["key"]: row for row in read_rows(store.files(problems) / "rows.jsonl")}
    wanted = read_rows(store.files(answers) / "rows.jsonl")
    for one in store.pool(answers.pools[0]).read((row["key"], row["sample"]) for row in wanted):
        problem = asked[one.key]
        yield {
            "key": one.key,
            "sample": one.sample,
            "problem": problem["problem"],
            "gold": problem["answer"],
            "prompt": one.prompt,
            "response": one.target,
            "finish_reason": one.finish_reason,
            "looped": loops(one.text),
            "prompt_tokens": one.prompt_tokens,
            "completion_tokens": one.completion_tokens,
            "engine": one.engine,
        }


def export(spec: Generate, store: Store, out: Path) -> int:
    """Write the rows aside and then rename them; returns how many there are."""
    count = 0
    with atomic(out) as temporary, open(temporary, "w", encoding="utf-8") as file:
        for count, row in enumerate(rows(spec, store), 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
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
{facts["truncated"]:,} are cut at {sampling.max_tokens:,} tokens, {facts["looped"]:,} end in a loop.
They are as the model wrote them: not graded, not filtered. Drawn {drawn}, in {spec.precision}. Made with micota.

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
