"""The seam to whatever generates text. An engine takes requests and yields completions as they are finished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Protocol

from micota.machine import EngineConfig
from micota.specs import Generate
from micota.store.records import Completion, Request


class Engine(Protocol):
    """What generates. `batch` is how many requests it wants at once; None means all of them."""

    batch: int | None

    def render(self, request: Request) -> str:
        """The whole text that the model reads for a request."""
        ...

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """The completions, in groups as they are finished; every request is answered once."""
        ...

    def close(self) -> None:
        """Give back the memory, processes and connections that it holds."""
        ...


def open_engine(
    spec: Generate, model: Path | None, place: EngineConfig, threads: int, stop: Event | None = None
) -> Engine:
    """The engine that the machine profile names. Once `stop` is set it raises Stopped soon.

    `model` is the model's folder; for a server one that has the tokenizer is enough, and an endpoint has none.
    """
    stop = stop or Event()
    if place.engine == "scripted":
        from micota.generation.scripted import Scripted

        return Scripted(spec, place)
    if place.engine == "openai":
        from micota.generation.openai import OpenAI

        return OpenAI(spec, model, place, stop)
    assert model is not None, "only servers and scripts answer without weights"
    if place.engine == "vllm":
        from micota.generation.vllm import Vllm

        return Vllm(spec, model, place, threads, stop)
    if place.engine == "rehearsed":
        from micota.generation.rehearsed import Rehearsed

        return Rehearsed(spec, model, place, threads, stop)
    from micota.generation.transformers import Transformers

    return Transformers(spec, model, place, threads, stop)
