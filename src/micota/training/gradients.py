"""How far two data sets pull a model the same way: the cosine of the gradients of their losses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from micota.store.records import Completion, text_key

SAMPLE = 128
"""Responses of which a gradient is taken."""
Row = tuple[Any, Any, Any]
"""Tokens, labels (-100 where none counts) and mask of one text, each (1, position)."""


def agreement(model: Any, own: Iterable[Row], other: Iterable[Row]) -> float:
    """The cosine of the gradients of the summed negative log-likelihoods of two sets of texts, in [-1, 1].

    All parameters of the `model` count; it gets the head that TRL trains with, which holds few logits at a time. Texts
    are read one by one and summed in fp32: two gradients are held, one of them in the CPU's memory. nan where one is 0.
    """
    from trl.trainer.utils import add_fused_lm_head

    add_fused_lm_head(model)
    first = [part.cpu() for part in gradient(model, own)]
    dot, norms = 0.0, [0.0, 0.0]
    for a, b in zip(first, gradient(model, other), strict=True):
        b = b.cpu()
        dot += float((a.double() * b.double()).sum())
        norms = [norm + float(one.double().square().sum()) for norm, one in zip(norms, (a, b), strict=True)]
    return dot / (norms[0] * norms[1]) ** 0.5 if all(norms) else float("nan")


def sample(rows: list[Completion]) -> list[Completion]:
    """The same rows at every call, whatever their order: those with the smallest hashes."""
    return sorted(rows, key=lambda row: text_key(row.key, str(row.sample)))[:SAMPLE]


def gradient(model: Any, rows: Iterable[Row]) -> list[Any]:
    """The gradient of the summed negative log-likelihood of texts, a tensor in fp32 for each parameter."""
    import torch

    parameters = [one.requires_grad_() for one in model.parameters() if one.is_floating_point()]
    sums = [torch.zeros_like(one, dtype=torch.float32) for one in parameters]
    for row in rows:
        ids, labels, mask = (tensor.to(model.device) for tensor in row)
        output = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)
        parts = torch.autograd.grad(-output.log_probs.sum(), parameters, allow_unused=True)
        for total, part in zip(sums, parts, strict=True):
            if part is not None:
                total += part
    return sums
