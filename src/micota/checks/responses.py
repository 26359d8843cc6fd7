"""The response of a training example: one thought, opened and closed; the whole text; an EOS token last in the loss."""

from __future__ import annotations

import re
from collections.abc import Iterator

from micota.chat import THOUGHT, opened_thought
from micota.checks.examples import Example
from micota.checks.finding import Finding, beginning, difference, ending
from micota.checks.models import TAG, Subject

BEGIN, END = THOUGHT
NEAR = 4  # tokens after an EOS token that are still a template's line end or second marker


def end(subject: Subject, example: Example, cutoff: int | None, deep: bool) -> Iterator[Finding]:
    """The finding on the end of an example; with `deep` also on EOS tokens inside the response."""
    stop, ids = example.end, example.ids
    near = [at for at in range(max(0, stop - 1 - NEAR), stop - 1) if ids[at] in subject.eos]
    inside = [at for at in range(example.spans[-1][0], stop - 1) if ids[at] in subject.eos] if deep else []
    if near and example.labels[near[0]] == ids[near[0]]:
        yield subject.finding(
            "after-end",
            f"{stop - near[0] - 1} tokens after the EOS token are in the loss",
            "generation stops before them: the loss counts what no response holds",
            "end the labels with the EOS token: set those of what a template writes after it to -100",
            ("in the loss", ending(subject.text(ids[:stop]))),
            ("generation", ending(subject.text(ids[: near[0] + 1]))),
        )
    elif ids[stop - 1] not in subject.eos:
        yield _no_eos(subject, example, cutoff)
    elif inside:
        first = example.spans[-1][0]
        yield subject.finding(
            "special-text",
            f"an EOS token stands inside a response: {subject.names([ids[inside[0]]])}",
            "the model would learn to stop there, and to go on after its end",
            "remove rows whose text spells out special tokens",
            ("in the loss", beginning(subject.text(ids[max(first, inside[0] - 20) : stop]))),
            ("generation", ending(subject.text(ids[first : inside[0] + 1]))),
        )


def _no_eos(subject: Subject, example: Example, cutoff: int | None) -> Finding:
    stop, ids, stops = example.end, example.ids, subject.names(subject.eos)
    tail = [token for token in ids[max(0, stop - 3) : stop] if token in subject.special]
    if stop < len(ids) and ids[stop] in subject.eos:
        what = f"the EOS token {subject.names([ids[stop]])} is not in the loss"
        why, fix = "the model would never learn to stop", "set its label to its own id"
        if ids[stop] == subject.tokenizer.pad_token_id:
            what += ": it is the padding token too, and was masked as such"
            fix = "mask padding by its place, not by its id, or give the tokenizer another pad_token"
    elif cutoff is not None and len(ids) >= cutoff:
        what, why = f"a response is cut at the cutoff of {cutoff} tokens", "its answer and its EOS token are missing"
        fix = "raise cutoff, or drop longer examples before the training"
    elif tail and "think" not in subject.names(tail[-1:]):
        what = f"a response ends with {subject.names(tail[-1:])}, at which generation does not stop"
        why = "the model would write it and go on"
        fix = f"write {tail[-1]} into eos_token_id of generation_config.json, or end responses with {stops}"
    else:
        what, why = "a response has no EOS token", "it was cut, or the model would never learn to stop"
        fix = f"put {stops.split(', ')[0]} after every response, and drop responses that were cut"
    shown = ("in the loss", ending(subject.text(ids[:stop]))), ("generation stops at", stops)
    return subject.finding("end", what, why, fix, *shown)


def text(subject: Subject, example: Example, begun: bool, ended: bool) -> Iterator[Finding]:
    """The findings on the last response; `begun` and `ended` say that it begins and ends as it should."""
    first = example.spans[-1][0]
    last = example.end - 1 if example.ids[example.end - 1] in subject.eos else example.end
    before, response = subject.text(example.ids[max(0, first - 16) : first]), subject.text(example.ids[first:last])
    opened = opened_thought(before)
    mistake = _thought(before, opened, response, begun, ended)
    shown = (("before the response", ending(before)), ("in the loss", _both_ends(response)))
    if mistake:
        why = "neither the model nor the grader could tell what is thought and what is answered"
        yield subject.finding("thought", mistake[0], why, mistake[1], *shown)
    elif ended and not response.strip():
        why = "the model would learn to answer with nothing"
        yield subject.finding("empty", "a response is empty", why, "drop rows without a response", *shown)
    unknown = subject.tokenizer.unk_token_id
    if unknown is not None and unknown not in subject.eos and unknown in example.ids[first:last]:
        at = list(example.ids).index(unknown, first)
        yield subject.finding(
            "unknown",
            f"a response has characters that the tokenizer does not know: {subject.tokenizer.unk_token} in the loss",
            "the model would learn to write an unknown token",
            "remove such rows, or use a model whose tokenizer knows their characters",
            ("in the loss", subject.text(example.ids[max(first, at - 12) : at + 12])),
            severity="warning",
        )
    if example.response is not None:
        yield from _whole(subject, opened + response, example.response)


def _thought(before: str, opened: str, text: str, begun: bool, ended: bool) -> tuple[str, str] | None:
    """What is wrong with the thought tags, and what to change."""
    begins = bool(opened) or text.lstrip().startswith(BEGIN)
    if re.search(rf"{BEGIN}\s*{BEGIN}\s*$", before):
        return "the thought is opened twice by the prompt", f"write {BEGIN} once in chat_template.jinja"
    if not begun:
        return None
    if (opened and re.match(rf"\s*{BEGIN}", text)) or re.match(rf"\s*{BEGIN}\s*{BEGIN}", text):
        return "the thought is opened twice, by the prompt and by the response", f"remove {BEGIN} from the response"
    if re.search(rf"{END}\s*{END}", text):
        return "the thought is closed twice", f"remove one {END} from the response"
    if begins and ended and END not in text:
        fix = f"drop responses that were cut in their thought, and put {END} after the thought of others"
        return "the thought is never closed", fix
    if END in text and not begins and BEGIN not in text.partition(END)[0]:
        return "the thought is closed but never opened", f"put {BEGIN} before the response"
    return None


def _both_ends(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:80]}…{text[-80:]}"


def _whole(subject: Subject, learned: str, response: str) -> Iterator[Finding]:
    """The loss covers the response, as the tokenizer gives it back."""
    wanted = subject.text(subject.ids(response))
    first, second = _plain(learned), _plain(wanted)
    if first == second:
        return
    thought = _plain(wanted.partition(END)[0]) if END in wanted else ""
    if thought and thought not in first:
        what, fix = "the thought is lost", "tokenize the response as it is: the chat template deletes thoughts"
        first = beginning(learned)
    elif second.startswith(first):
        what, fix = "a response is cut", "raise the limit, or drop longer responses before the training"
    else:
        what, fix = "the loss covers another text than the response", "tokenize the response apart from the prompt"
    why = "the model would learn something else than what was generated and graded"
    shown = zip(("in the loss", "response"), difference(first, second), strict=True)
    yield subject.finding("response", what, why, fix, *shown)


def _plain(text: str) -> str:
    """A response without white space at its ends and without the opening of its thought."""
    return re.sub(rf"^(\s|{TAG})*", "", text.strip()).strip()
