"""Training rows as people keep them: chats, prompt and response, instruction and output; each a turn and its answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from micota.errors import MicotaError

CHATS = ("messages", "conversations")
PAIRS = (
    *(("prompt", "response"), ("prompt", "completion"), ("problem", "response"), ("problem", "text")),
    ("instruction", "output"),
)
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Turn:
    """A user's turn, its answer, and the system message before it, None where the row has none."""

    prompt: str
    response: str
    system: str | None = None


def reader(
    columns: Sequence[str], pair: tuple[str, str] | None, chat: str | None, where: str
) -> Callable[[Row, int], Turn]:
    """What reads a row with its number, by the named columns or else by the usual ones of those that are there."""
    named = [*(pair or ()), *([chat] if chat else [])]
    if lost := [name for name in named if name not in columns]:
        fix = "name the columns in the recipe, as in `prompt: question` and `response: solution`"
        raise MicotaError(f"{where} has no column '{lost[0]}'; it has {', '.join(columns)}", fix=fix)
    chat = chat or (None if pair else next((name for name in CHATS if name in columns), None))
    if chat:
        return lambda row, number: _chat(row[chat], number)
    pair = pair or next((two for two in PAIRS if set(two) <= set(columns)), None)
    if pair is None:
        usual = "; ".join([*CHATS, *(f"{one} and {two}" for one, two in PAIRS)])
        fix = f"name them, as in `prompt: question` and `response: solution`; known by themselves: {usual}"
        raise MicotaError(f"{where} has no columns that are training data; it has {', '.join(columns)}", fix=fix)
    return lambda row, number: _pair(row, *pair, number)


def _pair(row: Row, ask: str, answer: str, number: int) -> Turn:
    prompt, response = row[ask], "" if row[answer] is None else row[answer]
    for column, text in ((ask, prompt), (answer, response)):
        if not isinstance(text, str):
            raise _wrong(number, f"its '{column}' is no text: {text!r:.80}", "name columns of text")
    if ask == "instruction" and isinstance(more := row.get("input"), str) and more.strip():
        prompt = f"{prompt}\n\n{more}"
    return Turn(prompt, response)


def _chat(messages: Any, number: int) -> Turn:
    if not isinstance(messages, list) or not messages:
        raise _wrong(number, f"it holds no chat: {messages!r:.80}", 'write [{"role": "user", "content": ...}, ...]')
    turns = [_message(one, number) for one in messages]
    system = turns.pop(0)[1] if turns[0][0] == "system" else None
    roles = [role for role, _ in turns]
    if roles != ["user", "assistant"]:
        fix = "keep chats of one user's turn and one assistant's; cut or leave out the others"
        raise _wrong(number, f"its chat goes {', '.join(roles) or 'nowhere'}", fix)
    return Turn(turns[0][1], turns[1][1], system)


def _message(one: Any, number: int) -> tuple[str, str]:
    """A message's role and text; a thought that stands apart is put back before its answer."""
    fields = one if isinstance(one, dict) else {}
    role = ROLES.get(str(fields.get("role", fields.get("from"))))
    text = fields.get("content", fields.get("value"))
    if role is None or not isinstance(text, str | None):
        raise _wrong(
            number, f"a message has no known role or no text: {one!r:.80}", 'write {"role": ..., "content": ...}'
        )
    thought = fields.get("reasoning_content")
    opened = f"<think>\n{thought}\n</think>\n\n" if isinstance(thought, str) and thought else ""
    return role, opened + (text or "")


def _wrong(number: int, what: str, fix: str) -> MicotaError:
    why = "training learns one answer to one question; what is more or less would be cut in silence"
    return MicotaError(f"row {number}: {what}", why=why, fix=fix)
