"""Scores of texts from a model's last states and its head, without holding the logits of whole texts."""

from __future__ import annotations

from typing import Any

from micota.errors import MicotaError

CLIP = 100
"""The highest rank that counts, as in the paper of the rank-surprisal ratio."""
LOGITS = 2**25
"""Logits that are held at a time to count ranks, however long the texts and however large the vocabulary."""

MISSED = 0.02
"""Of the largest logit: so far may the model's own be from the product, which is not rounded to half precision."""


def check_product(model: Any) -> None:
    """Refuse, with a MicotaError, a model whose logits are not the product of its last states with its head.

    Families differ in what they do to their states and logits, and a configuration need not tell it: so the model's own
    logits of a few tokens are compared.
    """
    import torch

    head, few = model.get_output_embeddings(), 4096
    with torch.no_grad():
        ids = torch.arange(8, device=model.device).unsqueeze(0) % model.config.get_text_config().vocab_size
        own = model(input_ids=ids, use_cache=False).logits[0, :, :few].float()
        states = getattr(model.base_model(input_ids=ids, use_cache=False), "last_hidden_state", None)
        if states is not None and head is not None:
            logits = states[0].to(head.weight.device).float() @ head.weight[:few].float().T
            logits = logits if head.bias is None else logits + head.bias[:few]
            logits = _formed(logits, *logit_form(model.config.get_text_config())).to(own.device)
            if not own.isfinite().all() or (own - logits).abs().max() <= MISSED * own.abs().max():
                return
    raise MicotaError(
        f"models of the family {model.config.model_type} cannot be measured",
        why="their logits are not the product of the last states with the head, from which measures are taken",
        fix="measure the data under a model of another family, such as Qwen or Llama",
    )


def logit_form(config: Any) -> tuple[float, float | None]:
    """The factor and the soft cap that a family puts on its logits, from its configuration, as TRL reads them."""
    names = ("logit_scale", "output_multiplier", "lm_head_multiplier")
    scale = next((value for name in names if isinstance(value := getattr(config, name, None), int | float)), 1.0)
    if isinstance(divisor := getattr(config, "logits_scaling", None), int | float):
        scale = divisor if config.model_type == "hyperclovax" else 1 / divisor
    return scale, getattr(config, "final_logit_softcapping", None)


def head_scores(
    head: Any, form: tuple[float, float | None], hidden: Any, labels: Any, ranked: bool
) -> list[tuple[float, int]]:
    """The sums of each row's nats, in double precision, and of its ranks, clipped at CLIP; 0 if not `ranked`.

    `hidden` (row, position, width) are the states before the `head`, `labels` (row, position) the tokens that follow,
    -100 where none counts: such places never reach the head. Logits are in fp32, LOGITS of them at a time. Rank 1 is
    the likeliest token, and equal logits have one rank; the `form` of logits changes none.
    """
    import torch

    weight, bias, (scale, cap) = head.weight.detach(), head.bias, form
    hidden, labels = hidden.detach().to(weight.device), labels.to(weight.device)
    half = weight.is_cuda and weight.dtype != torch.float32
    weight = weight if half else weight.float()
    rows, places = (labels != -100).nonzero(as_tuple=True)
    nats = torch.zeros(len(labels), dtype=torch.double, device=weight.device)
    ranks = torch.zeros(len(labels), dtype=torch.long, device=weight.device)
    size = max(1, LOGITS // len(weight))
    for start in range(0, len(rows), size):
        row, place = rows[start : start + size], places[start : start + size]
        states = hidden[row, place]
        logits = torch.mm(states, weight.T, out_dtype=torch.float32) if half else states.float() @ weight.T
        logits = logits if bias is None else logits.add_(bias.detach())
        own = logits.gather(1, labels[row, place].unsqueeze(1))
        if ranked:
            ranks.index_add_(0, row, (logits > own).sum(1).clamp(max=CLIP - 1) + 1)
        own = _formed(own, scale, cap).squeeze(1)
        nats.index_add_(0, row, (_formed(logits, scale, cap).logsumexp(1) - own).double())
    return list(zip(nats.tolist(), ranks.tolist(), strict=True))


def _formed(logits: Any, scale: float, cap: float | None) -> Any:
    """Logits as the model gives them, in place."""
    logits = logits if scale == 1 else logits.mul_(scale)
    return logits if cap is None else logits.div_(cap).tanh_().mul_(cap)
