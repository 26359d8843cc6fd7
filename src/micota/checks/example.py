"""One training example as the rules see it: its tokens, and which of them are learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

IGNORED = -100


@dataclass(frozen=True)
class Example:
    """One example. `prompt` is the user's turn, `response` what is to be learnt, as text, where they are known."""

    ids: Sequence[int]
    labels: Sequence[int]
    prompt: str | None = None
    response: str | None = None

    @cached_property
    def end(self) -> int:
        """Behind the last token that is learnt; 0 if none is."""
        at = len(self.labels)
        while at and self.labels[at - 1] == IGNORED:
            at -= 1
        return at

    @cached_property
    def learnt(self) -> list[tuple[int, int]]:
        """Where tokens are learnt: (first, behind the last), in order."""
        found: list[tuple[int, int]] = []
        for at, label in enumerate(self.labels):
            if label != IGNORED and (not found or found[-1][1] != at):
                found.append((at, at + 1))
            elif label != IGNORED:
                found[-1] = (found[-1][0], at + 1)
        return found


def example(row: Example | Mapping[str, Any]) -> Example:
    """An example of a row of tokens, lists or tensors, as a collator or `datasets` holds it; padding is taken away."""
    if isinstance(row, Example):
        return row
    ids = plain(row["input_ids"])
    labels = plain(row["labels"]) if row.get("labels") is not None else _labels(row, ids)
    mask = plain(row["attention_mask"]) if row.get("attention_mask") is not None else None
    if mask is not None and len(mask) == len(ids) == len(labels) and not _learns_padding(labels, mask):
        ids, labels = ([one for one, kept in zip(ones, mask, strict=True) if kept] for ones in (ids, labels))
    return Example(ids, labels, row.get("prompt"), row.get("response"))


def _learns_padding(labels: list[int], mask: list[int]) -> bool:
    return any(label != IGNORED and not kept for label, kept in zip(labels, mask, strict=True))


def plain(values: Any) -> list[int]:
    return values if isinstance(values, list) else list(values.tolist() if hasattr(values, "tolist") else values)


def _labels(row: Mapping[str, Any], ids: list[int]) -> list[int]:
    """The labels that a trainer makes of a mask; of no mask it learns everything."""
    for name in ("completion_mask", "assistant_masks", "assistant_tokens_mask"):
        if row.get(name) is not None:
            return [one if kept else IGNORED for one, kept in zip(ids, plain(row[name]), strict=True)]
    return ids
