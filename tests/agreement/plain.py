"""What micota is compared with: plain transformers, peft and torch, one text at a time, without padding or batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

Tensors = dict[str, torch.Tensor]
Pair = tuple[list[int], list[int]]
NEW_TOKENS = 24


def tensors(folder: Path) -> Tensors:
    """All tensors of a model folder."""
    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


class Plain:
    """The model in a folder, in fp32, as transformers loads it."""

    def __init__(self, folder: Path) -> None:
        self.words = AutoTokenizer.from_pretrained(folder)
        self.model, about = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        self.model.eval()
        self.is_whole = not (about["missing_keys"] or about["unexpected_keys"] or about["mismatched_keys"])

    def pair(self, prompt: str, response: str) -> Pair:
        """The tokens of a prompt, through the chat template, and of a response."""
        asked = [{"role": "user", "content": prompt}]
        text = self.words.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
        return tuple(self.words(each, add_special_tokens=False)["input_ids"] for each in (text, response))  # type: ignore[return-value]

    def nats(self, model: Any, pair: Pair) -> torch.Tensor:
        """The sum of the negative log-likelihoods of a response."""
        prompt, response = pair
        logits = model(input_ids=torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        return torch.nn.functional.cross_entropy(logits.double(), torch.tensor(response), reduction="sum")

    def bits_per_character(self, rows: list[dict[str, str]]) -> float:
        """Over all rows together, without end tokens."""
        with torch.no_grad():
            nats = sum(float(self.nats(self.model, self.pair(row["prompt"], row["response"]))) for row in rows)
        return nats / sum(len(row["response"]) for row in rows) / math.log(2)

    def answer(self, prompt: str, **settings: Any) -> str:
        """The greedy text; without `settings` of transformers' generate, as the folder's own say."""
        ids = torch.tensor([self.pair(prompt, "")[0]])
        settings |= {"do_sample": False, "max_new_tokens": NEW_TOKENS, "attention_mask": torch.ones_like(ids)}
        with torch.no_grad():
            made = self.model.generate(input_ids=ids, **settings)[0, ids.shape[1] :]
        return str(self.words.decode(made, skip_special_tokens=True))

    def losses(self, rows: list[dict[str, str]], steps: int, lr: float, adapter: Any = None) -> list[float]:
        """The loss of each step of AdamW on all rows at once, and the loss after the last."""
        model = self.model
        if adapter is not None:
            import peft

            torch.manual_seed(0)  # the seed of a training: a random half of an adapter is drawn
            model = peft.get_peft_model(model, adapter)
        pairs = [self.pair(row["prompt"], row["response"]) for row in rows]
        pairs = [(prompt, [*response, self.words.eos_token_id]) for prompt, response in pairs]
        tokens = sum(len(response) for _, response in pairs)
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        optimizer, losses = torch.optim.AdamW(weights, lr=lr, weight_decay=0.0), []
        for step in range(steps + 1):
            loss = torch.stack([self.nats(model, pair) for pair in pairs]).sum() / tokens
            losses.append(float(loss.detach()))
            if step < steps:
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
        return losses

    def leak(self) -> float:
        """How much, of the largest logit, a text's logits move at most when another stands before it in one row.

        The borders are told as a training without padding tells them: by positions that begin again.
        """
        first, second = list(range(40, 53)), list(range(60, 68))
        positions = torch.tensor([[*range(len(first)), *range(len(second))]])
        with torch.no_grad():
            rows = [torch.tensor([text + second]) for text in (first, first[::-1])]
            one, other = (self.model(input_ids=row, position_ids=positions, use_cache=False).logits[0] for row in rows)
        moved = (one - other)[len(first) :].abs().max()
        return float(moved / one.abs().max())


def dare_ties(base: Tensors, models: list[Tensors], weights: list[float]) -> Tensors:
    """DARE-TIES at density 1: weighted task vectors, of which those count that have the sign of their sum."""
    merged = {}
    for name, start in base.items():
        vectors = [weight * (model[name] - start) for weight, model in zip(weights, models, strict=True)]
        parts = torch.stack(vectors)
        agree = ((parts > 0) != (parts.sum(0) < 0)) & (parts != 0)
        merged[name] = start + (parts * agree).sum(0)
    return merged


def units(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """How many floating-point numbers lie between two tensors of fp32, entry by entry."""
    places = []
    for each in (a, b):
        bits = each.flatten().view(torch.int32).long()
        places.append(torch.where(bits < 0, -(bits & (2**31 - 1)), bits))
    return (places[0] - places[1]).abs()
