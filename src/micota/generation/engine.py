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
    """The contract of every engine; `tests/test_contract.py` holds them all to it.

    - It generates for one spec `Generate`: prompt, sampling, precision and context are the spec's and the model's, and
      nothing comes from an engine's own defaults.
    - Every request is answered once, or an error is raised; a `MicotaError` names the problem by its key.
    - A greedy text equals that of the other engines; a sampled one depends on (seed, key, sample) and not on its batch.
    - `finish_reason` is `length` where the text met the limit, `filter` where a server refused, `stop` otherwise.
      The text holds neither the end-of-sequence token nor the stop string; tokens are counted by the model's tokenizer.
    - Soon after the event that it was opened with is set, it raises `Stopped`.
    """

    batch: int | None
    """How many requests it takes at once; None means all of them."""

    def render(self, request: Request) -> str:
        """The whole text that the model reads for a request."""
        ...

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """The completions, in groups as they are finished; an empty group says that time has passed.

        An engine without a `batch` of its own asks `requests` for more as it has room, also after their end.
        """
        ...

    def close(self) -> None:
        """Give back the memory, processes and connections that it holds."""
        ...


def open_engine(
    spec: Generate, model: Path | None, place: EngineConfig, threads: int, stop: Event | None = None
) -> Engine:
    """The engine that the machine profile names, or many of them on a Ray cluster. Once `stop` is set it raises
    Stopped soon.

    `model` is the model's folder; for a server one that has the tokenizer is enough, and an endpoint has none.
    """
    if place.ray is None:
        return open_here(spec, model, place, threads, stop or Event())
    from micota.generation.fleet import Fleet

    return Fleet(open_here, spec, model, place, threads, stop or Event())


def open_here(
    spec: Generate, model: Path | None, place: EngineConfig, threads: int, stop: Event, longest: int = 0
) -> Engine:
    """An engine in this process. `longest` is the most tokens that a prompt and its answer will have, where the first
    requests do not tell."""
    if place.engine == "scripted":
        from micota.generation.scripted import Scripted

        return Scripted(spec, place)
    if place.engine == "openai":
        from micota.generation.openai import OpenAI

        return OpenAI(spec, model, place, stop)
    assert model is not None, "only servers and scripts answer without weights"
    if place.engine == "vllm":
        from micota.generation.vllm import Vllm

        return Vllm(spec, model, place, threads, stop, longest)
    if place.engine == "rehearsed":
        from micota.generation.rehearsed import Rehearsed

        return Rehearsed(spec, model, place, threads, stop)
    from micota.generation.transformers import Transformers

    return Transformers(spec, model, place, threads, stop)
