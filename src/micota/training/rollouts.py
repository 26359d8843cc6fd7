"""What a model learns from on-policy: prompts in their order, and its own answers to them.

An answer depends on the weights, the prompt and the number of its draw only: each row has random numbers of its own, so
that several processes sample what one would, and a resumed training what an uninterrupted one would.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from micota.generation.transformers import Gumbel
from micota.specs import OnPolicyDistillation
from micota.training.trl_settings import world


@dataclass(frozen=True)
class Prompt:
    """The tokens of a prompt; of a row of training data also those of its response with EOS; and those of the prompt
    as a teacher with another tokenizer reads it."""

    ids: list[int]
    response: Sequence[int] = ()
    teacher: Sequence[int] = ()


class Draws:
    """The prompts of all steps one after the other, as a data set: every pass over them in an order by (seed + pass).

    A draw without a response is to be answered by the model itself.
    """

    def __init__(self, prompts: Sequence[Prompt], spec: OnPolicyDistillation) -> None:
        self._prompts, self._spec = prompts, spec
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return self._spec.steps * self._spec.batch

    def __getitem__(self, number: int) -> dict[str, Any]:
        prompt = self._prompts[self._place(number)]
        response = [] if self.is_on_policy(number // self._spec.batch) else list(prompt.response)
        seed = self._random("answer", number).getrandbits(62)
        return {"prompt": {"ids": prompt.ids, "response": response, "seed": seed, "teacher": list(prompt.teacher)}}

    @property
    def drawn(self) -> list[Prompt]:
        """The prompts that are drawn at all: the first pass asks each once."""
        return [self._prompts[self._place(number)] for number in range(min(len(self), len(self._prompts)))]

    def is_on_policy(self, step: int) -> bool:
        """Whether a step learns on the model's own answers; all processes agree on it."""
        return self._random("policy", step).random() < self._spec.on_policy

    def _random(self, what: str, number: int) -> random.Random:
        return random.Random(f"{what} {self._spec.seed} {number}")

    def _place(self, number: int) -> int:
        import torch

        turn, place = divmod(number, len(self._prompts))
        if self._order[0] != turn:
            generator = torch.Generator().manual_seed(self._spec.seed + turn)
            self._order = turn, torch.randperm(len(self._prompts), generator=generator).tolist()
        return self._order[1][place]


def answers(
    model: Any, prompts: Sequence[Sequence[int]], seeds: Sequence[int], settings: dict[str, Any], temperature: float
) -> list[list[int]]:
    """A sampled answer to each prompt, its EOS token included; one that reaches the limit has none.

    `settings` are those of transformers' GenerationConfig, with the EOS tokens as a list. All processes of a training
    call this, and go on until the last of them has ended: of a sharded model each token needs them all.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, TemperatureLogitsWarper

    width, eos = max(map(len, prompts)), settings["eos_token_id"]
    ids = torch.tensor([[eos[0]] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    noise = Gumbel([torch.Generator().manual_seed(seed) for seed in seeds])
    out = model.generate(
        input_ids=ids,
        attention_mask=mask,
        generation_config=GenerationConfig(
            do_sample=False,
            pad_token_id=eos[0],
            # On a CPU a cache that grows is copied at every token; one of fixed size does not follow autocast.
            cache_implementation="static"
            if model.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
            else None,
            disable_compile=True,
            **settings,
        ),
        logits_processor=LogitsProcessorList([TemperatureLogitsWarper(temperature), noise]),
        synced_gpus=world() > 1,
    )
    return [_until_end(new, eos) for new in out[:, width:].tolist()]


def _until_end(tokens: list[int], eos: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in eos), len(tokens))
    return tokens[: end + 1]
