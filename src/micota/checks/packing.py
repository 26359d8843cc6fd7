"""Batches of packed examples: none sees another, each counts its positions from 0, none continues the one before.

A batch is what a collator makes, such as TRL's `DataCollatorForLanguageModeling(padding_free=True)`: `input_ids` and
`labels` of shape (rows, tokens), and any of `position_ids`, `attention_mask`, `seq_idx`, `cu_seq_lens_q`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from micota.checks.examples import IGNORED, Example, integers
from micota.checks.finding import Finding, beginning, distinct
from micota.checks.models import Subject

Batch = Mapping[str, Any]
Lengths = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Row:
    """One row of a batch: `starts` is where its examples begin, `size` its length without padding."""

    ids: list[int]
    labels: list[int]
    positions: list[int] | None
    mask: list[int] | None
    """One number for each token; a mask over pairs of tokens is not read."""
    starts: list[int]
    size: int


def check(subject: Subject, batch: Batch, lengths: Lengths | None = None) -> list[Finding]:
    """The findings on a batch, each kind of mistake once.

    `lengths` are those of the examples in each row; without them an example ends with each EOS token in the loss, which
    assumes conversations of one answer.
    """
    rows = list(_rows(subject, batch, lengths))
    findings = [finding for row in rows for finding in _row(subject, row)]
    return distinct([*findings, *_boundaries(subject, rows[0], batch)])


def examples(subject: Subject, batch: Batch, lengths: Lengths | None = None) -> list[Example]:
    """The examples of a batch, one by one."""
    return [
        Example(row.ids[low:high], row.labels[low:high])
        for row in _rows(subject, batch, lengths)
        for low, high in zip(row.starts, [*row.starts[1:], row.size], strict=True)
        if low < high
    ]


def _rows(subject: Subject, batch: Batch, lengths: Lengths | None) -> Iterator[Row]:
    ids, labels = (_nested(batch[name]) for name in ("input_ids", "labels"))
    positions = _nested(batch["position_ids"]) if batch.get("position_ids") is not None else [None] * len(ids)
    masks = list(batch["attention_mask"]) if batch.get("attention_mask") is not None else [None] * len(ids)
    if masks[0] is not None and len(masks) == len(ids[0]) != len(ids):
        masks = [masks]
    for at, (row, label) in enumerate(zip(ids, labels, strict=True)):
        mask = None if masks[at] is None or isinstance((flat := integers(masks[at]))[0], list) else flat
        size = _size(subject, row, label, mask)
        starts = _starts(subject, row, label, size, lengths[at] if lengths else None)
        yield Row(row, label, positions[at], mask, starts, size)


def _nested(values: Any) -> list[Any]:
    rows = integers(values)
    return rows if rows and isinstance(rows[0], list) else [rows]


def _size(subject: Subject, ids: list[int], labels: list[int], mask: list[int] | None) -> int:
    """The length of a row without the padding at its end."""
    pad = subject.tokenizer.pad_token_id
    pad, size = subject.tokenizer.eos_token_id if pad is None else pad, len(ids)
    while size and (mask[size - 1] == 0 if mask else labels[size - 1] == IGNORED and ids[size - 1] == pad):
        size -= 1
    return size


def _starts(subject: Subject, ids: list[int], labels: list[int], size: int, lengths: Sequence[int] | None) -> list[int]:
    if lengths is not None:
        return [start for at in range(len(lengths)) if (start := sum(lengths[:at])) < size]
    after = [at + 1 for at in range(size - 1) if labels[at] != IGNORED and ids[at] in subject.eos]
    return [0, *(at for at in after if ids[at] not in subject.eos and _begins(subject, ids, labels, at, size))]


def _begins(subject: Subject, ids: list[int], labels: list[int], at: int, size: int) -> bool:
    """Whether more than a template's line end follows."""
    return any(label != IGNORED for label in labels[at:size]) and bool(subject.text(ids[at:size]).strip())


def _row(subject: Subject, row: Row) -> Iterator[Finding]:
    packed = len(row.starts) > 1
    if row.positions is not None:
        yield from _positions(subject, row, row.positions)
    elif packed:
        what = "positions continue from one example to the next: the batch has no position_ids"
        yield _leak(subject, row, row.starts[1], what)
    if packed and row.mask and max(row.mask) <= 1:
        what = "examples see each other: a plain attention_mask stands beside packed position_ids"
        yield _leak(subject, row, row.starts[1], what)
    learned = [start for start in row.starts[1:] if row.labels[start] != IGNORED]
    if learned:
        what = "the first token of an example is a next-token target of the one before"
        yield _leak(subject, row, learned[0], what)


def _positions(subject: Subject, row: Row, positions: list[int]) -> Iterator[Finding]:
    """Positions are 0 where an example begins, and go up by one everywhere else."""
    starts = set(row.starts)
    for at in range(1 if len(starts) == 1 else 0, row.size):
        if at in starts and positions[at]:
            yield _leak(subject, row, at, f"an example begins at position {positions[at]}, not at 0")
            return
        if at not in starts and positions[at] != positions[at - 1] + 1:
            what = f"positions jump inside an example: {positions[at]} follows {positions[at - 1]}"
            yield _leak(subject, row, at, what)
            return


def _boundaries(subject: Subject, row: Row, batch: Batch) -> Iterator[Finding]:
    """What else says where examples begin says the same; padding may count as examples of its own."""
    named = {}
    if row.mask and max(row.mask) > 1:
        named["attention_mask"] = _changes(row.mask, row.size)
    if batch.get("seq_idx") is not None:
        named["seq_idx"] = _changes(_nested(batch["seq_idx"])[0], row.size)
    if batch.get("cu_seq_lens_q") is not None:
        named["cu_seq_lens_q"] = [at for at in integers(batch["cu_seq_lens_q"]) if at < row.size]
    for name, starts in named.items():
        if starts != row.starts:
            what = f"{name} begins examples at {starts[:6]}, they begin at {row.starts[:6]}"
            yield _leak(subject, row, min(set(starts) ^ set(row.starts)), what)


def _changes(numbers: list[int], size: int) -> list[int]:
    return [0, *(at for at in range(1, size) if numbers[at] != numbers[at - 1])]


def _leak(subject: Subject, row: Row, at: int, what: str) -> Finding:
    low = max(0, at - 12)
    evidence = (
        ("before", subject.text(row.ids[low:at])),
        ("from there", beginning(subject.text(row.ids[at : at + 24]))),
        ("positions", str(row.positions[low : at + 3]) if row.positions else "none"),
    )
    return subject.finding("packing", *evidence, what=what)
