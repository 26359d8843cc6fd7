"""Training rows in the usual formats: chats, prompt and response, instruction and output."""

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
    """A user message, its response, and the system message before it, None where the row has none."""

    prompt: str
    response: str
    system: str | None = None


def reader(
    columns: Sequence[str], pair: tuple[str, str] | None, chat: str | None, where: str
) -> Callable[[Row, int], Turn]:
    """A function that reads a row with its number: from the named columns, or else from those with a usual name."""
    named = [*(pair or ()), *([chat] if chat else [])]
    if missing := [name for name in named if name not in columns]:
        fix = "name the columns in the recipe, as in `prompt: question` and `response: solution`"
        raise MicotaError(f"{where} has no column '{missing[0]}'; it has {', '.join(columns)}", fix=fix)
    chat = chat or (None if pair else next((name for name in CHATS if name in columns), None))
    if chat:
        return lambda row, number: _chat(row[chat], number)
    pair = pair or next((two for two in PAIRS if set(two) <= set(columns)), None)
    if pair is None:
        usual = "; ".join([*CHATS, *(" and ".join(names) for names in PAIRS)])
        fix = f"name them, as in `prompt: question` and `response: solution`; usual names are {usual}"
        raise MicotaError(f"{where} has no columns of training data; it has {', '.join(columns)}", fix=fix)
    return lambda row, number: _pair(row, *pair, number)


def _pair(row: Row, ask: str, answer: str, number: int) -> Turn:
    prompt, response = row[ask], "" if row[answer] is None else row[answer]
    for column, text in ((ask, prompt), (answer, response)):
        if not isinstance(text, str):
            raise _wrong(number, f"its column '{column}' is no text: {text!r:.80}", "name columns of text")
    if ask == "instruction" and isinstance(more := row.get("input"), str) and more.strip():
        prompt = f"{prompt}\n\n{more}"
    return Turn(prompt, response)


def _chat(messages: Any, number: int) -> Turn:
    if not isinstance(messages, list) or not messages:
        raise _wrong(number, f"it holds no chat: {messages!r:.80}", 'write [{"role": "user", "content": ...}, ...]')
    turns = [_message(message, number) for message in messages]
    system = turns.pop(0)[1] if turns[0][0] == "system" else None
    roles = [role for role, _ in turns]
    if roles != ["user", "assistant"]:
        fix = "use chats of one user message and one assistant message; cut or remove the others"
        raise _wrong(number, f"the roles of its chat are {', '.join(roles) or 'missing'}", fix)
    return Turn(turns[0][1], turns[1][1], system)


def _message(message: Any, number: int) -> tuple[str, str]:
    """A message's role and text; a thought in a field of its own is put before its answer."""
    fields = message if isinstance(message, dict) else {}
    role = ROLES.get(str(fields.get("role", fields.get("from"))))
    text = fields.get("content", fields.get("value"))
    if role is None or not isinstance(text, str | None):
        raise _wrong(
            number, f"a message has no known role or no text: {message!r:.80}", 'write {"role": ..., "content": ...}'
        )
    thought = fields.get("reasoning_content")
    opened = f"<think>\n{thought}\n</think>\n\n" if isinstance(thought, str) and thought else ""
    return role, opened + (text or "")


def _wrong(number: int, what: str, fix: str) -> MicotaError:
    why = "an example is one response to one prompt; anything else would be cut in silence"
    return MicotaError(f"row {number}: {what}", why=why, fix=fix)
