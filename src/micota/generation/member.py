"""One engine in a Ray actor: it answers what it is fed, and hands answers over in groups, for as long as it lives."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import micota
from micota.generation.model_copy import Home, model_here
from micota.machine import EngineConfig
from micota.specs import Generate, Source
from micota.store.records import Completion, Request
from micota.store.resolution import fetch, fetch_tokenizer, local

IDLE_S = 0.02
Opener = Callable[..., Any]
"""`open_here` of `micota.generation.engine`, which opens an engine in the process that calls it."""


class Feed:
    """Requests that come while others are answered: an iterator that can go on after its end."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[Request] = queue.SimpleQueue()

    def put(self, requests: Sequence[Request]) -> None:
        """Add requests, from any thread."""
        for request in requests:
            self._queue.put(request)

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Request:
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            raise StopIteration from None


@dataclass(frozen=True)
class Hello:
    """What an engine says once it is open: micota's version, where it is, and how many requests it may owe."""

    version: str
    node: str
    process: int
    window: int


class Member:
    """An engine in an actor. It has no asynchronous method: with one, Ray would let all methods block each other."""

    def __init__(
        self,
        open_here: Opener,
        spec: Generate,
        model: Path | None,
        place: EngineConfig,
        threads: int,
        every_s: float,
        secrets: dict[str, str],
        home: Home,
        longest: int,
    ) -> None:
        os.environ.update(secrets)
        self._open_here, self._spec, self._model, self._place = open_here, spec, model, place
        self._threads, self._every_s, self._home, self._longest = threads, every_s, home, longest
        self._feed = Feed()

    def feed(self, requests: list[Request]) -> None:
        """Add requests to what is to be answered."""
        self._feed.put(requests)

    def run(self) -> Iterator[Hello | list[Completion]]:
        """A greeting once the engine is open, then groups of answers. Its errors come as they are."""
        folder, batch = _folder(self._spec, self._model, self._place, self._home), self._place.batch
        engine = self._open_here(self._spec, folder, self._place, self._threads, Event(), self._longest)
        window = batch + max(1, batch // 4) if engine.batch is None else 2 * batch
        yield Hello(micota.__version__, _node(), os.getpid(), window)
        group: list[Completion] = []
        handed = time.monotonic()
        while True:
            try:
                for answers in self._answers(engine):
                    group += answers
                    if group and time.monotonic() - handed >= self._every_s:
                        yield group
                        group, handed = [], time.monotonic()
            except Exception:
                yield group  # what is paid for is not thrown away
                raise
            if group:
                yield group
                group, handed = [], time.monotonic()
            time.sleep(IDLE_S)

    def _answers(self, engine: Any) -> Iterator[list[Completion]]:
        """What is answered until nothing is left to do, or one batch."""
        if engine.batch is None:
            yield from engine.answer(self._feed)
        elif batch := [request for _, request in zip(range(engine.batch), self._feed, strict=False)]:
            yield from engine.answer(batch)


def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _folder(spec: Generate, model: Path | None, place: EngineConfig, home: Home) -> Path | None:
    """The model's folder on this node. Where the driver's is not visible, one of the Hub is downloaded, others come."""
    source = spec.model
    if model is None or model.exists():
        return model
    if isinstance(source, Source) and source.ref.startswith("lab:"):
        return fetch(local(source.ref, "model", Path()), "model")
    if isinstance(source, Source) and source.path is None:
        return fetch_tokenizer(source) if place.engine == "openai" else fetch(source, "model")
    return model_here(model, home)
