"""What a run does when the system or its user asks it to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stopping(stop: Callable[[bool], None]) -> Iterator[None]:
    """The first SIGTERM or Ctrl-C asks the stages to stop, the second kills them; SIGUSR1, a warning, only asks.

    So does SIGHUP, from a closed terminal, but not under nohup; neither counts as the first. In a thread other than the
    main one, where no signal arrives, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []

    def handle(number: int, frame: object) -> None:
        asked.extend([number] if number not in (signal.SIGUSR1, signal.SIGHUP) else [])
        stop(len(asked) > 1)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    before = {number: signal.signal(number, handle) for number in numbers[: -1 if ignored else None]}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
