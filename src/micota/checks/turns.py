"""What a chat template writes around a problem and around an answer, found by rendering it with words of our own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from micota.chat import render
from micota.checks.subject import Subject

PROBLEM, ANSWER = "micota-problem", "micota-response"
CONTENTS = ("1", "x", "\nx\n", " x ", "}", "\n\n2", "Y")
"""Beginnings and ends that a tokenizer may join with what stands beside them."""
TAG = r"</?think>"


class Refused(Exception):
    """The template raised an error."""


@dataclass(frozen=True)
class Shape:
    """A generation prompt is `head`, the problem, `tail`. `head_ids` and `tail_ids` are their tokens, without those
    that a problem can join to."""

    head: str
    tail: str
    head_ids: tuple[int, ...]
    tail_ids: tuple[int, ...]
    once: bool
    """Whether `head_ids` stand at the beginning only, also in a conversation of several turns."""

    @property
    def opened(self) -> str:
        """The opening of a thought at the end of the prompt, or nothing."""
        found = re.search(r"<think>\s*$", self.tail)
        return found[0] if found else ""


def prompt(subject: Subject, text: str, system: str | None = None) -> str:
    """The generation prompt as text; raises Refused."""
    try:
        return render(subject.tokenizer, text, system)
    except Exception as error:  # a template is a program of somebody else's: it can raise anything
        raise Refused(str(error) or type(error).__name__) from error


def conversation(subject: Subject, turns: list[tuple[str, str]], **given: Any) -> str:
    """A whole conversation of (role, content) as the template writes it; raises Refused."""
    messages = [{"role": role, "content": content} for role, content in turns]
    try:
        return str(subject.tokenizer.apply_chat_template(messages, tokenize=False, **given))
    except Exception as error:
        raise Refused(str(error) or type(error).__name__) from error


def shape(subject: Subject, system: str | None = None) -> Shape | None:
    """The shape of the generation prompt; None where the problem does not stand in it once."""
    whole = prompt(subject, PROBLEM, system)
    if whole.count(PROBLEM) != 1:
        return None
    head, _, tail = whole.partition(PROBLEM)
    rendered = [subject.ids(prompt(subject, content, system)) for content in CONTENTS]
    first = _common(rendered)
    last = _common([ids[len(first) :][::-1] for ids in rendered])[::-1]
    return Shape(head, tail, tuple(first), tuple(last), _once(subject, first))


def places(ids: Sequence[int], part: Sequence[int]) -> list[int]:
    """Where a sequence of tokens begins in another."""
    size = len(part)
    return [at for at in range(len(ids) - size + 1) if ids[at] == part[0] and list(ids[at : at + size]) == list(part)]


def _once(subject: Subject, head: list[int]) -> bool:
    try:
        ids = subject.ids(conversation(subject, [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4")]))
    except Refused:
        return False
    return bool(head) and places(ids, head) == [0]


def _common(rows: list[list[int]]) -> list[int]:
    """The beginning that all rows share."""
    return [column[0] for column in takewhile(lambda column: len(set(column)) == 1, zip(*rows, strict=False))]


def answered(subject: Subject) -> tuple[str, str] | None:
    """What the template writes before and after an answer; None where the answer does not come out once."""
    whole = conversation(subject, [("user", PROBLEM), ("assistant", ANSWER)])
    before, found, after = whole.partition(ANSWER)
    return (before, after) if found and ANSWER not in after else None


def unthinking(text: str) -> str:
    """A prompt without tags of thoughts and white space at its end."""
    return re.sub(rf"(\s|{TAG})*$", "", text)
