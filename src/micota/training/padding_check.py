"""Whether a model sees the padding at the left of a row: the same tokens with it and without."""

from __future__ import annotations

from typing import Any

from micota.errors import MicotaError

PADDING, TOKENS = 5, 12
TOLERANCE = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 6e-3}
"""Nats of the mean divergence, by precision: rounding makes at most .002 in bf16, learned positions at least .015."""


def check(model: Any, precision: str) -> float:
    """The mean KL divergence of the next token's distribution beside padding from that alone, in nats; raises
    MicotaError where it is more than rounding.

    TRL's loss pads prompts at the left and gives no positions: a model with learned ones would be scored at others.
    """
    import torch

    training, device = model.training, next(model.parameters()).device
    model.eval()
    rows = min(1000, model.config.get_text_config().vocab_size)
    ids = torch.tensor([[(7 * i + 3) % rows for i in range(TOKENS)]], device=device)
    padded = torch.cat([ids.new_zeros(1, PADDING), ids], dim=1)
    mask = torch.cat([ids.new_zeros(1, PADDING), torch.ones_like(ids)], dim=1)
    with torch.no_grad():
        alone = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
        beside = model(input_ids=padded, attention_mask=mask, use_cache=False).logits[0, PADDING:]
    model.train(training)
    logs, others = alone.float().log_softmax(-1), beside.float().log_softmax(-1)
    change = float((logs.exp() * (logs - others)).sum(-1).mean())
    if change <= TOLERANCE[precision]:
        return change
    raise MicotaError(
        f"padding at the left of a row changes what the model predicts by {change:.3g} nats",
        where=model.config.model_type,
        why="answers of a step have prompts of unequal length, and would be scored as other texts",
        fix="take models with rotary positions, or train on the teacher's chains",
    )
