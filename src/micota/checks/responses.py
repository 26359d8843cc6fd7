"""The response of a training example: one thought, opened and closed; the whole text; an EOS token last in the loss."""

from __future__ import annotations

import re
from collections.abc import Iterator

from micota.chat import THOUGHT, opened_thought
from micota.checks.examples import Example
from micota.checks.finding import Finding, beginning, difference, ending
from micota.checks.models import TAG, Subject

BEGIN, END = THOUGHT
OTHER = re.compile(
    r"\s*(<\|?(?:begin_of_)?(?:thinking|thoughts?|reasoning|reason|scratchpad)\|?>|\[THINK\]|◁think▷)", re.I
)
"""Tags of a thought that neither the graders nor micota's rows know."""
NEAR = 4  # tokens after an EOS token that are still a template's line end or second marker


def end(subject: Subject, example: Example, cutoff: int | None, deep: bool) -> Iterator[Finding]:
    """The finding on the end of an example; with `deep` also on EOS tokens inside the response."""
    stop, ids = example.end, example.ids
    near = [at for at in range(max(0, stop - 1 - NEAR), stop - 1) if ids[at] in subject.eos]
    inside = [at for at in range(example.spans[-1][0], stop - 1) if ids[at] in subject.eos] if deep else []
    if near and example.labels[near[0]] == ids[near[0]]:
        evidence = (
            ("in the loss", ending(subject.text(ids[:stop]))),
            ("generation", ending(subject.text(ids[: near[0] + 1]))),
        )
        yield subject.finding("after-end", *evidence, number=stop - near[0] - 1)
    elif ids[stop - 1] not in subject.eos:
        yield _no_eos(subject, example, cutoff)
    elif inside:
        first, at = example.spans[-1][0], inside[0]
        evidence = (
            ("in the loss", beginning(subject.text(ids[max(first, at - 20) : stop]))),
            ("generation", ending(subject.text(ids[first : at + 1]))),
        )
        yield subject.finding("special-text", *evidence, token=subject.names([ids[at]]))
    elif (
        deep and subject.next_turn and subject.next_turn in (text := subject.text(ids[example.spans[-1][0] : stop - 1]))
    ):
        around = ("in the loss", ending(text))
        yield subject.finding("turn-in-response", around, token=subject.next_turn)
    elif deep and set(subject.ends) & set(subject.eos) and ids[stop - 1] not in subject.ends:
        evidence = ("in the loss", ending(subject.text(ids[:stop]))), ("template", subject.names(subject.ends))
        token, written = subject.names([ids[stop - 1]]), subject.names(subject.ends[:1])
        yield subject.finding("end-unlike-template", *evidence, token=token, written=written)


def _no_eos(subject: Subject, example: Example, cutoff: int | None) -> Finding:
    stop, ids, stops = example.end, example.ids, subject.names(subject.eos)
    evidence = ("in the loss", ending(subject.text(ids[:stop]))), ("generation stops at", stops)
    tail = [token for token in ids[max(0, stop - 3) : stop] if token in subject.special]
    if stop < len(ids) and ids[stop] in subject.eos:
        padding = ids[stop] == subject.tokenizer.pad_token_id
        message = "end-masked-as-padding" if padding else "end-not-in-loss"
        return subject.finding(message, *evidence, token=subject.names([ids[stop]]))
    if cutoff is not None and len(ids) >= cutoff:
        return subject.finding("end-cut", *evidence, cutoff=cutoff)
    if tail and "think" not in subject.names(tail[-1:]):
        return subject.finding("end-other", *evidence, token=subject.names(tail[-1:]), id=tail[-1], stops=stops)
    return subject.finding("end-missing", *evidence, first=stops.split(", ")[0])


def text(subject: Subject, example: Example, begun: bool, ended: bool) -> Iterator[Finding]:
    """The findings on the last response; `begun` and `ended` say that it begins and ends as it should."""
    first = example.spans[-1][0]
    last = example.end - 1 if example.ids[example.end - 1] in subject.eos else example.end
    before, response = subject.text(example.ids[max(0, first - 16) : first]), subject.text(example.ids[first:last])
    opened = opened_thought(before)
    mistake = _thought(before, opened, response, begun, ended)
    evidence = (("before the response", ending(before)), ("in the loss", _both_ends(response)))
    if begun and subject.answers_at_once(before) and END in response:
        yield subject.finding("thought-behind-closed", *evidence)
    elif mistake:
        yield subject.finding("thought", *evidence, how=mistake[0], change=mistake[1])
    elif ended and not response.strip():
        yield subject.finding("empty", *evidence)
    unknown, name = subject.tokenizer.unk_token_id, subject.tokenizer.unk_token
    if unknown is not None and unknown not in subject.eos and unknown in example.ids[first:last]:
        at = list(example.ids).index(unknown, first)
        around = ("in the loss", subject.text(example.ids[max(first, at - 12) : at + 12]))
        yield subject.finding("unknown", around, token=name)
    if example.response is not None:
        yield from _whole(subject, opened + response, example.response)


def _thought(before: str, opened: str, text: str, begun: bool, ended: bool) -> tuple[str, str] | None:
    """What is wrong with the thought tags, and what to change."""
    begins = bool(opened) or text.lstrip().startswith(BEGIN)
    if re.search(rf"{BEGIN}\s*{BEGIN}\s*$", before):
        return "opened twice by the prompt", f"write {BEGIN} once in chat_template.jinja"
    if not begun:
        return None
    if (opened and re.match(rf"\s*{BEGIN}", text)) or re.match(rf"\s*{BEGIN}\s*{BEGIN}", text):
        return "opened twice, by the prompt and by the response", f"remove {BEGIN} from the response"
    if re.match(rf"\s*({BEGIN})?\s*{END}\s*{BEGIN}", text):
        return "empty, and another follows", f"remove {BEGIN}{END} before the thought"
    if other := OTHER.match(text):
        return f"written in {other[1]}, not in {BEGIN}", f"write {BEGIN} and {END} around it"
    if text.count(BEGIN) + bool(opened) > 1:
        return "opened twice", f"join the thoughts of a response, or keep {BEGIN} for the first"
    if text.count(END) > 1:
        return "closed twice", f"remove one {END} from the response"
    if ended and END in text and not text.partition(END)[2].strip():
        return "closed, and no answer follows", "drop responses without an answer"
    if begins and ended and END not in text:
        fix = f"drop responses that were cut in their thought, and put {END} after the thought of others"
        return "never closed", fix
    if END in text and not begins and BEGIN not in text.partition(END)[0]:
        return "closed but never opened", f"put {BEGIN} before the response"
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
        message, first = "response-thought", beginning(learned)
    else:
        message = "response-cut" if second.startswith(first) else "response-differs"
    yield subject.finding(message, *zip(("in the loss", "response"), difference(first, second), strict=True))


def _plain(text: str) -> str:
    """A response without white space at its ends and without the opening of its thought."""
    return re.sub(rf"^(\s|{TAG})*", "", text.strip()).strip()
