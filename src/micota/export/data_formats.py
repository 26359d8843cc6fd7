"""Training data as other trainers read it: TRL, chats, ShareGPT with LLaMA-Factory's index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from micota import chat as prompts
from micota.atomic import write_json
from micota.export.lineage import ancestors
from micota.store.artifacts import Store
from micota.store.manifest import Manifest
from micota.store.pool import find
from micota.store.records import read_rows

Turns = list[dict[str, str]]


def rows(store: Store, manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The examples: {key, sample, prompt, response}, texts that any JSON reader takes."""
    pools = [store.pool(pool) for pool in manifest.pools]
    for one in find(pools, read_rows(store.files(manifest) / "rows.jsonl")):
        texts = {"prompt": prompts.paired(one.prompt), "response": prompts.paired(one.target)}
        yield {"key": one.key, "sample": one.sample, **texts}


def system_of(store: Store, manifest: Manifest) -> str | None:
    """The system message that all rows were given with; None without one."""
    given = (one.fields.get("system") for one in ancestors(store, manifest) if one.kind == "rows")
    return next((str(text) for text in given if text is not None), None)


def write(store: Store, manifest: Manifest, folder: Path, form: str, name: str) -> int:
    """Write the rows into a folder in one of FORMATS, in an index under `name`; returns how many there are."""
    system = system_of(store, manifest)
    before = [] if system is None else [{"role": "system", "content": system}]
    count = 0
    with open(folder / FORMATS[form][0], "w", encoding="utf-8") as file:
        for count, row in enumerate(rows(store, manifest), 1):  # noqa: B007
            file.write(json.dumps(FORMATS[form][1](row, before)) + "\n")
    if form == "sharegpt":
        tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
        columns = {"messages": "conversations", **({"system": "system"} if system is not None else {})}
        index = {"file_name": FORMATS[form][0], "formatting": "sharegpt", "columns": columns, "tags": tags}
        write_json(folder / "dataset_info.json", {name: index})
    return count


def _plain(row: Mapping[str, Any], before: Turns) -> dict[str, Any]:
    return dict(row)


def _prompt_completion(row: Mapping[str, Any], before: Turns) -> dict[str, Any]:
    """TRL's conversational form: the chat template is applied by the trainer, the loss is on the completion."""
    answer = {"role": "assistant", "content": row["response"]}
    return {"prompt": [*before, {"role": "user", "content": row["prompt"]}], "completion": [answer]}


def _chat(row: Mapping[str, Any], before: Turns) -> dict[str, Any]:
    both = _prompt_completion(row, before)
    return {"messages": [*both["prompt"], *both["completion"]]}


def _sharegpt(row: Mapping[str, Any], before: Turns) -> dict[str, Any]:
    turns = [{"from": "human", "value": row["prompt"]}, {"from": "gpt", "value": row["response"]}]
    return {"conversations": turns, **({"system": before[0]["content"]} if before else {})}


FORMATS: dict[str, tuple[str, Callable[[Mapping[str, Any], Turns], dict[str, Any]]]] = {
    "rows": ("rows.jsonl", _plain),
    "trl": ("data.jsonl", _prompt_completion),
    "chat": ("data.jsonl", _chat),
    "sharegpt": ("data.jsonl", _sharegpt),
}
"""By the word of `--format` the file that is written, and the form of a row."""
