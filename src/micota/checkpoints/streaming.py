"""Merging many tensors at once: blocks are read, merged and handed on by a few threads, and counted in order.

What is in memory is a few blocks for each thread, whatever the tensors' size. Torch computes each block on one thread,
so the number of threads changes no bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from micota.checkpoints.safetensor_files import DTYPES, Entry
from micota.checkpoints.shards import Put
from micota.errors import MicotaError
from micota.merging import Settings, TensorMerge
from micota.merging.masks import BLOCK, blocks
from micota.merging.memory import own
from micota.merging.tally import Tally
from micota.merging.tensor import single_threaded

if TYPE_CHECKING:
    import numpy as np
    import torch

GROUP = 2**27  # elements
Item = TypeVar("Item")
Done = TypeVar("Done")


class Weights(Protocol):
    """Where an input's tensors come from: `Checkpoint` reads files, `Held` has them in memory."""

    def block(self, name: str, start: int, stop: int, into: np.ndarray[Any, Any] | None = None) -> torch.Tensor:
        """Elements [start, stop) of a tensor, flat; they may lie in `into`, bytes enough for fp32."""
        ...


def merge_entries(
    entries: Sequence[Entry],
    inputs: Sequence[Weights],
    labels: Sequence[str],
    settings: Mapping[str, Settings],
    threads: int,
    put: Put,
    after: Callable[[torch.Tensor], None] = lambda merged: None,
) -> dict[str, Tally]:
    """Merge the tensors `entries` (name, shape, dtype of the result); returns what was seen of each.

    `inputs` are the base and the models; `settings` has those of every tensor. `put` takes each merged block on the
    thread that made it; `after` then sees the same blocks on the caller's thread, in the order of `entries`.
    """
    import torch

    tallies = {entry.name: Tally() for entry in entries}
    memory = [torch.empty(BLOCK) for _ in range(2 * threads)]

    def merge(item: tuple[Entry, TensorMerge, int, int, int, torch.Tensor]) -> tuple[Entry, torch.Tensor, Tally]:
        entry, one, block, start, stop, out = item
        into = out.view(one.dtype)[: stop - start]
        merged, seen = one.block(block, _read(inputs, entry.name, start, stop), into)
        put(entry, start, merged)
        return entry, merged, seen

    with single_threaded(), ThreadPoolExecutor(threads, "merge") as pool:
        for group in _groups(entries):
            merges = [(entry, _tensor(entry, labels, settings[entry.name])) for entry in group]
            _look(pool, threads, merges, inputs)
            places = ((entry, one, *place) for entry, one in merges for place in blocks(entry.numel))
            items = ((*place, out) for place, out in zip(places, cycle(memory), strict=False))
            for entry, merged, seen in in_order(pool, merge, items, 2 * threads):
                tallies[entry.name].add(seen)
                after(merged)
    return tallies


def _groups(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Tensors that are looked at, and then merged, together: what a look keeps, and the file's pages, stay few."""
    group: list[Entry] = []
    for entry in entries:
        if group and sum(one.numel for one in group) + entry.numel > GROUP:
            yield group
            group = []
        group.append(entry)
    if group:
        yield group


def _tensor(entry: Entry, labels: Sequence[str], settings: Settings) -> TensorMerge:
    import torch

    return TensorMerge(entry.name, entry.numel, labels, settings, getattr(torch, DTYPES[entry.dtype][0]))


def _look(
    pool: ThreadPoolExecutor, threads: int, merges: Sequence[tuple[Entry, TensorMerge]], inputs: Sequence[Weights]
) -> None:
    """Let every tensor see what it has to know of itself before its first block."""

    def see(item: tuple[Entry, TensorMerge, Any, int, int, int]) -> tuple[Any, Any]:
        entry, one, look, block, start, stop = item
        if look.reads:
            return look, one.see(look, block, _read(inputs, entry.name, start, stop))
        return look, one.see(look, block, _sizes(len(inputs), stop - start))

    for turn in range(max((len(one.looks) for _, one in merges), default=0)):
        looking = [(entry, one, one.looks[turn]) for entry, one in merges if len(one.looks) > turn]
        items = ((*three, *place) for three in looking for place in blocks(three[0].numel))
        for look, seen in in_order(pool, see, items, 2 * threads):
            if seen is not None:
                look.learn(seen)
        for _, _, look in looking:
            look.done()


def _read(inputs: Sequence[Weights], name: str, start: int, stop: int) -> list[torch.Tensor]:
    """The same block of every input, in this thread's memory, which the next call overwrites."""
    import torch

    memory = [own(f"input {i}", 4 * BLOCK, torch.uint8).numpy() for i in range(len(inputs))]
    return [source.block(name, start, stop, into) for source, into in zip(inputs, memory, strict=True)]


def _sizes(count: int, numel: int) -> list[torch.Tensor]:
    """Stand-ins for blocks of which only the size counts: one number, seen `numel` times."""
    import torch

    return [torch.zeros(1).expand(numel)] * count


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Done], items: Iterable[Item], window: int
) -> Iterator[Done]:
    """`map` over threads: results in the order of the items, never more than `window` of them under way."""
    waiting: deque[Future[Done]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except MemoryError as error:
        raise MicotaError("the merge ran out of memory", fix="give it fewer threads: --threads 1") from error
    finally:
        for future in waiting:
            future.cancel()
