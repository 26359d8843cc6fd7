"""Whether examples that share a row see each other: the same model and tokens, packed and one by one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from micota.errors import MicotaError

LENGTHS = (13, 7, 10)
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.05}
"""Nats of one token, by precision, between packed and alone: positions that are not reset change some loss by more."""
UNPACKED = "remove packing from the recipe and padding_free from the profile"
NOISE = 4
"""How often the rounding of a row may move a logit, seen where nothing else can: routing sums other tokens' experts."""


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

    ids = batch["input_ids"][0].to(next(model.parameters()).device)
    with torch.no_grad():
        whole = _nats(_logits(model, batch), ids)
        each = [torch.tensor([example["input_ids"]], device=ids.device) for example in examples]
        alone = [_nats(model(input_ids=one, use_cache=False).logits[0], one[0]) for one in each]
    ends = torch.tensor([len(example["input_ids"]) for example in examples]).cumsum(0).tolist()
    within = [i for i in range(len(whole)) if i + 1 not in ends]  # the next-token target of an end is another example's
    return float((whole[within] - torch.cat(alone)).abs().max())


def leak(model: Any, examples: list[dict[str, list[int]]]) -> float:
    """By how much the logits of later examples move at most when the first one changes: 0 where they do not see it.

    What the last example moves in those before it is rounding, as no causal model sees ahead: so much is no leak.
    """
    whole = _logits(model, packed_batch(examples))
    first, last = (len(examples[i]["input_ids"]) for i in (0, -1))
    moved = (whole - _logits(model, packed_batch([_other(examples[0]), *examples[1:]])))[first:].abs().max()
    noise = (whole - _logits(model, packed_batch([*examples[:-1], _other(examples[-1])])))[:-last].abs().max()
    rounding = min(NOISE * float(noise), 2**-7 * float(whole.abs().max()))
    return 0.0 if float(moved) <= rounding else float(moved)


def check(model: Any, precision: str, attention: str | None) -> float:
    """The largest difference of a model as it will train; raises MicotaError if examples see each other."""
    training = model.training
    model.eval()
    examples = probes(min(1000, model.config.get_text_config().vocab_size))
    used = str(attention or getattr(model.config, "_attn_implementation", None))
    where = f"{model.config.model_type} with attention '{used}'"
    _logits(model, _alone(examples[0]))  # what stops a model without borders too is no matter of packing
    try:
        moved, change = leak(model, examples), largest_difference(model, examples, packed_batch(examples))
    except Exception as error:  # a family may refuse the borders in any way, or not know what tells them
        what, fix = "examples in one row cannot be kept apart", f"{_kernels(str(error))}{UNPACKED}"
        raise MicotaError(what, where=where, why=str(error), fix=fix) from error
    model.train(training)
    if moved == 0 and change <= TOLERANCE[precision]:
        return change
    figure = (
        f"the first one moves a logit of another by {moved:.3g}" if moved else f"a loss changes by {change:.3g} nats"
    )
    raise MicotaError(
        f"examples in one row see each other: {figure}",
        where=where,
        why="each example would be learned as the continuation of another one",
        fix=f"{_other_attention(model, used)}{UNPACKED}",
    )


def _alone(example: dict[str, list[int]]) -> dict[str, Any]:
    import torch

    return {"input_ids": torch.tensor([example["input_ids"]])}


def _kernels(message: str) -> str:
    """The kernels that transformers asks for, which keep examples apart on a GPU."""
    named = re.search(r"Install `([\w-]+)`", message)
    return f"on a GPU pip install {named[1]}, or " if named else ""


def _other_attention(model: Any, used: str) -> str:
    """Another attention that may keep them apart; "" where there is none to try, or layers that are none mix a row."""
    import torch

    heads = hasattr(model.config.get_text_config(), "num_attention_heads")
    recurrent = any(isinstance(module, torch.nn.Conv1d) for module in model.modules())
    if not heads or recurrent or used.startswith("flash"):
        return ""
    return "try train: {attention: flash_attention_2} in the machine profile, or "


def _other(example: dict[str, list[int]]) -> dict[str, list[int]]:
    """Other tokens, as many and of the same vocabulary."""
    ids = example["input_ids"][::-1]
    return {"input_ids": ids, "labels": ids}


def _logits(model: Any, batch: Mapping[str, Any]) -> Any:
    """In fp32, of the first row."""
    import torch

    where = next(model.parameters()).device
    inputs = {name: _to(value, where) for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        return model(**inputs, use_cache=False).logits[0].float()


def _nats(logits: Any, ids: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(logits[:-1].float(), ids[1:], reduction="none")


def _to(value: Any, device: Any) -> Any:
    return value.to(device) if hasattr(value, "to") else value
