"""What is learnt as a response: its thought is there, opened once and closed once, and its text is whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

from micota.chat import THOUGHT, opened_thought
from micota.checks.example import Example
from micota.checks.finding import Finding, beginning, difference, ending
from micota.checks.subject import Subject
from micota.checks.turns import TAG

BEGIN, END = THOUGHT
TWICE_IN_PROMPT = "the thought is opened twice by the prompt", f"write {BEGIN} once in chat_template.jinja"


def check(subject: Subject, one: Example, begun: bool = True, ended: bool = True) -> Iterator[Finding]:
    """The findings on the last response of an example; less is said of one that does not begin or end as it should."""
    first = one.learnt[-1][0]
    last = one.end - 1 if one.ids[one.end - 1] in subject.eos else one.end
    before, text = subject.text(one.ids[max(0, first - 16) : first]), subject.text(one.ids[first:last])
    opened = opened_thought(before)
    twice = re.search(rf"{BEGIN}\s*{BEGIN}\s*$", before)
    fault = TWICE_IN_PROMPT if twice else _thought(opened, text, ended) if begun else None
    if fault:
        yield Finding(
            "thought",
            subject.name,
            fault[0],
            "what is thought and what is answered could not be told apart, neither by the model nor by the grader",
            fault[1],
            (("before the response", ending(before)), ("learnt", _ends(text))),
        )
    if ended and not text.strip() and not fault:
        yield Finding(
            "empty",
            subject.name,
            "a response is empty",
            "the model would learn to answer with nothing",
            "drop rows without a response",
            (("before the response", ending(before)), ("learnt", subject.text(one.ids[first : one.end]))),
        )
    yield from _unknown(subject, one, first, last)
    if one.response is not None:
        yield from _whole(subject, opened + text, one.response)


def _thought(opened: str, text: str, ended: bool) -> tuple[str, str] | None:
    """What is wrong with the tags of a thought, and the remedy."""
    begins = bool(opened) or text.lstrip().startswith(BEGIN)
    if (opened and re.match(rf"\s*{BEGIN}", text)) or re.match(rf"\s*{BEGIN}\s*{BEGIN}", text):
        return "the thought is opened twice, by the prompt and by the response", f"remove {BEGIN} from the response"
    if re.search(rf"{END}\s*{END}", text):
        return "the thought is closed twice", f"remove one {END} from the response"
    if begins and ended and END not in text:
        fix = f"drop responses that were cut in their thought, and put {END} behind the thought of others"
        return "the thought is never closed", fix
    if END in text and not begins and BEGIN not in text.partition(END)[0]:
        return "the thought is closed but never opened", f"put {BEGIN} before the response"
    return None


def _ends(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:80]}…{text[-80:]}"


def _unknown(subject: Subject, one: Example, first: int, last: int) -> Iterator[Finding]:
    unknown = subject.tokenizer.unk_token_id
    if unknown is not None and unknown not in subject.eos and unknown in one.ids[first:last]:
        at = list(one.ids).index(unknown, first)
        yield Finding(
            "unknown",
            subject.name,
            f"a response holds what the tokenizer does not know: {subject.tokenizer.unk_token} would be learnt",
            "the model would learn to write an unknown token",
            "remove such rows, or take a model whose tokenizer knows their characters",
            (("learnt", subject.text(one.ids[max(first, at - 12) : at + 12])),),
            "warning",
        )


def _whole(subject: Subject, learnt: str, response: str) -> Iterator[Finding]:
    """What is learnt is the response, as the tokenizer gives it back."""
    said = subject.text(subject.ids(response))
    one, two = (_plain(text) for text in (learnt, said))
    if one == two:
        return
    thought = said.partition(END)[0] if END in said else ""
    if thought and _plain(thought) and _plain(thought) not in one:
        what, fix = "the thought is lost", "tokenize the response as it is: the chat template deletes thoughts"
    elif two.startswith(one):
        what, fix = "a response is cut", "raise the limit, or drop longer responses before the training"
    else:
        what, fix = "a response is not learnt as it is", "tokenize the response as it is, apart from the prompt"
    yield Finding(
        "response",
        subject.name,
        what,
        "the model would learn something else than what was generated and graded",
        fix,
        tuple(zip(("learnt", "response"), difference(beginning(learnt) if thought else one, two), strict=True)),
    )


def _plain(text: str) -> str:
    """A response without white space at its ends and without the opening of its thought."""
    return re.sub(rf"^(\s|{TAG})*", "", text.strip()).strip()
