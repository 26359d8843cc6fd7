"""Training rows in the usual formats: chats, prompt and response, instruction and output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from micota.chat import THOUGHTS, with_thought
from micota.errors import MicotaError

CHATS = ("messages", "conversations")
PAIRS = (
    *(("prompt", "response"), ("prompt", "completion"), ("problem", "response"), ("problem", "text")),
    ("instruction", "output"),
)
SYSTEMS = ("system", "system_prompt")
LOST = ("history", "tools", "functions")
CALLS = ("tool_calls", "function_call", "refusal")
ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Turn:
    """A user message, its response, the system message before it (None: the row has none), and whether it counts."""

    prompt: str
    response: str
    system: str | None = None
    trained: bool = True


def reader(
    columns: Sequence[str], pair: tuple[str, str] | None, chat: str | None, where: str
) -> Callable[[Row, int], Turn]:
    """A function that reads a row with its number: from the named columns, or else from those with a usual name.

    It refuses a row with a value in a column that would be lost: earlier turns, tools, another thought.
    """
    named = [*(pair or ()), *([chat] if chat else [])]
    if missing := [name for name in named if name not in columns]:
        fix = "name the columns in the recipe, as in `prompt: question` and `response: solution`"
        raise MicotaError(f"{where} has no column '{missing[0]}'; it has {', '.join(columns)}", fix=fix)
    chat = chat or (None if pair else next((name for name in CHATS if name in columns), None))
    found = pair or next((two for two in PAIRS if set(two) <= set(columns)), None)
    if chat is None and found is None:
        usual = "; ".join([*CHATS, *(" and ".join(names) for names in PAIRS)])
        fix = f"name them, as in `prompt: question` and `response: solution`; usual names are {usual}"
        raise MicotaError(f"{where} has no columns of training data; it has {', '.join(columns)}", fix=fix)
    lost = [name for name in (*LOST, *(() if pair or chat else THOUGHTS)) if name in columns and name not in named]
    systems = [name for name in SYSTEMS if name in columns and name not in named]

    def read(row: Row, number: int) -> Turn:
        for name in lost:
            if row[name]:
                fix = f"remove the column '{name}', or name those to read: `prompt: question`, `response: solution`"
                raise _wrong(number, f"its column '{name}' would be lost: {row[name]!r:.80}", fix)
        turn = _chat(row[chat], number) if chat else _pair(row, *(found or ("", "")), number)
        return _with_columns(turn, row, systems, number)

    return read


def _with_columns(turn: Turn, row: Row, systems: Sequence[str], number: int) -> Turn:
    """The turn with what columns beside it say: its system message, and whether it is trained on."""
    for name in systems:
        if row[name] and turn.system not in (None, row[name]):
            raise _wrong(number, f"its column '{name}' and its chat have two system messages", "keep one of them")
        turn = replace(turn, system=row[name] or turn.system)
    return replace(turn, trained=turn.trained and _trained(row, number))


def _trained(fields: Row, number: int) -> bool:
    """Whether a row or a message counts in the loss, by its `weight` or `train`."""
    for name in ("weight", "train"):
        value = fields.get(name)
        if value is not None and value not in (0, 1):
            raise _wrong(number, f"its {name} is {value!r:.80}", "a response counts wholly (1) or not at all (0)")
        if value is not None and not value:
            return False
    return True


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
    system = turns.pop(0).text if turns[0].role == "system" else None
    if [turn.role for turn in turns] != ["user", "assistant"]:
        fix = "use chats of one user message and one assistant message; cut or remove the others"
        roles = ", ".join(turn.role for turn in turns) or "missing"
        raise _wrong(number, f"the roles of its chat are {roles}", fix)
    return Turn(turns[0].text, turns[1].text, system, turns[1].trained)


@dataclass(frozen=True)
class _Message:
    role: str
    text: str
    trained: bool


def _message(message: Any, number: int) -> _Message:
    """A message's role and text; a thought in a field of its own is put before its answer, without which it is none."""
    fields = message if isinstance(message, dict) else {}
    role = ROLES.get(str(fields.get("role", fields.get("from"))))
    text = fields.get("content", fields.get("value"))
    if isinstance(text, list):
        text = "".join(part["text"] for part in text) if all(map(_is_text, text)) else {}
    if role is None or not isinstance(text, str | None) or any(fields.get(one) for one in CALLS):
        fix = 'write {"role": ..., "content": ...}'
        raise _wrong(number, f"a message has no known role or no text: {message!r:.80}", fix)
    thought = next((one for name in THOUGHTS if isinstance(one := fields.get(name), str)), "")
    answer = text or ""
    return _Message(role, with_thought(thought, answer) if answer.strip() else answer, _trained(fields, number))


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str)


def _wrong(number: int, what: str, fix: str) -> MicotaError:
    why = "an example is one response to one prompt; anything else would be cut in silence"
    return MicotaError(f"row {number}: {what}", why=why, fix=fix)
