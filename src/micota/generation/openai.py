"""Generation through any OpenAI-compatible server, by the official client and its retries.

`chat` prompts go to chat/completions, where the server applies the template; `raw` ones to completions. If the model's
tokenizer is available, the server's count of a prompt's tokens must equal ours: otherwise it reads something else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from micota.chat import still_thinks
from micota.errors import MicotaError, suggestion
from micota.generation.bounded_client import bounded_client, key, tries
from micota.generation.concurrency import concurrently
from micota.generation.prompt_encoder import PromptEncoder
from micota.generation.replies import Malformed, Reply, largest, read, served_models
from micota.generation.server_errors import PIECE, ServerErrors
from micota.machine import EngineConfig
from micota.machine.addresses import FAKE_SERVER
from micota.specs import Generate, Source
from micota.store.records import Completion, Request
from micota.store.resolution import ENDPOINT

T = TypeVar("T")
ATTEMPTS = 8  # requests for a reply that can be used
UNCOUNTED = 3  # answers without counts before it is clear that the server counts none
STOPS = 4  # stop strings that the interface allows in one request; the text is cut at the others here


class OpenAI:
    """A model behind a server. `model` is a folder with its tokenizer, None for an endpoint."""

    def __init__(self, spec: Generate, model: Path | None, place: EngineConfig, stop: Event) -> None:
        self._library = _library()
        assert place.url is not None
        self._spec, self._place, self._stop = spec, place, stop
        self._encoder = PromptEncoder.of_folder(spec, model) if model else None
        self._served, self._key = place.served or _name(spec), key(place)
        self._errors = ServerErrors(place, self._served, self._key)
        self._name = f"openai {self._library.__version__}, {self._errors.where}"
        self._loop = asyncio.new_event_loop()
        self._client = self._library.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=place.url,
            timeout=place.timeout_s,
            max_retries=tries(place),
            http_client=bounded_client(self._library, largest(spec.sampling.max_tokens)),
        )
        self._is_vllm = False  # what the server says of itself
        self._context: int | None = None
        self._limit = "max_tokens"  # what it calls the limit
        self._inspected = False
        self._spent, self._uncounted = 0, 0  # tokens; answers without counts, until one has them
        self.batch: int | None = None

    def render(self, request: Request) -> str:
        """The text that the model reads; of an endpoint, whose template we do not see, the messages."""
        messages = "\n".join(message["content"] for message in self._messages(request))
        return self._encoder.render(request) if self._encoder else messages

    def close(self) -> None:
        """Close the connections."""
        self._loop.run_until_complete(self._client.close())
        self._loop.close()

    def answer(self, requests: Iterable[Request]) -> Iterator[list[Completion]]:
        """As many requests at a time as the profile's `batch`; a MicotaError once patience or budget is used up."""
        if not self._inspected:
            self._loop.run_until_complete(self._in_time(self._inspect()))

        async def complete(request: Request) -> Completion:
            return await self._in_time(self._complete(request))

        yield from concurrently(self._loop, requests, complete, self._place.batch, self._stop)

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        """All tries together take one answer's time and the patience at most."""
        seconds = self._place.timeout_s + self._place.patience_s
        try:
            async with asyncio.timeout(seconds):
                return await work
        except TimeoutError:
            raise self._errors.silent(f"nothing came for {seconds:g} s") from None

    async def _inspect(self) -> None:
        """List what the server serves; a server without such a list is trusted to serve the model."""
        models = []
        try:
            models = served_models((await self._client.models.with_raw_response.list()).text)
        except self._library.APIStatusError as error:
            if error.status_code in (401, 403) or error.status_code < 400:
                raise self._errors.refused(None, error) from None
        except self._library.APIConnectionError as error:
            raise self._errors.silent(self._errors.clean(error)) from None
        names = [model.id for model in models]
        if names and self._served not in names:
            fix = f"servers: {{MODEL: {{url: ..., served: NAME}}}}; {suggestion(self._served, names)}"
            raise MicotaError(f"the server does not serve '{self._served}'", where=self._errors.where, fix=fix)
        about = next((model for model in models if model.id == self._served), None)
        self._is_vllm = about is not None and about.owned_by == "vllm"
        self._context = about.max_model_len if about else None
        if about is not None and about.owned_by == FAKE_SERVER and self._place.fake is False:
            fix = "say so in the machine profile, `fake: true`, and its answers are kept apart"
            raise MicotaError("the server is a fake, its answers are invented", where=self._errors.where, fix=fix)
        if self._spec.sampling.repetition_penalty != 1 and not self._is_vllm:
            why = "OpenAI's interface has no such setting, and other servers ignore it or mean something else by it"
            fix = "generate with vLLM or transformers, or leave it out"
            raise MicotaError("the server has no repetition_penalty", where=self._errors.where, why=why, fix=fix)
        self._inspected = True

    async def _complete(self, request: Request) -> Completion:
        prefix, limit, count = "", self._spec.sampling.max_tokens, None
        if self._encoder:
            ids = self._encoder.ids(request)
            prefix, count, limit = self._encoder.think_prefix(request), len(ids), self._encoder.room(ids)
            self._check_context(request, count + limit)
        reply = await self._budgeted(request, prefix, limit, list(self._spec.sampling.stop))
        if self._ended_in_thought(reply):
            reply = await self._budgeted(request, prefix, limit, [])
        if count is not None and reply.prompt_tokens not in (count, None):
            raise self._errors.other_prompt(request, count, reply.prompt_tokens)
        cut = self._spec.sampling.stop_place(reply.text, reply.opened)
        if (finish := reply.finish if cut is None else "stop") is None:
            raise self._errors.endless()
        tokens = reply.prompt_tokens or count or 0, self._completion_tokens(reply)
        text = reply.text[:cut]
        return Completion(request.key, request.sample, request.prompt, text, finish, *tokens, self._name, reply.opened)

    def _completion_tokens(self, reply: Reply) -> int:
        """As the server counts them, else by the model's tokenizer."""
        if reply.completion_tokens is not None or self._encoder is None:
            return reply.completion_tokens or 0
        return len(self._encoder.tokens(reply.text))

    def _ended_in_thought(self, reply: Reply) -> bool:
        """Whether a stop string has cut the thought short, where it should not have."""
        sampling = self._spec.sampling
        if not sampling.stop or sampling.stop_in_thought or reply.finish != "stop":
            return False
        thinks = bool(reply.opened) or reply.text.lstrip().startswith("<think>")
        return thinks and "</think>" not in reply.text

    async def _budgeted(self, request: Request, prefix: str, limit: int, stops: list[str]) -> Reply:
        """One reply; a thought that meets its budget is closed, and the model goes on behind it.

        That takes two requests of tokens, since no chat can be continued. A server that returns no tokens has its text
        read by the model's tokenizer, and is asked for the whole anew where nothing was to be cut.
        """
        budget, encoder = self._spec.sampling.thinking_budget, self._encoder
        if budget is None or budget >= limit or encoder is None:
            return await self._reply(request, prefix, limit, stops)
        ids = encoder.ids(request)
        first = await self._reply(request, prefix, budget, stops, ids)
        if first.finish != "length":
            return first
        closing = encoder.thought_end[: limit - budget] if still_thinks(first.text, prefix) else []
        if not closing and first.tokens is None:
            return await self._reply(request, prefix, limit, stops, ids)
        written = [*(first.tokens or encoder.tokens(first.text)), *closing]
        rest = Reply("", "", "length", None, 0, ())
        if len(written) < limit:
            rest = await self._reply(request, prefix, limit - len(written), stops, ids + written, 1)
        if first.tokens and rest.tokens is not None:
            text, tokens = encoder.text([*written, *rest.tokens]), len(written) + len(rest.tokens)
        else:
            text = first.text + encoder.text(closing) + rest.text
            tokens = len(written) + self._completion_tokens(rest)
        return Reply(text, first.opened, rest.finish, first.prompt_tokens, tokens)

    async def _reply(
        self, request: Request, prefix: str, limit: int, stops: list[str], ids: Sequence[int] = (), part: int = 0
    ) -> Reply:
        """One usable reply, to `ids` where these are given; the client retries after failed connections and status
        codes, malformed bodies are retried here. Each `part` of an answer has a seed of its own."""
        why = ""
        for _ in range(ATTEMPTS):
            self._check_budget()
            limited_by = self._limit
            try:
                reply = read(await self._send(request, limit, stops, ids, part), prefix, limit)
                self._count(reply)
            except Malformed as error:
                why = self._errors.masked(str(error))
                continue
            except self._library.APIStatusError as error:
                if getattr(error, "code", None) == "content_filter":
                    return Reply("", prefix, "filter", None, 0)
                if limited_by == "max_tokens" and "max_completion_tokens" in str(error):
                    self._limit = "max_completion_tokens"  # reasoners of OpenAI
                    continue
                raise self._errors.refused(request, error) from None
            except self._library.APIConnectionError as error:
                raise self._errors.silent(self._errors.clean(error)) from None
            return reply
        raise MicotaError(
            f"the server's reply to problem {request.key} cannot be used, {ATTEMPTS} times: {why}",
            where=self._errors.where,
            fix="check the server, then repeat the command: it continues with the answers that are missing",
        )

    def _count(self, reply: Reply) -> None:
        """Add what a reply cost; an endpoint whose replies never say it is refused, since lengths are results."""
        if reply.completion_tokens is None and self._encoder is None and reply.finish != "filter":
            self._uncounted += self._uncounted >= 0
            if self._uncounted < UNCOUNTED:
                raise Malformed("it does not count its tokens (usage)")
            raise self._errors.uncounted()
        self._uncounted = -1
        self._spent += (reply.prompt_tokens or 0) + self._completion_tokens(reply)

    async def _send(self, request: Request, limit: int, stops: list[str], ids: Sequence[int], part: int) -> str:
        """The body of the reply to one request."""
        sampling = self._spec.sampling
        body: dict[str, Any] = {"model": self._served, self._limit: limit, "temperature": sampling.temperature}
        if sampling.temperature > 0:
            body |= {"top_p": sampling.top_p, "seed": (request.seed(sampling.seed) ^ part) % 2**31}
        if stops:
            body["stop"] = stops if self._is_vllm else stops[:STOPS]
        more: dict[str, Any] = {"top_k": sampling.top_k} if sampling.top_k else {}
        if self._is_vllm:  # it would take what is not set from the model's own generation defaults
            more = {"top_k": sampling.top_k, "min_p": 0.0, "repetition_penalty": sampling.repetition_penalty}
        if ids and self._is_vllm:
            more["return_token_ids"] = True
        elif (keywords := self._spec.prompt.template_kwargs) and not ids:
            more["chat_template_kwargs"] = dict(keywords)
        if more:
            body["extra_body"] = more
        if ids or self._spec.prompt.mode == "raw":
            asked = list(ids) or (self._spec.prompt.system or "") + request.prompt
            raw = await self._client.completions.with_raw_response.create(prompt=asked, **body)
        else:
            messages = self._messages(request)
            raw = await self._client.chat.completions.with_raw_response.create(messages=messages, **body)
        text = str(raw.text)
        return text.replace(self._key, "***") if self._key and len(self._key) > PIECE else text

    def _messages(self, request: Request) -> list[dict[str, str]]:
        system = self._spec.prompt.system
        first = [] if system is None else [{"role": "system", "content": system}]
        return [*first, {"role": "user", "content": request.prompt}]

    def _check_budget(self) -> None:
        if self._place.budget is not None and self._spent >= self._place.budget:
            raise MicotaError(
                f"the budget of {self._place.budget:,} tokens is spent ({self._spent:,} were read and written)",
                where=f"machine profile, {self._errors.where}",
                fix="raise budget and repeat the command: it continues with the answers that are missing",
            )

    def _check_context(self, request: Request, tokens: int) -> None:
        """A server that is set up for shorter texts than the model would cut what another engine does not."""
        if self._context is not None and self._context < tokens:
            raise MicotaError(
                f"problem {request.key} may need {tokens} tokens; the server is set up for {self._context}",
                where=self._errors.where,
                why="its answers would be cut where those of another engine are not",
                fix=f"start the server with --max-model-len {tokens}, or lower sampling.max_tokens",
            )


def _library() -> Any:
    try:
        import openai
    except ModuleNotFoundError:
        raise MicotaError(
            "the engine openai needs the client's library, which is not installed",
            fix='pip install "micota[openai]"',
        ) from None
    return openai


def _name(spec: Generate) -> str:
    """The model's name on the server, if the profile gives none."""
    ref = spec.model.ref if isinstance(spec.model, Source) else ""
    if ref.startswith(ENDPOINT):
        return ref.removeprefix(ENDPOINT).partition("@")[0]
    if not ref or ref.startswith(("lab:", "./", "../", "/", "~")):
        raise MicotaError(
            f"the model's name on the server is not known ({ref or 'it is made by the recipe'})",
            fix="name it in the machine profile: {engine: openai, url: ..., served: NAME}",
        )
    return ref
