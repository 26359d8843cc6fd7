"""Many requests at the same time: started as there is room, handed over as each one ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import islice
from threading import Event
from typing import Any

from micota.errors import Stopped
from micota.store.records import Completion, Request

POLL_S = 0.5  # how long a request to stop may go unnoticed


def concurrently(
    loop: asyncio.AbstractEventLoop,
    requests: Iterable[Request],
    complete: Callable[[Request], Coroutine[Any, Any, Completion]],
    limit: int | None,
    stop: Event,
) -> Iterator[list[Completion]]:
    """The completions of `complete`, in groups as they end, never more than `limit` of them under way (None: all).

    An empty group says only that time has passed. After a failure nothing new is started, what is under way is still
    waited for, and then the failure is raised: answers that are paid for are not thrown away.
    """
    waiting = iter(requests)
    ended: asyncio.Queue[asyncio.Task[Completion]] = asyncio.Queue()
    tasks: set[asyncio.Task[Completion]] = set()
    failure: BaseException | None = None
    try:
        while True:
            room = 0 if failure else None if limit is None else limit - len(tasks)
            for request in islice(waiting, room):
                task = loop.create_task(complete(request))
                tasks.add(task)
                task.add_done_callback(ended.put_nowait)
            if not tasks:
                break
            group = loop.run_until_complete(_finished(ended))
            tasks.difference_update(group)
            failures = [error for task in group if (error := task.exception())]
            failure = failure or next(iter(failures), None)
            yield [task.result() for task in group if not task.exception()]
            if stop.is_set():
                raise Stopped("stopped")
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    if failure:
        raise failure


async def _finished(ended: asyncio.Queue[asyncio.Task[Completion]]) -> list[asyncio.Task[Completion]]:
    """All that has ended, waiting a moment for the first."""
    try:
        group = [await asyncio.wait_for(ended.get(), POLL_S)]
    except TimeoutError:
        return []
    while not ended.empty():
        group.append(ended.get_nowait())
    return group
