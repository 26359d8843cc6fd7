"""Many completions worked through in parts, each in one of several processes, which reads its texts from the pool."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from micota.bounded import Bounded, Failed
from micota.store.pool import Files, Key, Pool
from micota.store.records import Completion

PART, MANY = 1_000, 10_000
"""Completions that one process is given at a time, and so many that processes are worth their start."""
_DAY_S, _MEMORY_MB = 86_400, 4_096  # of a process that does a part: what one text may take is bounded in there
Place = tuple[int, int]


def in_parts(
    function: str,
    pools: Sequence[Pool],
    keys: Sequence[Key],
    more: Sequence[Any],
    workers: int,
    here: Callable[[slice], list[Any]],
    **same: Any,
) -> Generator[list[Any], None, None]:
    """The values of `function(files, rows, **same)` ("package.module:name") for each part of the keys, in their order.

    A row is the places of a key's lines in the files, and what `more` has for it. `here` makes the values of a part
    whose texts another process does not find or finish.
    """
    processes = Bounded(function, _DAY_S, _MEMORY_MB, function.partition(":")[0], workers)

    def done(start: int) -> list[Any]:
        part = slice(start, start + PART)
        places = [[place for pool in pools for place in pool.places(key)] for key in keys[part]]
        files = list(dict.fromkeys(str(path) for found in places for path, _ in found))
        numbers = {file: number for number, file in enumerate(files)}
        found = [[(numbers[str(path)], offset) for path, offset in one] for one in places]
        try:
            made: list[Any] = processes(files=files, rows=[*zip(found, more[part], strict=True)], **same)
        except Failed:
            return here(part)
        return made

    with closing(processes), ThreadPoolExecutor(workers) as threads:
        try:
            yield from threads.map(done, range(0, len(keys), PART))
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def completions(
    files: Sequence[str], rows: Sequence[tuple[Sequence[Place], Any]]
) -> Iterator[tuple[Iterator[Completion], Any]]:
    """In such a process, for each row: the completions at its places, and what there is more."""
    paths = [*map(Path, files)]
    with Files() as texts:
        for places, more in rows:
            yield (Completion.parse(texts.line(paths[file], offset)) for file, offset in places), more
