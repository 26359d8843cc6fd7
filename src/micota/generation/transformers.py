"""Generation with `transformers`: any causal model from a folder, on CPU or one GPU, in left-padded batches.

A sampled text depends on (seed, key, sample) only: each row has its own random numbers, whatever batch it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from micota.chat import still_thinks
from micota.errors import MicotaError, Stopped
from micota.generation.prompt_encoder import PromptEncoder, end_tokens
from micota.machine import EngineConfig
from micota.pretrained import load
from micota.specs import Generate
from micota.store.records import Completion, Request

if TYPE_CHECKING:
    from micota.merging.buffers import Bytes
    from micota.merging.safetensor_files import Entry
    from micota.merging.shards import Put

FIRST_ROUND = 64  # new tokens; each round is twice as long as the one before


class Transformers:
    """A model and its tokenizer, loaded from `model`; `place` says on which device and how many rows at once.

    An `empty` one has memory for the weights in place of weights: `take` fills it.
    """

    def __init__(
        self, spec: Generate, model: Path, place: EngineConfig, threads: int, stop: Event, empty: bool = False
    ) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        self.batch: int | None = place.batch
        self._spec, self._stop = spec, stop
        self._name = f"transformers {transformers.__version__}"
        trust = spec.trust_remote_code
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=trust)
        loaded = (self._shape if empty else load)(model, dtype=getattr(torch, spec.precision), trust_remote_code=trust)
        self._model: Any = loaded.to(place.device).eval()
        self._encoder = PromptEncoder(spec, tokenizer, self._model.config)
        self._eos = self._encoder.ends(end_tokens(model, tokenizer, trust))
        self._model.generation_config = transformers.GenerationConfig()  # what a call leaves open is taken from there

    def _shape(self, folder: Path, dtype: Any, trust_remote_code: bool) -> Any:
        """The model that a folder describes, its weights still to be written; no file of weights is read."""
        import torch
        import transformers
        from accelerate import init_empty_weights

        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        with init_empty_weights(include_buffers=False):
            model = transformers.AutoModelForCausalLM.from_config(
                config, dtype=dtype, trust_remote_code=trust_remote_code
            )
        memory = {name: torch.empty(weight.shape, dtype=dtype) for name, weight in model.named_parameters()}
        model.load_state_dict(memory, assign=True, strict=False)
        model.tie_weights()
        return model

    def take(self, fill: Callable[[Put], None]) -> None:
        """Replace all weights: `fill(put)` hands them to `put(tensor, start, elements)`, rounded to this precision."""
        from micota.merging.buffers import typed

        parameters = {name: weight.detach().view(-1) for name, weight in self._model.named_parameters()}
        seen: set[str] = set()

        def put(entry: Entry, start: int, elements: Bytes) -> None:
            if entry.name not in parameters:
                raise MicotaError(f"transformers has no tensor {entry.name} in a model of this architecture")
            values = typed(elements, entry.torch_dtype)
            parameters[entry.name][start : start + len(values)].copy_(values)
            seen.add(entry.name)

        fill(put)
        if missing := sorted(parameters.keys() - seen):
            raise MicotaError(f"the weights lack the tensor {missing[0]}")

    def render(self, request: Request) -> str:
        """The whole text that the model reads for a request."""
        return self._encoder.render(request)

    def close(self) -> None:
        """Give the model's memory back."""
        self._model = None

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Rounds of growing length: rows that have ended leave, the others go on with what they wrote as prompt."""
        rows = [self._row(request) for request in requests]
        length = FIRST_ROUND
        while rows:
            self._extend(rows, min(length, *(self._free(row) for row in rows)))
            for row in rows:
                self._close_thought(row)
            done = [row for row in rows if row.ended or len(row.new) >= row.limit]
            rows = [row for row in rows if row not in done]
            length *= 2
            if done:
                yield [self._completion(row) for row in done]

    def _row(self, request: Request) -> _Row:
        import torch

        seed, ids = request.seed(self._spec.sampling.seed), self._encoder.ids(request)
        generator = torch.Generator().manual_seed(seed)
        return _Row(request, ids, self._encoder.think_prefix(request), self._encoder.room(ids), generator)

    def _free(self, row: _Row) -> int:
        """New tokens until the row's end, or until its thought is cut."""
        budget, written = self._spec.sampling.thinking_budget, len(row.new)
        return (budget if budget and written < budget < row.limit else row.limit) - written

    def _close_thought(self, row: _Row) -> None:
        met = len(row.new) == self._spec.sampling.thinking_budget and not row.ended
        if met and still_thinks(self._text(row), row.think_prefix):
            row.new += self._encoder.thought_end[: row.limit - len(row.new)]

    def _extend(self, rows: list[_Row], tokens: int) -> None:
        """Generate up to `tokens` new tokens for each row and note which rows have ended."""
        import torch

        inputs = self._pad([row.prompt + row.new for row in rows])
        with torch.inference_mode():
            out = self._model.generate(**inputs, **self._settings(rows, tokens))
        for row, new in zip(rows, out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            end = next((i for i, token in enumerate(new) if token in self._eos), None)
            row.new += new if end is None else new[: end + 1]
            stopped = self._spec.sampling.stop_place(self._text(row), row.think_prefix) is not None
            if stopped and end is not None:
                row.new.pop()  # the filling behind a stop string, which the row did not write
            row.ended = stopped or end is not None

    def _pad(self, prompts: list[list[int]]) -> dict[str, Any]:
        import torch

        width, filler = max(map(len, prompts)), self._eos[0]
        ids = torch.full((len(prompts), width), filler)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        device = self._model.device
        return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}

    def _settings(self, rows: list[_Row], tokens: int) -> dict[str, Any]:
        """All that decides the text; the model's own generation config, which would fill the rest, is an empty one."""
        from transformers import GenerationConfig, LogitsProcessorList

        sampling = self._spec.sampling
        config = GenerationConfig(
            do_sample=False,
            max_new_tokens=tokens,
            eos_token_id=self._eos,
            pad_token_id=self._eos[0],
            # On a CPU a cache that grows is copied at every token; one of fixed size halves the time.
            cache_implementation="static" if self._model.device.type == "cpu" else None,
            disable_compile=True,
        )
        settings: dict[str, Any] = {"generation_config": config, "stopping_criteria": [self._unless_stopped]}
        if sampling.stop:
            settings["stopping_criteria"].append(self._stops(rows))
        steps = [_RepetitionPenalty(sampling.repetition_penalty, rows)] if sampling.repetition_penalty != 1 else []
        steps += self._sample(rows) if sampling.temperature > 0 else []
        return settings | {"logits_processor": LogitsProcessorList(steps)}

    def _stops(self, rows: list[_Row]) -> Any:
        """Ends a row that holds a stop string. The library's own criterion fails on small vocabularies.

        The last tokens are searched, and the whole text where they hold one: it may be inside the thought.
        """
        import torch

        sampling, decode = self._spec.sampling, self._encoder.tokenizer.batch_decode
        window = max(map(len, sampling.stop)) + 4  # tokens: each is one character at least
        width = max(len(row.prompt) + len(row.new) for row in rows)

        def ended(row: _Row, tail: str, ids: list[int]) -> bool:
            if not any(stop in tail for stop in sampling.stop):
                return False
            whole = decode([row.new + ids], skip_special_tokens=True, clean_up_tokenization_spaces=False)[0]
            return sampling.stop_place(whole, row.think_prefix) is not None

        def criterion(input_ids: Any, scores: Any, **_: Any) -> Any:
            new = [ids[width:] for ids in input_ids.tolist()]
            tails = [(row.new + ids)[-window:] for row, ids in zip(rows, new, strict=True)]
            texts = decode(tails, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            ends = [ended(row, text, ids) for row, text, ids in zip(rows, texts, new, strict=True)]
            return torch.tensor(ends, device=input_ids.device)

        return criterion

    def _unless_stopped(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Called at every token: a batch may take many minutes, a request to stop must not."""
        import torch

        if self._stop.is_set():
            raise Stopped("stopped")
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def _sample(self, rows: list[_Row]) -> list[Any]:
        """Temperature, top-k, top-p, then noise of each row's own: the largest noisy logit is an exact sample."""
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        sampling = self._spec.sampling
        steps: list[Any] = [TemperatureLogitsWarper(sampling.temperature)]
        if sampling.top_k:
            steps.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            steps.append(TopPLogitsWarper(sampling.top_p))
        return [*steps, Gumbel([row.generator for row in rows])]

    def _text(self, row: _Row) -> str:
        text = row.new[:-1] if row.new and row.new[-1] in self._eos else row.new
        decode = self._encoder.tokenizer.decode
        return str(decode(text, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _completion(self, row: _Row) -> Completion:
        """The row's text, without its end-of-sequence token or what follows a stop string."""
        text, request = self._text(row), row.request
        return Completion(
            request.key,
            request.sample,
            request.prompt,
            text[: self._spec.sampling.stop_place(text, row.think_prefix)],
            "stop" if row.ended else "length",
            len(row.prompt),
            len(row.new),
            self._name,
            row.think_prefix,
        )


@dataclass(eq=False)
class _Row:
    """One request on its way: its prompt's tokens, the new ones (EOS included), its random numbers.

    `think_prefix` is the thought that the prompt has opened, `limit` the new tokens at most.
    """

    request: Request
    prompt: list[int]
    think_prefix: str
    limit: int
    generator: Any
    new: list[int] = field(default_factory=list)
    ended: bool = False


class _RepetitionPenalty:
    """Positive logits of tokens that a row holds already are divided, negative ones multiplied. Padding is no part of
    a row, as it is for the library's own processor."""

    def __init__(self, penalty: float, rows: Sequence[_Row]) -> None:
        self._penalty, self._rows = penalty, rows
        self._width = max(len(row.prompt) + len(row.new) for row in rows)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        for row, ids, logits in zip(self._rows, input_ids, scores, strict=True):
            seen = ids[self._width - len(row.prompt) - len(row.new) :].unique()
            values = logits[seen]
            logits[seen] = values.where(values < 0, values / self._penalty).where(values > 0, values * self._penalty)
        return scores


class Gumbel:
    """Adds Gumbel noise to the logits, row by row from generators of their own: argmax of the sum is a sample."""

    def __init__(self, generators: Sequence[Any]) -> None:
        self._generators = generators

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        noise = torch.stack([torch.rand(scores.shape[1], generator=g, dtype=torch.float64) for g in self._generators])
        tiny = torch.finfo(torch.float64).tiny
        return scores - torch.log(-torch.log(noise.clamp(min=tiny))).to(scores)
