"""The seam to whatever generates text. An engine takes requests and yields completions as they are finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Protocol

from micota.machine import Place
from micota.records import Completion, Request
from micota.specs import Generate


class Engine(Protocol):
    """What generates. `batch` is how many requests it wants at once; None means all of them."""

    batch: int | None

    def render(self, request: Request) -> str:
        """The whole text that the model reads for a request."""
        ...

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """The completions, in groups as they are finished; every request is answered once."""
        ...


def open_engine(spec: Generate, model: Path, place: Place, threads: int, stop: Event | None = None) -> Engine:
    """The engine that the machine profile names, with the model loaded. Once `stop` is set it raises Stopped soon."""
    if place.engine == "scripted":
        from micota.engines.scripted import Scripted

        return Scripted(spec, place)
    from micota.engines.transformers import Transformers

    return Transformers(spec, model, place, threads, stop or Event())
