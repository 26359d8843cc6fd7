"""Which request crashes engines: what was under way at a crash is tried again apart, in ever smaller groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from micota.errors import MicotaError
from micota.store.records import Request

PARTS = 16  # a group is divided into so many


class Suspects:
    """Requests that were under way when an engine crashed, in groups of which an engine tries one with nothing else.

    A request that crashes an engine alone, after it was among those of another crash, is given up; the others are
    answered. Up to 16 suspects are tried one by one, so that the culprit costs two engines; among 256 it costs three.
    """

    def __init__(self) -> None:
        self.groups: deque[list[Request]] = deque()
        self._culprits: list[Request] = []

    def add(self, requests: Sequence[Request], alone: bool) -> None:
        """What was under way at a crash; `alone` says whether it was a group of suspects."""
        if alone and len(requests) == 1:
            self._culprits += requests
            return
        size = -(-len(requests) // PARTS) or 1
        self.groups.extend(list(requests[i : i + size]) for i in range(0, len(requests), size))

    def check(self) -> None:
        """Raises MicotaError with the problems that were given up, if there are any."""
        if self._culprits:
            names = ", ".join(f"{one.key} (sample {one.sample})" for one in self._culprits[:5])
            more = f" and {len(self._culprits) - 5} more" if len(self._culprits) > 5 else ""
            raise MicotaError(
                f"engines crash over problem {names}{more}; everything else is answered",
                why="each has ended two engines, the second one with no other request under way",
                fix="leave these problems out or lower sampling.max_tokens; the same command tries them again",
            )
