"""A training example as the checks see it: its tokens, and which of them are in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

IGNORED = -100
MASKS = ("completion_mask", "assistant_masks", "assistant_tokens_mask")


@dataclass(frozen=True)
class Example:
    """Tokens and labels, -100 outside the loss; `response` is the text that should be learned, where it is known."""

    ids: Sequence[int]
    labels: Sequence[int]
    response: str | None = None

    @classmethod
    def of(cls, row: Example | Mapping[str, Any]) -> Example:
        """An example of a row as a collator or `datasets` holds it, lists or tensors, without its padding."""
        if isinstance(row, Example):
            return row
        ids = integers(row["input_ids"])
        labels = integers(row["labels"]) if row.get("labels") is not None else _labels(row, ids)
        mask = integers(row["attention_mask"]) if row.get("attention_mask") is not None else None
        if mask is not None and len(mask) == len(ids) == len(labels):
            padded = [at for at, seen in enumerate(mask) if not seen]
            if all(labels[at] == IGNORED for at in padded):
                ids, labels = ([v for v, seen in zip(values, mask, strict=True) if seen] for values in (ids, labels))
        return cls(ids, labels, row.get("response"))

    @cached_property
    def end(self) -> int:
        """The index after the last token in the loss; 0 if there is none."""
        end = len(self.labels)
        while end and self.labels[end - 1] == IGNORED:  # of every example, so without `spans`, which reads all labels
            end -= 1
        return end

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """Where tokens are in the loss: (first, after the last), in order."""
        spans: list[tuple[int, int]] = []
        for at, label in enumerate(self.labels):
            if label != IGNORED:
                begin = spans.pop()[0] if spans and spans[-1][1] == at else at
                spans.append((begin, at + 1))
        return spans


def integers(values: Any) -> list[Any]:
    """A list of a list, tuple, array or tensor."""
    return values if isinstance(values, list) else list(values.tolist() if hasattr(values, "tolist") else values)


def _labels(row: Mapping[str, Any], ids: list[int]) -> list[int]:
    """The labels that a trainer makes of a mask; without a mask everything is in the loss."""
    mask = next((integers(row[name]) for name in MASKS if row.get(name) is not None), [1] * len(ids))
    return [token if seen else IGNORED for token, seen in zip(ids, mask, strict=True)]
