"""Replies of OpenAI-compatible servers, read strictly: one that is not what it should be is requested again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from micota.chat import THOUGHT
from micota.store.records import FinishReason

FINISHES: dict[str, FinishReason] = {"stop": "stop", "length": "length", "content_filter": "filter"}


class Malformed(ValueError):
    """A reply that cannot be used, with the reason."""


@dataclass(frozen=True)
class Reply:
    """One answer. `opened` is the opening of a thought that the text does not show."""

    text: str
    opened: str
    finish: FinishReason
    prompt_tokens: int
    completion_tokens: int


def read(body: str, opened: str) -> Reply:
    """The answer in a reply's body; `opened` is the thought that the prompt is known to have opened."""
    try:
        data = json.loads(body)
    except ValueError:
        raise Malformed(f"it is no JSON: {body[:80]!r}") from None
    choice, usage = _part(_part(data, "choices", list), 0, dict), _part(data, "usage", dict)
    finish = choice.get("finish_reason")
    if finish not in FINISHES:
        raise Malformed(f"its finish_reason is {finish!r}")
    text, opened = _message(choice["message"], opened) if "message" in choice else (choice.get("text"), opened)
    if not isinstance(text, str):
        raise Malformed("it has no text")
    return Reply(
        text, opened, FINISHES[finish], _part(usage, "prompt_tokens", int), _part(usage, "completion_tokens", int)
    )


def _message(message: Any, opened: str) -> tuple[str, str]:
    """The text of a chat's answer, with the thought that some servers return apart put back before it."""
    if not isinstance(message, dict):
        raise Malformed("its message is no object")
    content = message.get("content")
    thought = message.get("reasoning_content") or message.get("reasoning")
    begin, end = THOUGHT
    if isinstance(thought, str):
        answer = f"\n{end}\n\n{content.lstrip()}" if isinstance(content, str) and content.strip() else ""
        return thought.strip("\n") + answer, f"{begin}\n"
    if not isinstance(content, str):
        raise Malformed("its message has no content")
    if not opened and end in content and begin not in content:
        opened = f"{begin}\n"  # a template that we do not see has opened it
    return content, opened


def _part(data: Any, key: str | int, kind: type) -> Any:
    try:
        part = data[key]
    except (KeyError, IndexError, TypeError):
        raise Malformed(f"it has no {key}") from None
    if not isinstance(part, kind) or isinstance(part, bool):
        raise Malformed(f"its {key} is {type(part).__name__}")
    return part
