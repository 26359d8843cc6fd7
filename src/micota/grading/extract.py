r"""Finding the final answer in a response.

1. What follows the last `</think>` is searched first, then the whole; a thought that never closes in a response
   cut by the length limit holds no answer.
2. The last box (`\boxed{...}`, `\boxed {...}`, `\fbox{...}`, `\boxed 5`) is the answer. Boxes joined to it by
   nothing but `and`, `or`, a comma or a letter's name (`x =`) belong to it; empty boxes are passed over; a last
   box that never closes means that there is no answer.
3. Without a box, and only if the response was not cut: what follows `####`, or what an explicit
   `the answer is ...` or the line below a heading `Final Answer` says; for GSM8K also the last number of the last
   line that has one.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MOST_BOXES: Final = 20
"""So many boxes at most are read as one answer."""
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_JOIN = re.compile(r"(?:\\[()\[\],; ]|\\text\{ ?(?:and|or) ?\}|and|or|[a-zA-Z]\s?=|[\s$,;])*")
_STATED = re.compile(
    r"(?:(?:answer|result)\s*(?:is|:|=)\s*:?|final answer[ \t]*\n)\s*"
    r"(\$[^$\n]{1,200}\$|\\\([^\n]{1,200}?\\\)|[^\n]{1,100})",
    re.I,
)
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?", re.A)
_SENTENCE_END = re.compile(r"\.(?:\s|$)|\s(?:and so|because|since|which)\b")


class FinalAnswer(NamedTuple):
    """The text of the final answer, None if there is none, and where it stood or why not."""

    answer: str | None
    how: str


def final_answer(response: str, benchmark: str | None = None, truncated: bool = False) -> FinalAnswer:
    """The text of the final answer and where it stood; None with the reason where there is none."""
    spoken = _after_thought(response, truncated)
    if spoken is None:
        return FinalAnswer(None, "cut within the thought")
    boxed = _boxed(spoken)
    if boxed is None and not truncated and spoken is not response:
        boxed = _boxed(response)
    if boxed is not None:
        return boxed
    if truncated:
        return FinalAnswer(None, "cut before a final answer")
    return _unboxed(spoken, benchmark)


def _after_thought(response: str, truncated: bool) -> str | None:
    closed = response.rfind("</think>")
    if truncated and response.rfind("<think>") > closed:
        return None
    return response if closed < 0 else response[closed + len("</think>") :]


def _boxed(text: str) -> FinalAnswer | None:
    """The last box with what is joined to it; None if there is no box at all."""
    boxes: list[str] = []
    start = len(text)
    for begin, after in _starts_backwards(text):
        content, end = _content(text, after)
        if content is None:
            if boxes:
                break
            return FinalAnswer(None, "the last box never closes")
        if (boxes and not _JOIN.fullmatch(text, end, min(start, end + 60))) or (boxes and start - end > 60):
            break
        if content.strip():
            boxes.insert(0, content.strip())
            start = begin
        if len(boxes) >= MOST_BOXES:
            break
    if boxes:
        return FinalAnswer(", ".join(dict.fromkeys(boxes)), "boxed")
    return FinalAnswer(None, "the box is empty") if start == len(text) and _BOX.search(text) else None


def _starts_backwards(text: str) -> list[tuple[int, int]]:
    """Begin and end of the last commands that open a box, the last first."""
    starts: list[tuple[int, int]] = []
    at = len(text)
    while at > 0 and len(starts) <= 2 * MOST_BOXES:
        at = max(text.rfind("\\boxed", 0, at), text.rfind("\\fbox", 0, at))
        if at < 0:
            break
        match = _BOX.match(text, at)
        if match is not None:
            starts.append((at, match.end()))
    return starts


def _content(text: str, start: int) -> tuple[str | None, int]:
    if not text.startswith("{", start):
        match = re.compile(r"[^\s$\\{}]*").match(text, start)
        assert match is not None
        return match[0].rstrip(".,"), match.end()
    depth = 0
    for brace in re.compile(r"\\[\\{}]|[{}]").finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start + 1 : brace.start()], brace.end()
    return None, len(text)


def _unboxed(text: str, benchmark: str | None) -> FinalAnswer:
    if "####" in text:
        line = text.rpartition("####")[2].strip().partition("\n")[0]
        if line:
            return FinalAnswer(line, "after ####")
    tail = text[-2000:].replace("**", "")
    stated = [_first_sentence(match[1]) for match in _STATED.finditer(tail)]
    if benchmark == "gsm8k":
        return _number(tail, stated)
    if stated:
        return FinalAnswer(stated[-1], "stated")
    return FinalAnswer(None, "no box and no stated answer")


def _number(tail: str, stated: list[str]) -> FinalAnswer:
    """GSM8K: the first number of the last stated answer, else the last number of the last line with one."""
    if stated and (first := _NUMBER.search(stated[-1])):
        return FinalAnswer(first[0].rstrip(","), "stated")
    for line in reversed(tail.splitlines()):
        if numbers := _NUMBER.findall(line):
            return FinalAnswer(numbers[-1].rstrip(","), "last number")
    return FinalAnswer(None, "no number in the response")


def _first_sentence(text: str) -> str:
    end = _SENTENCE_END.search(text)
    return text[: end.start()] if end else text
