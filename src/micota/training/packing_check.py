"""Whether examples that share a row see each other: the same model and tokens, packed and one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from micota.errors import MicotaError

LENGTHS = (13, 7, 10)
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}
"""Nats of one token, by precision; a leak changes some token's loss by more than 1."""


def probes(rows: int) -> list[dict[str, list[int]]]:
    """A few short examples over a vocabulary of `rows`."""
    texts = [[(7 * i + 31 * j + 3) % rows for i in range(length)] for j, length in enumerate(LENGTHS)]
    return [{"input_ids": ids, "labels": ids} for ids in texts]


def packed_batch(examples: list[dict[str, list[int]]]) -> dict[str, Any]:
    """The examples as one row, as TRL's collator makes it for a training."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    batch: dict[str, Any] = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)(examples)
    return batch


def largest_difference(model: Any, examples: list[dict[str, list[int]]], batch: Mapping[str, Any]) -> float:
    """The largest difference, in nats of a token, between losses in the packed batch and of each example alone."""
    import torch

    where = next(model.parameters()).device
    together = {name: _to(value, where) for name, value in batch.items() if name != "labels"}
    alone = []
    with torch.no_grad():
        whole = _nats(model(**together, use_cache=False).logits[0], together["input_ids"][0])
        for example in examples:
            ids = torch.tensor([example["input_ids"]], device=where)
            alone.append(_nats(model(input_ids=ids, use_cache=False).logits[0], ids[0]))
    ends = torch.tensor([len(example["input_ids"]) for example in examples]).cumsum(0).tolist()
    within = [i for i in range(len(whole)) if i + 1 not in ends]  # the next-token target of an end is another example's
    return float((whole[within] - torch.cat(alone)).abs().max())


def check(model: Any, precision: str, attention: str | None) -> float:
    """The largest difference of a model as it will train; raises MicotaError if examples see each other."""
    training = model.training
    model.eval()
    examples = probes(min(1000, model.config.get_text_config().vocab_size))
    change = largest_difference(model, examples, packed_batch(examples))
    model.train(training)
    if not change <= TOLERANCE[precision]:
        used = attention or getattr(model.config, "_attn_implementation", None)
        raise MicotaError(
            f"examples in one row see each other: a token's loss changes by {change:.3g} nats",
            where=f"attention '{used}' of the machine profile",
            why="each example would be learned as the continuation of another one",
            fix="train: {attention: flash_attention_2} or sdpa, or remove packing and padding_free",
        )
    return change


def _nats(logits: Any, ids: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(logits[:-1].float(), ids[1:], reduction="none")


def _to(value: Any, device: Any) -> Any:
    return value.to(device) if hasattr(value, "to") else value
