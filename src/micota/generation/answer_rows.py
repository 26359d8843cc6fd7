"""What a generation says of each answer beside its text, which stays in the pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from micota.generation.repetition import loops
from micota.store.pool import Key, Pool
from micota.store.pool_parts import MANY, completions, in_parts
from micota.store.records import Completion

Counted = tuple[dict[str, Any], int]
"""A row {key, sample, sha, tokens, finish}, with `looped` or `unanswered` where it is so, and the prompt's tokens."""


def answer_rows(pool: Pool, keys: Sequence[Key], workers: int) -> list[Counted]:
    """The row of each key's completion, made by so many processes where there are many."""

    def here(part: slice) -> list[Any]:
        return [_row(one) for one in pool.read(keys[part])]

    if workers == 1 or len(keys) < MANY:
        return here(slice(None))
    parts = in_parts(f"{__name__}:rows_of", [pool], keys, [None] * len(keys), workers, here)
    return [(row, tokens) for part in parts for row, tokens in part]


def rows_of(files: list[str], rows: list[Any]) -> list[Counted]:
    """The same in one of the processes."""
    return [_row(next(texts)) for texts, _ in completions(files, rows)]


def _row(completion: Completion) -> Counted:
    row = {
        "key": completion.key,
        "sample": completion.sample,
        "sha": completion.sha,
        "tokens": completion.completion_tokens,
        "finish": completion.finish_reason,
    }
    flags = {"looped": loops(completion.text), "unanswered": not completion.answered}
    return row | {name: True for name, holds in flags.items() if holds}, completion.prompt_tokens
