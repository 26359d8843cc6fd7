"""How a training example ends: its end token is learnt, is what generation stops at, and is the last that is learnt."""

from __future__ import annotations

from collections.abc import Iterator

from micota.checks.example import Example
from micota.checks.finding import Finding, beginning, ending
from micota.checks.subject import Subject

NEAR = 4  # tokens behind an end that are still a template's line end or second marker


def check(subject: Subject, one: Example, cutoff: int | None, deep: bool) -> Iterator[Finding]:
    """The finding on the end of one example; with `deep` also end tokens in its midst."""
    end = one.end
    near = [at for at in range(max(0, end - 1 - NEAR), end - 1) if one.ids[at] in subject.eos]
    if near and one.labels[near[0]] == one.ids[near[0]]:
        yield _goes_on(subject, one, near[0], end)
    elif one.ids[end - 1] not in subject.eos:
        yield _no_end(subject, one, end, cutoff)
    elif deep:
        yield from _inside(subject, one, end)


def _no_end(subject: Subject, one: Example, end: int, cutoff: int | None) -> Finding:
    stops = subject.names(subject.eos)
    shown = (("learnt", ending(subject.text(one.ids[:end]))), ("generation stops at", stops))
    tail = [token for token in one.ids[max(0, end - 3) : end] if token in subject.special]
    if end < len(one.ids) and one.ids[end] in subject.eos:
        what = f"the end token {subject.names([one.ids[end]])} is not in the loss"
        why, fix = "the model would never learn to stop", "set its label to its own id"
        if one.ids[end] == subject.tokenizer.pad_token_id:
            what += ": it is the padding token too, and was masked as such"
            fix = "mask padding by its place, not by its id, or give the tokenizer another pad_token"
    elif cutoff is not None and len(one.ids) >= cutoff:
        what = f"a target is cut at the cutoff of {cutoff} tokens"
        why, fix = (
            "its answer and its end token are missing",
            "raise cutoff, or drop longer examples before the training",
        )
    elif tail and "think" not in subject.names(tail[-1:]):
        what = f"a target ends with {subject.names(tail[-1:])}, which generation does not stop at"
        why = "the model would write it and go on"
        fix = f"write {tail[-1]} into eos_token_id of generation_config.json, or end targets with {stops}"
    else:
        what, why = "a target has no end token", "it was cut, or the model would never learn to stop"
        fix = f"put {stops.split(', ')[0]} behind every response, and drop responses that were cut"
    return Finding("end", subject.name, what, why, fix, shown)


def _goes_on(subject: Subject, one: Example, at: int, end: int) -> Finding:
    return Finding(
        "after-end",
        subject.name,
        f"{end - at - 1} tokens behind the end token are learnt",
        "generation stops before them: the loss counts what no answer holds",
        "end the labels with the end token: set those of what a template writes behind it to -100",
        (
            ("learnt", ending(subject.text(one.ids[:end]))),
            ("generation", ending(subject.text(one.ids[: at + 1]))),
        ),
    )


def _inside(subject: Subject, one: Example, end: int) -> Iterator[Finding]:
    """An end token in the midst of a response, such as one that the text spells out."""
    first = one.learnt[-1][0]
    inside = [at for at in range(first, end - 1) if one.ids[at] in subject.eos]
    if inside:
        yield Finding(
            "special-text",
            subject.name,
            f"an end token stands inside a response: {subject.names([one.ids[inside[0]]])}",
            "the model would learn to stop there, and to go on behind its end",
            "remove rows whose text spells out special tokens",
            (
                ("learnt", beginning(subject.text(one.ids[max(first, inside[0] - 20) : end]))),
                ("generation", ending(subject.text(one.ids[first : inside[0] + 1]))),
            ),
        )
