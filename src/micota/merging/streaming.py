"""Merging many tensors at once: blocks are read, merged and handed on by a few threads, and counted in order.

What is in memory is a few blocks for each thread, whatever the tensors' size. Each block is computed on one thread, so
the number of threads changes no bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import cycle, groupby
from operator import itemgetter
from typing import Any, TypeVar

from micota.errors import MicotaError
from micota.merging.buffers import Bytes, own
from micota.merging.masks import BLOCK
from micota.merging.passes import Pass
from micota.merging.safetensor_files import DTYPES, Checkpoint, Entry
from micota.merging.settings import Settings
from micota.merging.shards import Put
from micota.merging.tally import Tally
from micota.merging.tensor import TensorMerge

GROUP = 2**27  # elements
WIDEST = max(size for _, size in DTYPES.values())  # bytes of an element
AHEAD = 4  # blocks under way for each thread: fewer, and the threads wait for the one that takes the results
Item = TypeVar("Item")
Result = TypeVar("Result")


def merge_entries(
    entries: Sequence[Entry],
    inputs: Sequence[Checkpoint],
    labels: Sequence[str],
    settings: Mapping[str, Settings],
    threads: int,
    put: Put,
    after: Callable[[Bytes], None] = lambda merged: None,
) -> dict[str, Tally]:
    """Merge the tensors `entries` (name, shape, dtype of the result); returns what was seen of each.

    `inputs` are the base and the models; `settings` has those of every tensor. `put` takes each merged block on the
    thread that merged it; `after` then sees the same blocks on the caller's thread, in the order of `entries`.
    """
    import numpy as np

    dtypes = {entry.name: [source[entry.name].torch_dtype for source in inputs] for entry in entries}
    merges = [TensorMerge(entry, labels, settings[entry.name], dtypes[entry.name]) for entry in entries]
    tallies = {entry.name: Tally() for entry in entries}
    memory = cycle([np.empty(WIDEST * BLOCK, dtype=np.uint8) for _ in range(AHEAD * threads)])

    def merge_block(item: tuple[TensorMerge, int, int, int, Bytes]) -> tuple[str, Bytes, Tally]:
        tensor, block, start, stop, out = item
        entry = tensor.entry
        merged = out[: (stop - start) * entry.itemsize]
        tally = tensor.block(block, _read(inputs, entry.name, start, stop), merged)
        put(entry, start, merged)
        return entry.name, merged, tally

    with (
        ThreadPoolExecutor(threads, "merge") as pool,
        ThreadPoolExecutor(1, "passes") as ahead,
    ):
        run_passes = partial(_run_passes, pool, AHEAD * threads, inputs)
        for group in in_order(ahead, run_passes, _groups(merges), 2):  # the next group's, while this one is merged
            places = ((tensor, *place) for tensor in group for place in tensor.blocks())
            items = ((*place, out) for place, out in zip(places, memory, strict=False))
            for name, merged, tally in in_order(pool, merge_block, items, AHEAD * threads):
                tallies[name].add(tally)
                after(merged)
    return tallies


def _groups(merges: Iterable[TensorMerge]) -> Iterator[list[TensorMerge]]:
    """Tensors that are passed over, and then merged, together: what a pass stores, and the file's pages, stay few."""
    group: list[TensorMerge] = []
    for tensor in merges:
        if group and sum(each.entry.numel for each in group) + tensor.entry.numel > GROUP:
            yield group
            group = []
        group.append(tensor)
    if group:
        yield group


def _run_passes(
    pool: ThreadPoolExecutor, window: int, inputs: Sequence[Checkpoint], group: list[TensorMerge]
) -> list[TensorMerge]:
    """Let every tensor of a group see what it has to know of itself before its first block."""

    def see(item: tuple[TensorMerge, Pass, int, int, int]) -> tuple[Pass, Any]:
        tensor, pass_, block, start, stop = item
        read = _read(inputs, tensor.entry.name, start, stop) if pass_.reads else []
        return pass_, tensor.see(pass_, block, stop - start, read)

    for turn in range(max((len(tensor.passes) for tensor in group), default=0)):
        turns = [(tensor, tensor.passes[turn]) for tensor in group if len(tensor.passes) > turn]
        items = ((*pair, *place) for pair in turns for place in pair[0].blocks())
        for pass_, seen in groupby(in_order(pool, see, items, window), key=itemgetter(0)):
            pass_.conclude(what for _, what in seen)
    return group


def _read(inputs: Sequence[Checkpoint], name: str, start: int, stop: int) -> list[Bytes]:
    """The same block of every input, in this thread's memory, which the next call overwrites; each once."""
    read: dict[Entry, Bytes] = {}
    for i, source in enumerate(inputs):
        if source[name] not in read:
            read[source[name]] = source.block(name, start, stop, own(f"input {i}", WIDEST * BLOCK))
    return [read[source[name]] for source in inputs]


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], window: int
) -> Iterator[Result]:
    """`map` over threads: results in the order of the items, never more than `window` of them under way."""
    waiting: deque[Future[Result]] = deque()
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
