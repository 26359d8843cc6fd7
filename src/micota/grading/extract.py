r"""Finding the final answer in a response.

1. An end token that is spelt out ends the response. What follows the last thought (`</think>` and its kin) is
   searched, then the whole; a thought that never closes, or that nothing follows, holds no answer.
2. What `<answer>...</answer>` holds is the answer, or the place where it is looked for.
3. The last box (`\boxed{...}`, `\boxed {...}`, `\fbox{...}`, `\boxed 5`) is the answer. Boxes joined to it by
   nothing but `and`, `or`, a comma or a letter's name (`x =`) belong to it; empty boxes are passed over, and so is
   an approximation behind an exact value; a last box that never closes means that there is no answer. A line
   `Answer: C` behind it adds the letter of the choice.
4. Without a box, and only if the response was not cut: what follows `####`, or what the last explicit
   `the answer is ...` or the line below a heading `Final Answer` says; for GSM8K also the last number of the last
   line that has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

MOST_BOXES: Final = 20
"""So many boxes at most are read as one answer."""
NOTHING_STATED: Final = "no box and no stated answer"
_MOST_STATEMENTS: Final = 30
_LONGEST_STATEMENT: Final = 300
_BOX = re.compile(r"\\(?:boxed|fbox)(?![a-zA-Z])\s*")
_JOIN = re.compile(
    r"(?:\\[()\[\],;:! ]|\\qq?uad|\\text\s*\{[\s,]*(?:and|or)[\s,]*\}|and|or|&|[\s$,;]"
    r"|[a-zA-Z](?:_\{?\w{1,3}\}?)?\s?=)*"
)
_APPROXIMATE = re.compile(r"\s*(?:\\approx|\\sim|≈)")
_END_TOKEN = re.compile(
    r"<\|(?:endoftext|im_end|im_start|eot_id|end|end_of_text|eom_id)\|>|<｜end▁of▁sentence｜>|</s>|<eos>|<end_of_turn>"
)
_THOUGHTS: Final = [
    *((f"<{name}>", f"</{name}>") for name in ("think", "thinking", "thought", "reasoning")),
    *(("[THINK]", "[/THINK]"), ("<|begin_of_thought|>", "<|end_of_thought|>"), ("◁think▷", "◁/think▷")),
]
_MARKER = re.compile(
    r"\b(?:answers?|result)\s{0,9}(?:is|are|equals|(?:should|must|would|will) be|:|：|=|→)"
    r"|^[# \t]{0,9}(?:the )?(?:final )?answer[: \t]{0,9}\n"
    r"|\bfinal answer\s{0,9}(?=[\d$\\(\[-])|答案\s{0,9}(?:是|为|：|:)",
    re.I | re.M,
)
_FILLER = re.compile(
    r"(?:[\s:,}]|(?:therefore|thus|hence|then|so|simply|indeed|just|clearly|actually|obviously|definitely|certainly|also|"
    r"still|now|in fact|of course|for sure|given by|equal to|exactly|approximately|about|that)\b)*",
    re.I,
)
_MATHS = re.compile(
    r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\begin\{(?:equation|align|gather)\*?\}(.+?)\\end\{|\\\((.+?)\\\)|(\$[^$\n]{1,200}\$)",
    re.S,
)
_VALUE = re.compile(r"[\d\\$½-¾⅐-⅞²³√π∞]|^\W*.{1,3}\W*$|^(?:option|choice)\b", re.I)
_SENTENCE_END = re.compile(
    r"[.!](?:\s|$)|。|\s(?:and so|because|since|which)\b"
    r"|,\s+(?:it|which|because|since|so|as|where|not|but|that|this|the|there|they|i|we|he|she|hence|thus|therefore|with|for"
    r"|if|when)\b"
)
_CHOICE_LINE = re.compile(r"^\W{0,9}(?:final )?answer\W{0,9}[:：]\W{0,9}([A-J])\b\W{0,9}$", re.I | re.M)
_SENTENCE = re.compile(r"(?:[A-Z][a-z]+|[A-Z]\w*) (?:[A-Za-z$]+ )+")
_WORD = re.compile(r"[^\s$\\{}]*")
_BRACE = re.compile(r"\\[\\{}]|[{}]")
_NUMBER = re.compile(r"-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?", re.A)


class FinalAnswer(NamedTuple):
    """The text of the final answer, None if there is none, and where it stood or why not."""

    answer: str | None
    how: str


def final_answer(response: str, benchmark: str | None = None, truncated: bool = False) -> FinalAnswer:
    """The text of the final answer and where it stood; None with the reason where there is none."""
    if "<" in response:
        response = next((part for part in _END_TOKEN.split(response, maxsplit=9) if part.strip()), response)
    spoken = after_thought(response)
    if spoken is None:
        return FinalAnswer(None, "cut within the thought" if truncated else "a thought without an answer")
    found = _spoken_answer(spoken, benchmark, truncated)
    if found.how == NOTHING_STATED and spoken is not response:
        return _boxed(response) or found
    return found


def _spoken_answer(spoken: str, benchmark: str | None, truncated: bool) -> FinalAnswer:
    tagged = _tagged(spoken)
    spoken = tagged or spoken
    if (boxed := _boxed(spoken)) is not None:
        return boxed
    if truncated:
        return FinalAnswer(None, "cut before a final answer")
    unboxed = _unboxed(spoken, benchmark)
    return FinalAnswer(tagged.strip(), "tagged") if tagged and unboxed.answer is None else unboxed


def after_thought(response: str) -> str | None:
    """What follows the last thought, the whole if there is none; None if it never closes, or nothing follows."""
    if not any(part in response for part in ("hink", "HINK", "hought", "reasoning>")):
        return response
    closed, length = -1, 0
    for _, closing in _THOUGHTS:  # each only behind what is found; what is absent is found faster than sought
        if response.find(closing, closed + 1) >= 0:
            closed, length = response.rfind(closing), len(closing)
    if any(response.find(opening, closed + 1) >= 0 for opening, _ in _THOUGHTS):
        return None
    rest = response[closed + length :] if closed >= 0 else response
    return rest if closed < 0 or rest.strip() else None


def answered(response: str) -> str:
    """The response, or an empty one in place of a thought without an answer: what every grader is given."""
    return response if after_thought(response) is not None else ""


def _tagged(text: str) -> str | None:
    r"""What the last `<answer>...</answer>` holds."""
    for name in ("answer", "Answer", "ANSWER", "final_answer", "FINAL_ANSWER") if "</" in text else ():
        end = text.rfind(f"</{name}>")
        start = text.rfind(f"<{name}>", 0, max(end, 0)) + len(name) + 2
        if end >= start > len(name) + 1 and text[start:end].strip():
            return text[start:end]
    return None


def _boxed(text: str) -> FinalAnswer | None:
    """The last box with what is joined to it; None if there is no box at all."""
    boxes: list[str] = []
    start = last = len(text)
    for begin, after in _starts_backwards(text):
        content, end = _content(text, after)
        if content is None:
            if boxes:
                break
            return FinalAnswer(None, "the last box never closes")
        gap = text[end:start] if 0 <= start - end <= 60 else None
        if len(boxes) == 1 and gap is not None and (_APPROXIMATE.match(boxes[0]) or _APPROXIMATE.search(gap)):
            boxes = []
        if boxes and (gap is None or not _JOIN.fullmatch(gap)):
            break
        last = min(last, end) if not boxes else last
        if content.strip():
            boxes.insert(0, content.strip())
            start = begin
        if len(boxes) >= MOST_BOXES:
            break
    if boxes:
        choice = _CHOICE_LINE.search(text, last)
        answer = ", ".join(dict.fromkeys(boxes))
        return FinalAnswer(f"({choice[1]}) {answer}" if choice and len(answer) > 1 else answer, "boxed")
    return FinalAnswer(None, "the box is empty") if start == len(text) and _BOX.search(text) else None


def behind_box(text: str) -> str:
    """What follows the last box of a text; nothing without one."""
    _, after = next(_starts_backwards(text), (0, None))
    return "" if after is None else text[_content(text, after)[1] :]


def _starts_backwards(text: str) -> Iterator[tuple[int, int]]:
    """Begin and end of the last commands that open a box, the last first."""
    commands = [command for command in ("\\boxed", "\\fbox") if command in text]
    at, found = len(text), 0
    while commands and at > 0 and found <= 2 * MOST_BOXES:
        at = max(text.rfind(command, 0, at) for command in commands)
        if at >= 0 and (match := _BOX.match(text, at)) is not None:
            found += 1
            yield at, match.end()


def _content(text: str, start: int) -> tuple[str | None, int]:
    if not text.startswith("{", start):
        match = _WORD.match(text, start)
        assert match is not None
        return match[0].rstrip(".,"), match.end()
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[start + 1 : brace.start()], brace.end()
    return None, len(text)


def _unboxed(text: str, benchmark: str | None) -> FinalAnswer:
    text = re.sub(r"(?<![\w)\]}])\*\*|\*\*(?![\w(\\{-])", "", text)
    if "####" in text:
        line = text.rpartition("####")[2].strip().partition("\n")[0]
        if line:
            return FinalAnswer(_stated(line) or line, "after ####")
    stated = _stated(text)
    if benchmark == "gsm8k":
        return _number(text[-2000:], stated)
    return FinalAnswer(stated, "stated" if stated else NOTHING_STATED)


def _stated(text: str) -> str | None:
    """The last statement of an answer that holds a value, else the last one that says `answer`."""
    fallback = None
    ends = [marker.span() for marker in _MARKER.finditer(text)][-_MOST_STATEMENTS:]
    for begin, end in reversed(ends):
        statement = _statement(text[end : end + _LONGEST_STATEMENT])
        if statement and _VALUE.search(statement):
            return statement
        if statement and not text[begin:end].lower().startswith("result"):
            fallback = fallback or statement
    return fallback


def _statement(text: str) -> str | None:
    """What is stated at the beginning of a text: a formula, or the rest of the sentence."""
    text = _FILLER.sub("", text, count=1)
    formula = _MATHS.match(text)
    if formula and not re.match(r"\s*(?:,|and\b|or\b)\s*(?:and\b|or\b)?\s*[$\\\d]", text[formula.end() :]):
        return formula[formula.lastindex or 0].strip()
    line = text.partition("\n")[0]
    end = _SENTENCE_END.search(line)
    line = line[: end.start()] if end else line
    if re.match(r"not\b", line):
        return None
    numbers: list[str] = _NUMBER.findall(line)
    if len(numbers) == 1 and _SENTENCE.match(line) and not re.search(r"\b(?:is|are|equals)\b|=", line):
        return numbers[0]
    return line.strip() or None


def _number(tail: str, stated: str | None) -> FinalAnswer:
    """GSM8K: the first number of the last stated answer, else the last number of the last line with one."""
    if stated and (first := _NUMBER.search(stated)):
        return FinalAnswer(first[0].rstrip(","), "stated")
    for line in reversed(tail.splitlines()):
        if numbers := _NUMBER.findall(line):
            return FinalAnswer(numbers[-1].rstrip(","), "last number")
    return FinalAnswer(None, "no number in the response")
