"""Generation with `transformers`: any causal model from a folder, on CPU or one GPU, in left-padded batches.

A drawn text depends on (seed, key, sample) only: each row has its own random numbers, whatever batch it is in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError, Stopped
from micota.machine import Place
from micota.prompts import eos_ids, opened_thought, prompt_ids, render
from micota.records import Completion, Request
from micota.specs import Generate

if TYPE_CHECKING:
    import torch

    from micota.checkpoints.safetensor_files import Entry
    from micota.checkpoints.shards import Put

FIRST_ROUND = 64  # new tokens; each round is twice as long as the one before


class Transformers:
    """A model and its tokenizer, loaded from `model`; `place` says on which device and how many rows at once.

    An `empty` one has memory for the weights in place of weights: `take` fills it.
    """

    def __init__(
        self, spec: Generate, model: Path, place: Place, threads: int, stop: Event, empty: bool = False
    ) -> None:
        import torch
        import transformers

        torch.set_num_threads(threads)
        transformers.utils.logging.disable_progress_bar()
        self.batch: int | None = place.batch
        self._spec, self._stop = spec, stop
        self._name = f"transformers {transformers.__version__}"
        trust = spec.trust_remote_code
        self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(model, trust_remote_code=trust)
        load = self._shape if empty else transformers.AutoModelForCausalLM.from_pretrained
        loaded = load(model, dtype=getattr(torch, spec.precision), trust_remote_code=trust)
        self._model: Any = loaded.to(place.device).eval()
        self._eos = eos_ids(self._model.generation_config, self._tokenizer)

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
        if (folder / "generation_config.json").is_file():
            model.generation_config = transformers.GenerationConfig.from_pretrained(folder)
        memory = {name: torch.empty(one.shape, dtype=dtype) for name, one in model.named_parameters()}
        model.load_state_dict(memory, assign=True, strict=False)
        model.tie_weights()
        return model

    def take(self, fill: Callable[[Put], None]) -> None:
        """Replace all weights: `fill(put)` hands them to `put(tensor, start, elements)`, rounded to this precision."""
        parameters = {name: one.detach().view(-1) for name, one in self._model.named_parameters()}
        seen: set[str] = set()

        def put(entry: Entry, start: int, elements: torch.Tensor) -> None:
            if entry.name not in parameters:
                raise MicotaError(f"transformers has no tensor {entry.name} in a model of this architecture")
            parameters[entry.name][start : start + elements.numel()].copy_(elements)
            seen.add(entry.name)

        fill(put)
        if missing := sorted(parameters.keys() - seen):
            raise MicotaError(f"the weights lack the tensor {missing[0]}")

    def render(self, request: Request) -> str:
        return render(self._tokenizer, request.prompt, self._spec.prompt.system, self._spec.prompt.mode)

    def answer(self, requests: Sequence[Request]) -> Iterator[list[Completion]]:
        """Rounds of growing length: rows that have ended leave, the others go on with what they wrote as prompt."""
        rows = [self._row(request) for request in requests]
        length, limit = FIRST_ROUND, self._spec.sampling.max_tokens
        while rows:
            self._extend(rows, min(length, limit - len(rows[0].new)))
            done = [row for row in rows if row.ended or len(row.new) >= limit]
            rows = [row for row in rows if row not in done]
            length *= 2
            if done:
                yield [self._completion(row) for row in done]

    def _row(self, request: Request) -> _Row:
        import torch

        seed = request.seed(self._spec.sampling.seed)
        return _Row(request, self._ids(request), torch.Generator().manual_seed(seed))

    def _extend(self, rows: list[_Row], tokens: int) -> None:
        """Generate up to `tokens` new tokens for each row and note which rows have ended."""
        import torch

        inputs = self._pad([row.prompt + row.new for row in rows])
        with torch.inference_mode():
            out = self._model.generate(**inputs, **self._settings(rows, tokens))
        for row, new in zip(rows, out[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            end = next((i for i, token in enumerate(new) if token in self._eos), None)
            row.new += new if end is None else new[: end + 1]
            stopped = any(stop in self._text(row) for stop in self._spec.sampling.stop)
            if stopped and end is not None:
                row.new.pop()  # the filling behind a stop string, which the row did not write
            row.ended = stopped or end is not None

    def _ids(self, request: Request) -> list[int]:
        ids = prompt_ids(self._tokenizer, request.prompt, self._spec.prompt.system, self._spec.prompt.mode)
        room = getattr(self._model.config, "max_position_embeddings", None)
        if not ids:
            raise MicotaError(f"the prompt of problem {request.key} has no tokens", fix="check the prompt template")
        if room is not None and len(ids) >= room:
            raise MicotaError(
                f"the prompt of problem {request.key} has {len(ids)} tokens; the model reads {room}",
                fix="remove that problem from the set, or take a model with a longer context",
            )
        return ids

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
        """All that decides the text, said in full: nothing is taken from the model's own generation defaults."""
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
            settings["stopping_criteria"].append(_Stops(self._tokenizer, sampling.stop, rows))
        if sampling.temperature > 0:
            settings["logits_processor"] = LogitsProcessorList(self._draws(rows))
        return settings

    def _unless_stopped(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Asked at every token: a batch may take many minutes, a request to stop must not."""
        import torch

        if self._stop.is_set():
            raise Stopped("stopped")
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def _draws(self, rows: list[_Row]) -> list[Any]:
        """Temperature, top-k, top-p, then noise of each row's own: the largest noisy logit is an exact draw."""
        from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

        sampling = self._spec.sampling
        steps: list[Any] = [TemperatureLogitsWarper(sampling.temperature)]
        if sampling.top_k:
            steps.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            steps.append(TopPLogitsWarper(sampling.top_p))
        return [*steps, _Gumbel([row.generator for row in rows])]

    def _text(self, row: _Row) -> str:
        kept = row.new[:-1] if row.new and row.new[-1] in self._eos else row.new
        return str(self._tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _completion(self, row: _Row) -> Completion:
        """The row's text without its end token or from its stop string on; what has neither ran into the limit."""
        text, request = self._text(row), row.request
        cuts = [text.find(stop) for stop in self._spec.sampling.stop if stop in text]
        return Completion(
            request.key,
            request.sample,
            request.prompt,
            text[: min(cuts)] if cuts else text,
            "stop" if row.ended else "length",
            len(row.prompt),
            len(row.new),
            self._name,
            opened_thought(self.render(request)),
        )


@dataclass(eq=False)
class _Row:
    """One request on its way: its prompt's tokens, the new ones (end token included), its random numbers."""

    request: Request
    prompt: list[int]
    generator: Any
    new: list[int] = field(default_factory=list)
    ended: bool = False


class _Stops:
    """Ends a row whose last tokens hold a stop string. The library's own fails on small vocabularies."""

    def __init__(self, tokenizer: Any, stops: Sequence[str], rows: Sequence[_Row]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        self._window = max(map(len, stops)) + 4  # tokens: each is one character at least
        width = max(len(row.prompt) + len(row.new) for row in rows)
        self._begins = [width - len(row.new) for row in rows]  # where the response begins: a prompt stops nothing

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        first = input_ids.shape[1] - self._window
        tails = [row[max(begin, first) :] for row, begin in zip(input_ids.tolist(), self._begins, strict=True)]
        texts = self._tokenizer.batch_decode(tails, clean_up_tokenization_spaces=False)
        found = [any(stop in text for stop in self._stops) for text in texts]
        return torch.tensor(found, device=input_ids.device)


class _Gumbel:
    """Adds Gumbel noise to the logits, row by row from generators of their own: argmax of the sum is a sample."""

    def __init__(self, generators: Sequence[Any]) -> None:
        self._generators = generators

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        noise = torch.stack([torch.rand(scores.shape[1], generator=g, dtype=torch.float64) for g in self._generators])
        tiny = torch.finfo(torch.float64).tiny
        return scores - torch.log(-torch.log(noise.clamp(min=tiny))).to(scores)
