"""Rows and steps: which examples one optimizer step uses, however many processes share them.

A step uses the same examples on one device and on many: a sampler deals them out step by step and fills what a process
lacks with rows without targets, which add nothing to the loss, a sum over the step's target tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Example = dict[str, list[int]]
EMPTY: Example = {"input_ids": [0, 0], "labels": [-100, -100]}


@dataclass(frozen=True)
class Steps:
    """How `batch` rows become one optimizer step: on each of `world` processes `micro` at once, `accumulate` times.

    Where these hold more than the batch, the rest are empty rows.
    """

    rows: int
    batch: int
    world: int
    micro: int
    accumulate: int

    @property
    def of_an_epoch(self) -> int:
        """The optimizer steps of one epoch."""
        return math.ceil(self.rows / self.batch)


def steps(rows: int, batch: int, world: int, wanted: int) -> Steps:
    """The steps of `rows` with at most `wanted` rows at once on each process; `micro` divides a process's share."""
    share = math.ceil(batch / world)
    micro = max(size for size in range(1, min(wanted, share) + 1) if share % size == 0)
    return Steps(rows, batch, world, micro, share // micro)


def packed(examples: list[Example], cutoff: int) -> list[dict[str, Any]]:
    """Rows of at most `cutoff` tokens, filled with whole examples, best fit first (Ding et al., arXiv 2404.10830).

    Each row says where its examples end: `seq_lengths`.
    """
    import datasets
    import trl

    rows: list[dict[str, Any]] = trl.pack_dataset(datasets.Dataset.from_list(examples), cutoff, "bfd").to_list()
    return rows


def packs_of_a_step(batch: int, packs: int, examples: int) -> int:
    """As many packs as hold `batch` examples on average: the batch counts examples."""
    return max(1, round(batch * packs / examples))


class InSteps:
    """A sampler: every epoch in a random order by (seed + epoch), dealt out step by step.

    The order is that of accelerate's SeedableRandomSampler. `empty` is the index of the row without targets.
    """

    def __init__(self, of: Steps, seed: int, empty: int) -> None:
        self._of, self._seed, self._empty = of, seed, empty
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        for block in self._blocks(self._epoch):
            yield from block
            yield from [self._empty] * (self._size(len(block)) - len(block))

    def first(self, steps: int) -> Iterator[int]:
        """The rows that the first so many steps learn from, over all epochs that it takes, without empty ones."""
        epochs = map(self._blocks, itertools.count())
        blocks = itertools.islice(itertools.chain.from_iterable(epochs), steps)
        return itertools.chain.from_iterable(blocks)

    def _blocks(self, epoch: int) -> Iterator[list[int]]:
        """The rows of each step of an epoch."""
        import torch

        generator = torch.Generator().manual_seed(self._seed + epoch)
        order: list[int] = torch.randperm(self._of.rows, generator=generator).tolist()
        for start in range(0, self._of.rows, self._of.batch):
            yield order[start : start + self._of.batch]

    def __len__(self) -> int:
        last = self._of.rows - (self._of.of_an_epoch - 1) * self._of.batch
        return (self._of.of_an_epoch - 1) * self._size(self._of.batch) + self._size(last)

    def _size(self, rows: int) -> int:
        """A whole step fills every process; of a short one, at the end of an epoch, the last round is filled."""
        of = self._of
        if rows == of.batch:
            return of.world * of.micro * of.accumulate
        return rows if of.world == 1 else math.ceil(rows / (of.world * of.micro)) * of.world * of.micro
