"""Batches of packed examples: none sees another, each counts its positions from 0, none learns from the one before.

A batch is what a collator makes, such as TRL's `DataCollatorForLanguageModeling(padding_free=True)`: `input_ids` and
`labels` of shape (rows, tokens), with `position_ids`, and `attention_mask`, `seq_idx` or `cu_seq_lens_q` where it
makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from micota.checks.example import IGNORED, Example, plain
from micota.checks.finding import Finding, beginning
from micota.checks.subject import Subject

FIX = (
    "collate with TRL's DataCollatorForLanguageModeling(padding_free=True) and the packed rows' seq_lengths, on an"
    " attention that reads position_ids"
)


@dataclass(frozen=True)
class Row:
    """One row of a batch; `starts` is where its examples begin, `size` is its length without padding."""

    ids: list[int]
    labels: list[int]
    positions: list[int] | None
    mask: Any
    starts: list[int]
    size: int


def check(subject: Subject, batch: Mapping[str, Any], lengths: Sequence[Sequence[int]] | None = None) -> list[Finding]:
    """The findings on a batch, each kind of fault once.

    `lengths` are those of the examples in each row; without them an example ends with each end token that is learnt,
    which takes conversations of one turn for granted.
    """
    found: dict[str, Finding] = {}
    for at, row in enumerate(_rows(subject, batch, lengths)):
        for finding in _check(subject, row, batch if at == 0 else {}):
            found.setdefault(finding.what, finding)
    return list(found.values())


def pieces(subject: Subject, batch: Mapping[str, Any], lengths: Sequence[Sequence[int]] | None = None) -> list[Example]:
    """The examples of a batch, one by one."""
    found = []
    for row in _rows(subject, batch, lengths):
        for low, high in zip(row.starts, [*row.starts[1:], row.size], strict=True):
            found.append(Example(row.ids[low:high], row.labels[low:high]))
    return found


def _rows(subject: Subject, batch: Mapping[str, Any], lengths: Sequence[Sequence[int]] | None) -> Iterator[Row]:
    ids, labels = (_nested(batch[name]) for name in ("input_ids", "labels"))
    positions = _nested(batch["position_ids"]) if batch.get("position_ids") is not None else [None] * len(ids)
    masks = list(batch["attention_mask"]) if batch.get("attention_mask") is not None else [None] * len(ids)
    if masks[0] is not None and len(masks) == len(ids[0]) != len(ids):
        masks = [masks]
    for at, (row, label) in enumerate(zip(ids, labels, strict=True)):
        mask = _flat(masks[at])
        size = _size(subject, row, label, mask)
        starts = _starts(subject, row, label, size, lengths[at] if lengths else None)
        yield Row(row, label, positions[at], masks[at] if mask is None else mask, starts, size)


def _nested(values: Any) -> list[Any]:
    found = plain(values)
    return found if found and isinstance(found[0], list) else [found]


def _flat(mask: Any) -> list[int] | None:
    """A mask of one number a token; None for one of pairs of tokens, and for none."""
    if mask is None:
        return None
    found = plain(mask)
    return [int(one) for one in found] if found and not isinstance(found[0], list) else None


def _size(subject: Subject, ids: list[int], labels: list[int], mask: list[int] | None) -> int:
    """The length of a row without the padding at its end."""
    size = len(ids)
    while size and (mask[size - 1] == 0 if mask else _is_padding(subject, ids, labels, size)):
        size -= 1
    return size


def _is_padding(subject: Subject, ids: list[int], labels: list[int], size: int) -> bool:
    pad = subject.tokenizer.pad_token_id
    return labels[size - 1] == IGNORED and ids[size - 1] == (pad if pad is not None else subject.tokenizer.eos_token_id)


def _starts(subject: Subject, ids: list[int], labels: list[int], size: int, lengths: Sequence[int] | None) -> list[int]:
    if lengths is not None:
        return [sum(lengths[:at]) for at in range(len(lengths)) if sum(lengths[:at]) < size]
    behind = [at + 1 for at in range(size - 1) if labels[at] != IGNORED and ids[at] in subject.eos]
    return [0, *(at for at in behind if ids[at] not in subject.eos and _begins_again(subject, ids, labels, at, size))]


def _begins_again(subject: Subject, ids: list[int], labels: list[int], at: int, size: int) -> bool:
    """Whether more than a template's line end follows."""
    return any(labels[one] != IGNORED for one in range(at, size)) and bool(subject.text(ids[at:size]).strip())


def _check(subject: Subject, row: Row, batch: Mapping[str, Any]) -> Iterator[Finding]:
    packed = len(row.starts) > 1
    blocks = None if row.mask is None or isinstance(row.mask, list) else row.mask
    numbered = isinstance(row.mask, list) and max(row.mask) > 1
    if row.positions is not None:
        yield from _positions(subject, row)
    elif packed:
        what = "its positions go on from one example to the next: the batch has no position_ids"
        yield _leak(subject, row, row.starts[1], what)
    if blocks is not None:
        yield from _blocks(subject, row, blocks)
    elif packed and numbered:
        yield from _numbers(subject, row, list(row.mask), "attention_mask")
    elif packed and row.mask is not None:
        what = "examples see each other: a plain attention_mask stands beside packed position_ids"
        yield _leak(subject, row, row.starts[1], what)
    yield from _bounds(subject, row, batch)
    for start in row.starts[1:]:
        if row.labels[start] != IGNORED:
            yield _leak(subject, row, start, "the first token of an example is learnt from the one before")
            return


def _positions(subject: Subject, row: Row) -> Iterator[Finding]:
    """Positions are 0 where an example begins, and go up by one everywhere else."""
    assert row.positions is not None
    starts = set(row.starts)
    for at in range(row.size):
        found = row.positions[at]
        wanted = 0 if at in starts else row.positions[at - 1] + 1
        if found == wanted or (at == 0 and len(starts) == 1):
            continue
        what = (
            f"an example begins at position {found}, not at 0"
            if at in starts
            else f"positions jump inside an example: {found} follows {row.positions[at - 1]}"
        )
        yield _leak(subject, row, at, what)
        return


def _blocks(subject: Subject, row: Row, mask: Any) -> Iterator[Finding]:
    """A mask of pairs lets a token see the earlier ones of its own example, all of them and no other."""
    import numpy as np

    seen = np.asarray(mask.float().tolist() if hasattr(mask, "float") else mask, dtype=float)
    seen = seen.reshape(-1, *seen.shape[-2:])[0][: row.size, : row.size]
    allowed = seen >= 0 if seen.min() < 0 else seen > 0
    number = np.zeros(row.size, dtype=int)
    number[row.starts[1:]] = 1
    number = number.cumsum()
    wanted = (number[:, None] == number[None, :]) & np.tri(row.size, dtype=bool)
    leaks = np.argwhere(allowed & ~wanted)
    if len(leaks):
        at, to = (int(one) for one in leaks[0])
        yield _leak(subject, row, at, f"the attention mask lets token {at} see token {to}, which is not of its past")
    elif (wanted & ~allowed).any():
        yield _leak(subject, row, row.starts[-1], "the attention mask hides tokens of an example from itself")


def _bounds(subject: Subject, row: Row, batch: Mapping[str, Any]) -> Iterator[Finding]:
    """What else says where examples begin says the same; padding may count as examples of its own."""
    if batch.get("seq_idx") is not None:
        yield from _numbers(subject, row, _nested(batch["seq_idx"])[0], "seq_idx")
    if batch.get("cu_seq_lens_q") is not None:
        bounds = [one for one in plain(batch["cu_seq_lens_q"]) if one < row.size]
        if bounds != row.starts:
            what = f"cu_seq_lens_q begins examples at {bounds[:6]}, they begin at {row.starts[:6]}"
            yield _leak(subject, row, min(set(bounds) ^ set(row.starts)), what)


def _numbers(subject: Subject, row: Row, numbers: list[int], name: str) -> Iterator[Finding]:
    changes = [0, *(at for at in range(1, row.size) if numbers[at] != numbers[at - 1])]
    if changes != row.starts:
        what = f"{name} begins examples at {changes[:6]}, they begin at {row.starts[:6]}"
        yield _leak(subject, row, min(set(changes) ^ set(row.starts)), what)


def _leak(subject: Subject, row: Row, at: int, what: str) -> Finding:
    low = max(0, at - 12)
    return Finding(
        "packing",
        subject.name,
        f"in a packed batch {what}",
        "one example would leak into the next: the loss would not be that of the examples alone",
        FIX,
        (
            ("before", subject.text(row.ids[low:at])),
            ("from there", beginning(subject.text(row.ids[at : at + 24]))),
            ("positions", str(row.positions[low : at + 3]) if row.positions else "none"),
        ),
    )
