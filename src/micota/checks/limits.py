"""What ends and bounds a response: EOS tokens, stop strings, rows of the embedding, positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from micota.chat import THOUGHT
from micota.checks.finding import Finding, Severity, beginning
from micota.checks.models import Subject, Use

THINKING = (
    "<think>\nOkay, the problem is to add: 1+1. First, let me see. Problem: is it 2?\n\n"
    "Q: yes. Wait, so x = 2.\n</think>"
)
PLAIN = "\n\nWe add the numbers: $1 + 1 = 2$.\n\n**Final Answer:** the sum is \\(\\boxed{2}\\)."


def eos(subject: Subject, uses: Sequence[Use]) -> Iterator[Finding]:
    """Generation stops at what the template writes after an answer, and at nothing else."""
    if not subject.eos:
        yield subject.finding("eos-missing")
        return
    raw = bool(uses) and all(use.prompt.mode == "raw" for use in uses)
    markers, following = ([], []) if raw else (subject.ends, _next_markers(subject))
    yield from _odd_eos(subject, markers)
    yield from _edges(subject, markers)
    own, eos, after = subject.tokenizer.eos_token_id, list(subject.eos), subject.between_turns
    severity: Severity = "warning"
    if markers and not set(markers) & set(eos) and not _is_stop_string(subject, markers[0], uses):
        missing, which, severity = markers[0], "which its chat template writes after an answer", "error"
        after = subject.around_answer[1] if subject.around_answer else ""
    elif following and not set(following) & {*eos, own}:
        missing, which = following[0], "which its chat template writes after an answer for the next turn"
    elif not markers and not following and own is not None and own not in eos:
        missing, which, after = own, "the EOS token of its tokenizer", subject.names([own])
    else:
        return
    evidence = ("tokenizer" if missing == own else "template", after), ("generation", subject.names(eos))
    values = {"token": subject.names([missing]), "which": which, "id": missing, "eos": eos}
    yield subject.finding("eos-not-stopped-at", *evidence, severity=severity, **values)


def _next_markers(subject: Subject) -> list[int]:
    """Where the template writes no marker after an answer: those with which it opens the next turn at once."""
    following = [] if subject.ends or not subject.around_answer else subject.markers(subject.between_turns)
    return following if subject.between_turns.lstrip().startswith(subject.text(following[:1])) else []


def _is_stop_string(subject: Subject, token: int, uses: Sequence[Use]) -> bool:
    """Whether every use names a token as a stop string: engines stop at such a token."""
    name = subject.names([token])
    return bool(uses) and all(use.sampling is not None and name in use.sampling.stop for use in uses)


def _odd_eos(subject: Subject, markers: list[int]) -> Iterator[Finding]:
    """An EOS token is in the vocabulary, and is no piece of a word."""
    size = len(subject.tokenizer)
    for token in subject.eos:
        if token >= size:
            how = f"is not in its tokenizer, which has {size} tokens"
        elif token not in subject.special and token not in markers:
            how = f"is the ordinary token {subject.text([token])!r}"
        elif (text := subject.text([token])) in THOUGHT:
            how = f"is {text}, a thought tag"
        elif not text.strip():
            how = f"is white space, {text!r}"
        else:
            continue
        evidence = ("tokenizer", str(subject.tokenizer.eos_token)), ("generation", subject.names(subject.eos))
        yield subject.finding("eos-odd", *evidence, id=token, how=how)


def _edges(subject: Subject, markers: list[int]) -> Iterator[Finding]:
    """What begins and ends a text: by the tokenizer for a plain one, by the template for a conversation."""
    tokenizer = subject.tokenizer
    bos, plain = tokenizer.bos_token, tokenizer("1")["input_ids"]
    if markers[:1] == markers[1:2] != []:
        evidence = ("template", subject.names(markers))
        yield subject.finding("eos-twice", evidence, token=subject.names(markers[:1]))
    if plain and plain[-1:] != subject.ids("1")[-1:]:
        yield subject.finding("eos-behind", ("as tokens", subject.names(plain)), token=subject.names(plain[-1:]))
    begins = bos and tokenizer.init_kwargs.get("add_bos_token") and subject.has_template
    if begins and not (prompt := subject.prompt("1")).startswith(bos):
        yield subject.finding("begin-missing", ("generation prompt", beginning(prompt)), token=bos)


def thought_tags(subject: Subject) -> Iterator[Finding]:
    """The tags of a thought can be seen in a decoded response."""
    if lost := [tag for tag in THOUGHT if tag in subject.hidden]:
        evidence = ("special tokens", " ".join(sorted(subject.hidden)))
        yield subject.finding("thought-hidden", evidence, tags=" and ".join(lost))


def rows(subject: Subject, ids: Iterable[int]) -> Iterator[Finding]:
    """Every token has a row in the embedding; `ids` are tokens that are used for certain."""
    if subject.rows is None:
        return
    size, tokenizer = len(subject.tokenizer), subject.tokenizer
    own = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    tags = [token for tag in THOUGHT for token in subject.ids(tag)]
    used = {token for token in (*own, *tags, *ids) if token is not None} | {at for at in subject.eos if at < size}
    beyond = sorted(token for token in used if token >= subject.rows)
    if beyond or size > subject.rows:
        names = subject.names((beyond or range(subject.rows, size))[:4])
        values = {"size": size, "rows": subject.rows, "names": names}
        yield subject.finding("rows-of-tokenizer", **values, severity="error" if beyond else "warning")


def context(subject: Subject, use: Use) -> Iterator[Finding]:
    """Responses and training examples fit into the positions of the model."""
    limit, name = (use.sampling.max_tokens, "max_tokens") if use.sampling else (use.cutoff or 0, "cutoff")
    if subject.context is not None and limit > subject.context:
        yield subject.finding("context", setting=name, limit=limit, context=subject.context, where=use.where)


def stop_strings(subject: Subject, use: Use) -> Iterator[Finding]:
    """No stop string ends a plain answer or a thought, and each can be seen."""
    if use.sampling is None or not use.sampling.stop:
        return
    probe, stops = THINKING + PLAIN, use.sampling.stop
    place = use.sampling.stop_place(probe, "")
    if place is not None:
        stop = repr(min(stops, key=lambda stop: (probe.find(stop) != place, stop)))
        evidence = ("response", beginning(probe[max(0, place - 40) :])), ("what is left", probe[:place][-60:])
        message = "stop-in-thought" if place < len(THINKING) else "stop-in-answer"
        yield subject.finding(message, *evidence, stop=stop, where=use.where)
    for tag in THOUGHT:
        if any(tag in stop for stop in stops):
            yield subject.finding("stop-is-tag", stop=repr(tag), where=use.where)
    for stop in () if subject.hidden & set(stops) else stops:
        if token := next((token for token in subject.hidden if token in stop), None):
            yield subject.finding("stop-is-hidden", stop=repr(stop), token=token, where=use.where)
