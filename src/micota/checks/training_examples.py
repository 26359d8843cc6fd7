"""Training examples, token by token: what stands before the response, what is in the loss, and how it ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from micota.chat import opened_thought
from micota.checks import responses
from micota.checks.chat_templates import MODES
from micota.checks.examples import IGNORED, Example
from micota.checks.finding import Finding, beginning, difference, ending
from micota.checks.models import MARKER, PROBLEM, Refused, Shape, Subject, occurrences, without_thought_tags

SAMPLE = 200
"""Examples that are checked token by token; of the others the beginning, the end and the length."""
SAMPLED = ("prompt", "packing", "thought", "empty", "response", "special-text", "unknown")
RARE = ("thought", "empty", "special-text", "unknown")
"""Mistakes of single rows of the data: warnings where fewer than half of the examples have them."""


def check(
    subject: Subject,
    rows: Iterable[Example | Mapping[str, Any]],
    system: str | None = None,
    cutoff: int | None = None,
) -> list[Finding]:
    """The findings on examples for a model that generates with this system message; each kind of mistake once."""
    examples = [Example.of(row) for row in rows]
    shape = subject.shape(system) if subject.has_template else None
    by_rule: dict[str, list[Finding]] = {}
    stride = max(1, len(examples) // SAMPLE)
    for at, example in enumerate(examples):
        for finding in _check(subject, example, shape, cutoff, at % stride == 0):
            by_rule.setdefault(finding.rule, []).append(finding)
    sampled = len(range(0, len(examples), stride))
    return [_counted(same, sampled if rule in SAMPLED else len(examples)) for rule, same in by_rule.items()]


def _counted(same: list[Finding], number: int) -> Finding:
    """One finding for all of `number` examples that have it."""
    first, count = same[0], len(same)
    what = f"{first.what} (in {count} of {number} examples)" if number > 1 else first.what
    rare = first.rule in RARE and 2 * count < number
    return replace(first, what=what, severity="warning" if rare else first.severity)


def _check(
    subject: Subject, example: Example, shape: Shape | None, cutoff: int | None, deep: bool
) -> Iterator[Finding]:
    """The findings on one example, in the order in which they explain each other; `deep` ones of a sample only."""
    fatal = _labels(subject, example, deep) or _rows(subject, example)
    if fatal:
        yield fatal
        return
    yield from _length(subject, example, cutoff)
    packed = _packed(subject, example, shape) if deep else None
    if packed:
        yield packed
        return
    before = list(_prompt(subject, example, shape)) if deep else []
    end = list(responses.end(subject, example, cutoff, deep and not before))
    yield from (*before, *end)
    if deep:
        yield from responses.text(subject, example, begun=not before, ended=not end)


def _labels(subject: Subject, example: Example, deep: bool) -> Finding | None:
    """Labels that are no labels of these tokens."""
    pairs = zip(example.ids, example.labels, strict=False)
    if len(example.ids) != len(example.labels):
        what = f"an example has {len(example.ids)} tokens and {len(example.labels)} labels"
    elif not example.end:
        what = "no token of an example is in the loss: all its labels are -100"
    elif deep and any(label not in (IGNORED, token) for token, label in pairs):
        what = "labels of an example are not its tokens"
    else:
        return None
    evidence = ("tokens", ending(subject.text(example.ids))), ("labels", str(list(example.labels[-12:])))
    return subject.finding("labels", *evidence, what=what)


def _rows(subject: Subject, example: Example) -> Finding | None:
    highest = max(example.ids)
    if subject.rows is None or highest < subject.rows:
        return None
    return subject.finding("rows-of-example", token=highest, rows=subject.rows)


def _length(subject: Subject, example: Example, cutoff: int | None) -> Iterator[Finding]:
    for limit, name in ((cutoff, "cutoff"), (subject.context, "max_position_embeddings of the model")):
        if limit is not None and len(example.ids) > limit:
            yield subject.finding("length", number=len(example.ids), setting=name, limit=limit)


def _packed(subject: Subject, example: Example, shape: Shape | None) -> Finding | None:
    """Several examples in one row, and nothing says that they are separate."""
    if shape is None:
        return None
    at_start = occurrences(example.ids, shape.head_ids) if shape.at_start_only else []
    begins = at_start if len(at_start) > 1 else [0, *_joints(subject, example, shape)]
    if len(begins) < 2:
        return None
    first, following = (beginning(subject.text(example.ids[at:])) for at in begins[:2])
    return subject.finding("packing-unmarked", ("first", first), ("next", following), number=len(begins))


def _joints(subject: Subject, example: Example, shape: Shape) -> list[int]:
    """Where another example begins right behind an EOS token, other than a template goes on to the next turn."""
    ends = [stop for _, stop in example.spans[:-1] if example.ids[stop - 1] in subject.eos]
    between = subject.between_turns if ends else ""
    texts = {stop: subject.text(example.ids[stop - 1 : stop + 64]) for stop in ends}
    marks = {stop: subject.text(example.ids[stop - 1 : stop]) for stop in ends}
    return [
        stop
        for stop, text in texts.items()
        if text.removeprefix(marks[stop]).startswith(shape.head) and not (between and text.startswith(between))
    ]


def _prompt(subject: Subject, example: Example, shape: Shape | None) -> Iterator[Finding]:
    """Before the response stand the tokens of the generation prompt, and they are not in the loss.

    The problem is not known: what stands before it and after it is compared, as tokens or else as text.
    """
    bos, ids = subject.tokenizer.bos_token_id, list(example.ids)
    if bos is not None and ids[:2] == [bos, bos]:
        evidence = ("training", beginning(subject.text(ids))), ("generation", shape.head if shape else "")
        yield subject.finding("begin", *evidence, token=subject.tokenizer.bos_token)
        return
    if shape is None:
        return
    head, first = list(shape.head_ids), example.spans[-1][0]
    before, end = subject.text(ids[:first]), _prompt_end(ids, list(shape.tail_ids), first)
    if len(example.spans) == 1 and (spelt := _spelt(subject, ids[len(head) : first - len(shape.tail_ids)])):
        around = ("prompt", beginning(subject.text(ids[len(head) + spelt[0] : first])))
        yield subject.finding("special-text-in-prompt", around, token=subject.names([spelt[1]]))
    if ids[: len(head)] != head and not before.startswith(shape.head):
        how = _diagnosis(subject, shape, before)
        yield _differs(subject, beginning(subject.text(ids)), shape.head + "…", how)
    elif early := [at for at, _ in example.spans[:-1] if not _is_answer(subject, example, shape, at)]:
        yield from _loss_begin(subject, example, shape, early[0], end if end is not None else first)
    elif end is None:
        same = before.endswith(shape.tail)
        how = " in its tokens, though not in its text" if same else _diagnosis(subject, shape, before)
        yield _differs(subject, ending(before), ending("…" + shape.tail), how)
    elif first > end and (how := _thinking(subject, shape, before)):
        yield _differs(subject, ending(before), ending("…" + shape.tail), how)
    else:
        yield from _loss_begin(subject, example, shape, first, end)


def _is_answer(subject: Subject, example: Example, shape: Shape, at: int) -> bool:
    """Whether the loss begins at `at` where an answer does, with or without an opened thought."""
    before = without_thought_tags(subject.text(example.ids[:at]))
    return before.endswith(without_thought_tags(shape.tail))


def _prompt_end(ids: Sequence[int], tail: list[int], first: int) -> int | None:
    """The index after the last occurrence of `tail` that begins before `first`, else after its first occurrence."""
    places = occurrences(ids, tail) if tail else [first]
    early = [at for at in places if at <= first]
    return (early[-1] if early else places[0]) + len(tail) if places else None


def _loss_begin(subject: Subject, example: Example, shape: Shape, first: int, end: int) -> Iterator[Finding]:
    """The loss begins after the prompt; that it covers the opening of a thought too does no harm."""
    between = subject.text(example.ids[min(first, end) : max(first, end)])
    if first == end or (first < end and between.strip() in ("", opened_thought(shape.tail).strip())):
        return
    part = "prompt is in the loss" if first < end else "beginning of the response is not in the loss"
    if example.end <= end:
        part += ", in place of the response"
    evidence = (
        ("in the loss", beginning(subject.text(example.ids[first:]))),
        ("response", beginning(subject.text(example.ids[end:]))),
    )
    yield subject.finding("prompt-in-loss", *evidence, part=part, number=abs(end - first))


def _spelt(subject: Subject, problem: Sequence[int]) -> tuple[int, int] | None:
    """Where a problem holds an EOS token, and which, unless the template goes on to another turn there."""
    for at, token in enumerate(problem):
        if (
            token in subject.eos
            and token in subject.special
            and not any(other in subject.special for other in problem[at + 1 : at + 4])
        ):
            return at, token
    return None


def _diagnosis(subject: Subject, shape: Shape, before: str) -> str:
    """Why a prompt is another one, where that can be told."""
    bos, markers, own = subject.tokenizer.bos_token, MARKER.findall(before), MARKER.findall(shape.head + shape.tail)
    missing = (shape.tail[size:] for size in range(len(shape.tail) - 1, 0, -1) if before.endswith(shape.tail[:size]))
    if own and not set(markers) & set(own):
        return f": another chat template wrote it, with {markers[0]}" if markers else ": no chat template wrote it"
    if bos and shape.head.startswith(bos) and before.startswith(shape.head.removeprefix(bos)):
        return f": it lacks {bos}"
    begun = before.removesuffix(shape.tail)
    if begun != before and (
        not MARKER.search(begun) or any(begun.startswith(shape.head[i:]) for i in range(1, len(shape.head)))
    ):
        return ": its beginning is cut"
    if how := _thinking(subject, shape, before):
        return how
    rest = next(missing, "").strip()
    return f": it ends before {rest}" if rest else ""


def _thinking(subject: Subject, shape: Shape, before: str) -> str:
    """Whether the prompt is the template's own in another mode."""
    own = subject.template_kwargs
    for name, value in ((name, value) for name in MODES[:2] for value in (False, True, None)):
        others = {key: item for key, item in own.items() if key != name} | ({} if value is None else {name: value})
        try:
            whole = subject.asked_with(others).prompt(PROBLEM)
        except Refused:
            continue
        tail = whole.rpartition(PROBLEM)[2]
        if tail not in ("", shape.tail) and before.endswith(tail):
            made, asked = (f"with {name}={v}" if v is not None else f"without {name}" for v in (value, own.get(name)))
            return f": it was made {made}, generation is {asked}"
    return ""


def _differs(subject: Subject, training: str, generation: str, how: str = "") -> Finding:
    evidence = zip(("training", "generation"), difference(training, generation), strict=True)
    return subject.finding("prompt-differs", *evidence, how=how)
