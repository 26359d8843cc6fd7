"""Many requests on their way at the same time: started as there is room, handed over as each one ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import islice
from threading import Event
from typing import Any

from micota.errors import Stopped
from micota.store.records import Completion, Request

HEAR_S = 0.5  # how long a request to stop may go unheard

Ask = Callable[[Request], Coroutine[Any, Any, Completion]]


def answered(
    loop: asyncio.AbstractEventLoop, requests: Sequence[Request], ask: Ask, at_once: int | None, stop: Event
) -> Iterator[list[Completion]]:
    """The completions of `ask`, in groups as they end; an empty group says only that time has passed.

    After a failure nothing new is started, what is on its way is still waited for, and then the failure is raised:
    answers that are paid for are not thrown away.
    """
    waiting = iter(requests)
    ended: asyncio.Queue[Completion | BaseException] = asyncio.Queue()
    tasks: set[asyncio.Task[None]] = set()
    failure: BaseException | None = None

    async def one(request: Request) -> None:
        try:
            ended.put_nowait(await ask(request))
        except Exception as error:  # raised again below, once the others have ended
            ended.put_nowait(error)

    try:
        while True:
            room = len(requests) if at_once is None else at_once - len(tasks)
            for request in islice(waiting, 0 if failure else room):
                task = loop.create_task(one(request))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            if not tasks and ended.empty():
                break
            group = loop.run_until_complete(_some(ended))
            failure = failure or next((one for one in group if isinstance(one, BaseException)), None)
            yield [one for one in group if isinstance(one, Completion)]
            if stop.is_set():
                raise Stopped("stopped")
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
    if failure:
        raise failure


async def _some(ended: asyncio.Queue[Completion | BaseException]) -> list[Completion | BaseException]:
    """All that has ended, waiting a moment for the first."""
    try:
        group = [await asyncio.wait_for(ended.get(), HEAR_S)]
    except TimeoutError:
        return []
    while not ended.empty():
        group.append(ended.get_nowait())
    return group
