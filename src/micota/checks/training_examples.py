"""Training examples, token by token: what stands before the response, what is learnt, and how it ends.

An example is its tokens and its labels, -100 where nothing is learnt; whoever knows its problem and its response gives
them, and more can be said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from micota.checks import endings, responses, turns
from micota.checks.example import IGNORED, Example, example
from micota.checks.finding import Finding, beginning, difference, ending
from micota.checks.subject import Subject

SAMPLE = 200
"""Examples that are looked at token by token; of all others the beginning, the end and the length."""


def check(
    subject: Subject,
    rows: Iterable[Example | Mapping[str, Any]],
    system: str | None = None,
    cutoff: int | None = None,
) -> list[Finding]:
    """The findings on examples for a model that is asked with this system message; each kind of fault once."""
    examples = [_unpadded(subject, example(row)) for row in rows]
    shape = turns.shape(subject, system) if getattr(subject.tokenizer, "chat_template", None) else None
    found: dict[str, list[Finding]] = {}
    stride = max(1, len(examples) // SAMPLE)
    for at, one in enumerate(examples):
        for finding in _check(subject, one, shape, system, cutoff, at % stride == 0):
            found.setdefault(finding.check, []).append(finding)
    looked = len(range(0, len(examples), stride))
    return [
        _counted(same, looked if stride > 1 and same[0].check in DEEP else len(examples)) for same in found.values()
    ]


DEEP = ("prompt", "packing", "thought", "empty", "response", "special-text", "unknown")


def _counted(same: list[Finding], looked: int) -> Finding:
    """One finding for all examples that have it. What lies in single rows of the data is a warning if few have it."""
    first, count = same[0], len(same)
    rare = first.check in ("thought", "empty", "special-text", "unknown") and 2 * count < looked
    what = f"{first.what} (in {count} of {looked} examples)" if looked > 1 else first.what
    return replace(first, what=what, severity="warning" if rare else first.severity)


def _check(
    subject: Subject, one: Example, shape: turns.Shape | None, system: str | None, cutoff: int | None, deep: bool
) -> Iterator[Finding]:
    broken = _broken(subject, one, deep)
    if broken:
        yield broken
        return
    sizes = list(_sizes(subject, one, cutoff))
    yield from sizes
    if any(finding.check == "rows" for finding in sizes):
        return
    joined = _joined(subject, one, shape) if deep else None
    if joined:
        yield joined
        return
    before = list(_prompt(subject, one, shape, system)) if deep else []
    end = list(endings.check(subject, one, cutoff, deep and not before))
    yield from (*before, *end)
    if deep:
        yield from responses.check(subject, one, begun=not before, ended=not end)


def _unpadded(subject: Subject, one: Example) -> Example:
    """The example without padding that no mask has told of; a padding token that is an end token stays once."""
    pad, low, high = subject.tokenizer.pad_token_id, 0, len(one.ids)
    pad = subject.tokenizer.eos_token_id if pad is None else pad
    if pad is None or len(one.labels) != high or not one.end:
        return one
    while one.ids[low] == pad and one.labels[low] == IGNORED and pad != subject.tokenizer.bos_token_id:
        low += 1
    least = one.end + (pad in subject.eos)
    while high > least and one.ids[high - 1] == pad:
        high -= 1
    return replace(one, ids=one.ids[low:high], labels=one.labels[low:high]) if high - low < len(one.ids) else one


def _broken(subject: Subject, one: Example, deep: bool) -> Finding | None:
    """Labels that are no labels of these tokens."""
    if len(one.ids) != len(one.labels):
        what = f"an example has {len(one.ids)} tokens and {len(one.labels)} labels"
    elif not one.end:
        what = "nothing of an example is learnt: all its labels are -100"
    elif deep and any(label not in (IGNORED, token) for token, label in zip(one.ids, one.labels, strict=True)):
        what = "labels of an example are not its tokens"
    else:
        return None
    return Finding(
        "labels",
        subject.name,
        what,
        "the model would learn something else than the response, or nothing",
        "give labels that are -100 in the prompt and the tokens themselves in the response; the trainer shifts them",
        (("tokens", ending(subject.text(one.ids))), ("labels", str(list(one.labels[-12:])))),
    )


def _sizes(subject: Subject, one: Example, cutoff: int | None) -> Iterator[Finding]:
    highest = max(one.ids)
    if subject.rows is not None and highest >= subject.rows:
        yield Finding(
            "rows",
            subject.name,
            f"an example has the token {highest}, the embedding {subject.rows} rows",
            "the training would end with an index error, or on a GPU with an assertion that says nothing",
            "take the tokenizer that belongs to these weights, or resize the embedding to it",
        )
    for limit, name in ((cutoff, "cutoff"), (subject.context, "max_position_embeddings of the model")):
        if limit is not None and len(one.ids) > limit:
            yield Finding(
                "length",
                subject.name,
                f"an example has {len(one.ids)} tokens, the {name} is {limit}",
                "the trainer would cut its answer and its end, or train positions that the model has not",
                f"drop examples of more than {limit} tokens before the training: lower cutoff, or raise the {name}",
            )


def _prompt(subject: Subject, one: Example, shape: turns.Shape | None, system: str | None) -> Iterator[Finding]:
    """The tokens before the response are those that generation begins with, and they are not learnt."""
    begin = subject.tokenizer.bos_token_id
    if begin is not None and list(one.ids[:2]) == [begin, begin]:
        yield Finding(
            "begin",
            subject.name,
            f"an example begins with {subject.tokenizer.bos_token} twice",
            "generation begins with one: the template writes it, and the tokenizer has added another",
            "tokenize what the template has rendered with add_special_tokens=False",
            (("training", beginning(subject.text(one.ids))), ("generation", shape.head if shape else "")),
        )
    elif shape is not None and one.prompt is None:
        yield from _around(subject, one, shape)
    elif shape is not None and one.prompt is not None:
        wanted = subject.ids(turns.prompt(subject, one.prompt, system))
        if list(one.ids[: len(wanted)]) != wanted:
            yield _differs(subject, subject.text(one.ids[: len(wanted) + 8]), subject.text(wanted))
        else:
            yield from _begins(subject, one, shape, one.learnt[0][0], len(wanted))


def _around(subject: Subject, one: Example, shape: turns.Shape) -> Iterator[Finding]:
    """The same where the problem is not known: what stands before it and behind it, as tokens or else as text."""
    head, tail, first = list(shape.head_ids), list(shape.tail_ids), one.learnt[-1][0]
    there = subject.text(one.ids[:first])
    end = _behind(one.ids, tail, first)
    if list(one.ids[: len(head)]) != head and not there.startswith(shape.head):
        yield _differs(subject, beginning(subject.text(one.ids)), shape.head + "…")
    elif early := [at for at, _ in one.learnt[:-1] if not _answers(subject, one, shape, at)]:
        yield from _begins(subject, one, shape, early[0], end if end is not None else first)
    elif end is None:
        same = there.endswith(shape.tail)
        how = "in its tokens, though not in its text" if same else ""
        yield _differs(subject, ending(there), ending("…" + shape.tail), how)
    else:
        yield from _begins(subject, one, shape, first, end)


def _answers(subject: Subject, one: Example, shape: turns.Shape, at: int) -> bool:
    """Whether what is learnt from `at` on stands where an answer does, with or without an opened thought."""
    return turns.unthinking(subject.text(one.ids[:at])).endswith(turns.unthinking(shape.tail))


def _behind(ids: Sequence[int], tail: list[int], first: int) -> int | None:
    """Behind the last place of `tail` that begins before `first`, else behind its first: where the prompt ends."""
    found = turns.places(ids, tail) if tail else [first]
    early = [at for at in found if at <= first]
    return (early[-1] if early else found[0]) + len(tail) if found else None


def _joined(subject: Subject, one: Example, shape: turns.Shape | None) -> Finding | None:
    """Several examples in one row of which nothing says that they are apart."""
    begins = turns.places(one.ids, shape.head_ids) if shape and shape.once else []
    if len(begins) < 2:
        return None
    return Finding(
        "packing",
        subject.name,
        f"{len(begins)} examples stand in one row and nothing separates them",
        "each would see those before it, and count its positions on from theirs",
        "give position_ids that begin at 0 with each example, or the seq_lengths of TRL's packing",
        (("first", beginning(subject.text(one.ids))), ("next", beginning(subject.text(one.ids[begins[1] :])))),
    )


def _begins(subject: Subject, one: Example, shape: turns.Shape, first: int, end: int) -> Iterator[Finding]:
    """Learning begins behind the prompt; that it learns the opening of a thought with the response does no harm."""
    if first == end:
        return
    missed = subject.text(one.ids[min(first, end) : max(first, end)])
    if first < end and missed.strip() in ("", shape.opened.strip()):
        return
    what = "the prompt is learnt" if first < end else "the beginning of the response is not learnt"
    yield Finding(
        "prompt",
        subject.name,
        f"{what}: {abs(end - first)} tokens",
        "the loss is to cover what the model has to write, all of it and nothing else",
        "set labels to -100 in the prompt, and to the tokens from the response's first to the end token",
        (
            ("learnt from", beginning(subject.text(one.ids[first:]))),
            ("response", beginning(subject.text(one.ids[end:]))),
        ),
    )


def _differs(subject: Subject, training: str, generation: str, how: str = "") -> Finding:
    one, two = difference(training, generation)
    return Finding(
        "prompt",
        subject.name,
        f"training begins otherwise than generation{' ' if how else ''}{how}",
        "the model would be asked with another prompt, or system message, than it has learnt to answer",
        "make examples of the generation prompt, rendered with add_generation_prompt and the same system message,"
        " and tokenize the response apart from it",
        (("training", one), ("generation", two)),
    )
