"""Whether a model sees the padding at the left of a row: the same tokens with it and without."""

from __future__ import annotations

from typing import Any

from micota.errors import MicotaError
from micota.training.packing_check import TOLERANCE

PADDING, TOKENS = 5, 12


def check(model: Any, precision: str) -> float:
    """The largest difference of a log-probability, in nats; raises MicotaError where padding moves one.

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
    change = float((alone.float().log_softmax(-1) - beside.float().log_softmax(-1)).abs().max())
    if change <= TOLERANCE[precision]:
        return change
    raise MicotaError(
        f"padding at the left of a row changes a log-probability by {change:.3g} nats",
        where=model.config.model_type,
        why="answers of a step have prompts of unequal length, and would be scored as other texts",
        fix="take models with rotary positions, or train on the teacher's chains",
    )
