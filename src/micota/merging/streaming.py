"""Merging many tensors at once: blocks are read, merged and handed on by a few threads, and counted in order.

What is in memory is a few blocks for each thread, whatever the tensors' size. Each block is computed on one thread, so
the number of threads changes no bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import cycle
from typing import Any, Protocol, TypeVar

from micota.errors import MicotaError
from micota.merging import Settings, TensorMerge
from micota.merging.buffers import Bytes, own
from micota.merging.masks import BLOCK, blocks
from micota.merging.safetensor_files import DTYPES, Entry
from micota.merging.shards import Put
from micota.merging.tally import Tally
from micota.merging.tensor import single_threaded

GROUP = 2**27  # elements
WIDEST = max(size for _, size in DTYPES.values())  # bytes of an element
AHEAD = 4  # blocks under way for each thread: fewer, and the threads wait for the one that takes the results
Item = TypeVar("Item")
Done = TypeVar("Done")


class Weights(Protocol):
    """Where an input's tensors come from: `Checkpoint` reads files, `Held` has them in memory."""

    def __getitem__(self, name: str) -> Entry:
        """Its shape and dtype."""
        ...

    def block(self, name: str, start: int, stop: int, into: Bytes | None = None) -> Bytes:
        """Elements [start, stop) of a tensor, as bytes; they may lie in `into`, which is large enough."""
        ...


def merge_entries(
    entries: Sequence[Entry],
    inputs: Sequence[Weights],
    labels: Sequence[str],
    settings: Mapping[str, Settings],
    threads: int,
    put: Put,
    after: Callable[[Bytes], None] = lambda merged: None,
) -> dict[str, Tally]:
    """Merge the tensors `entries` (name, shape, dtype of the result); returns what was seen of each.

    `inputs` are the base and the models; `settings` has those of every tensor. `put` takes each merged block on the
    thread that made it; `after` then sees the same blocks on the caller's thread, in the order of `entries`.
    """
    import numpy as np

    tallies = {entry.name: Tally() for entry in entries}
    memory = [np.empty(WIDEST * BLOCK, dtype=np.uint8) for _ in range(AHEAD * threads)]
    merges = [(entry, _tensor(entry, inputs, labels, settings[entry.name])) for entry in entries]

    def merge(item: tuple[Entry, TensorMerge, int, int, int, Bytes]) -> tuple[Entry, Bytes, Tally]:
        entry, one, block, start, stop, out = item
        merged = out[: (stop - start) * entry.itemsize]
        seen = one.block(block, _read(inputs, entry.name, start, stop), merged)
        put(entry, start, merged)
        return entry, merged, seen

    with (
        single_threaded() if any(one.needs_torch for _, one in merges) else nullcontext(),
        ThreadPoolExecutor(threads, "merge") as pool,
        ThreadPoolExecutor(1, "look") as ahead,
    ):
        groups = list(_groups(merges))
        looked = [ahead.submit(_look, pool, threads, group, inputs) for group in groups[:1]]
        for group, following in zip(groups, [*groups[1:], []], strict=True):
            looked.pop().result()
            looked.append(ahead.submit(_look, pool, threads, following, inputs))  # while this group is merged
            places = ((entry, one, *place) for entry, one in group for place in blocks(entry.numel))
            items = ((*place, out) for place, out in zip(places, cycle(memory), strict=False))
            for entry, merged, seen in in_order(pool, merge, items, AHEAD * threads):
                tallies[entry.name].add(seen)
                after(merged)
    return tallies


def _groups(merges: Sequence[tuple[Entry, TensorMerge]]) -> Iterator[list[tuple[Entry, TensorMerge]]]:
    """Tensors that are looked at, and then merged, together: what a look keeps, and the file's pages, stay few."""
    group: list[tuple[Entry, TensorMerge]] = []
    for entry, merge in merges:
        if group and sum(one.numel for one, _ in group) + entry.numel > GROUP:
            yield group
            group = []
        group.append((entry, merge))
    if group:
        yield group


def _tensor(entry: Entry, inputs: Sequence[Weights], labels: Sequence[str], settings: Settings) -> TensorMerge:
    dtypes = [source[entry.name].torch_dtype for source in inputs]
    return TensorMerge(entry.name, entry.numel, labels, settings, dtypes, entry.torch_dtype)


def _look(
    pool: ThreadPoolExecutor, threads: int, merges: Sequence[tuple[Entry, TensorMerge]], inputs: Sequence[Weights]
) -> None:
    """Let every tensor see what it has to know of itself before its first block."""

    def see(item: tuple[Entry, TensorMerge, Any, int, int, int]) -> tuple[Any, Any]:
        entry, one, look, block, start, stop = item
        read = _read(inputs, entry.name, start, stop) if look.reads else []
        return look, one.see(look, block, stop - start, read)

    for turn in range(max((len(one.looks) for _, one in merges), default=0)):
        looking = [(entry, one, one.looks[turn]) for entry, one in merges if len(one.looks) > turn]
        items = ((*three, *place) for three in looking for place in blocks(three[0].numel))
        for look, seen in in_order(pool, see, items, AHEAD * threads):
            look.learn(seen)
        for _, _, look in looking:
            look.done()


def _read(inputs: Sequence[Weights], name: str, start: int, stop: int) -> list[Bytes]:
    """The same block of every input, in this thread's memory, which the next call overwrites."""
    memory = [own(f"input {i}", WIDEST * BLOCK) for i in range(len(inputs))]
    return [source.block(name, start, stop, into) for source, into in zip(inputs, memory, strict=True)]


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
