"""Replies of OpenAI-compatible servers, read strictly: one that is not what it should be is requested again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from micota.chat import THOUGHT, THOUGHTS, paired, with_thought
from micota.store.records import FinishReason

FINISHES: dict[str, FinishReason] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls", "function_call"), "stop"),
    **dict.fromkeys(("length", "max_tokens", "max_output_tokens", "model_length"), "length"),
}
"""How servers call the two usual ends of an answer; any other word is one that is never trained on."""
BROKEN = ("abort", "aborted", "error", "cancelled")
LETTERS = 64  # of one token, at most: a text beyond that was not limited by max_tokens


class Malformed(ValueError):
    """A reply that cannot be used, with the reason."""


@dataclass(frozen=True)
class Reply:
    """One answer. `opened` is the opening of a thought that the text does not show; tokens are None if not counted.

    `finish` is None where the server does not say how the answer ended, `tokens` where it does not return them.
    """

    text: str
    opened: str
    finish: FinishReason | None
    prompt_tokens: int | None
    completion_tokens: int | None
    tokens: Sequence[int] | None = None


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Count = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=0, lt=2**40)]


class _Usage(BaseModel):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None


class _Part(BaseModel):
    text: str = ""


class _Message(BaseModel):
    content: str | list[_Part] | None
    reasoning_content: str | None = None
    reasoning: str | None = None
    thinking: str | None = None
    refusal: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_thought_may_stand_alone(cls, data: Any) -> Any:
        return (
            {"content": None, **data}
            if isinstance(data, dict) and not data.keys().isdisjoint((*THOUGHTS, "refusal"))
            else data
        )

    @property
    def text(self) -> str:
        """The answer; parts of it are joined."""
        return "".join(part.text for part in self.content) if isinstance(self.content, list) else self.content or ""


class _Choice(BaseModel):
    finish_reason: str | None = None
    message: _Message | None = None
    text: str | None = None
    token_ids: list[Annotated[int, Field(strict=True, ge=0, lt=2**31)]] | None = None


class _Body(BaseModel):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class ServedModel(BaseModel):
    """What a server says of a model that it serves."""

    id: str
    owned_by: str | None = None
    max_model_len: Annotated[int, Field(strict=True, gt=0)] | None = None


def served_models(body: str) -> list[ServedModel]:
    """The models of a server's list; [] if it has none that can be read."""
    try:
        return [ServedModel.model_validate(one) for one in json.loads(body)["data"]]
    except (ValueError, TypeError, LookupError, RecursionError):
        return []


def largest(limit: int) -> int:
    """The bytes of the largest body with an answer of `limit` tokens: every letter may be written as an escape."""
    return 12 * LETTERS * (limit + 2 * LETTERS)


def read(body: str, opened: str, limit: int) -> Reply:
    """The answer in a reply's body; `opened` is the thought that the prompt has opened, `limit` the most new tokens."""
    try:
        data = _Body.model_validate(json.loads(body))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Malformed(f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}{_said(body)}") from None
    except (ValueError, RecursionError):
        raise Malformed(f"it is no JSON: {body[:80]!r}") from None
    choice, usage = data.choices[0], data.usage or _Usage()
    if choice.message is None and choice.text is None:
        raise Malformed("it has neither a message nor a text")
    text, opened = _answer(choice.message, opened) if choice.message else (choice.text or "", opened)
    long = len(text) > LETTERS * (limit + LETTERS) or (usage.completion_tokens or 0) > 2 * (limit + LETTERS)
    if long or len(choice.token_ids or ()) > limit:
        raise Malformed(f"it is longer than max_tokens, {limit}, allows")
    refused = choice.message is not None and choice.message.refusal
    finish: FinishReason | None = "filter" if refused else _finish(choice.finish_reason, usage, limit)
    counted = usage.completion_tokens or (0 if usage.completion_tokens == 0 and not text else None)
    return Reply(text or refused or "", opened, finish, usage.prompt_tokens or None, counted, choice.token_ids)


def _said(body: str) -> str:
    """What a body without an answer says instead, as far as it is an error."""
    said = json.loads(body)
    error = said.get("error") if isinstance(said, dict) else None
    return f"; the server says {error!r:.200}" if error else ""


def _finish(word: str | None, usage: _Usage, limit: int) -> FinishReason | None:
    if word is None:
        return "length" if (usage.completion_tokens or 0) >= limit else None
    if word.lower() in BROKEN:
        raise Malformed(f"its finish_reason is {word!r}")
    return FINISHES.get(word.lower(), "filter")


def _answer(message: _Message, opened: str) -> tuple[str, str]:
    """The text of a chat's answer, with the thought that some servers return apart put back before it."""
    begin, end = THOUGHT
    thought = next((text for name in THOUGHTS if (text := getattr(message, name))), None)
    text = paired(with_thought(paired(thought or ""), paired(message.text)))
    if thought and text.startswith(f"{begin}\n"):
        return text.removeprefix(f"{begin}\n"), f"{begin}\n"
    if not opened and end in text and begin not in text:
        opened = f"{begin}\n"  # a template that we do not see has opened it
    return text, opened
