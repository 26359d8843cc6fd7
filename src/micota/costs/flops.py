"""Floating-point operations of a transformer, counted as torch's own counter counts.

A product of an (m, k) and a (k, n) matrix is 2mkn. Attention is counted over the whole square of a text's length,
though causal kernels leave out half of it: what they save belongs to the assumed efficiency, as in published ones.
"""

from __future__ import annotations

from micota.architectures import Architecture


def forward(shape: Architecture, tokens: float, context: float) -> float:
    """A forward pass over so many tokens, each of which attends to `context` tokens."""
    return tokens * (_layers(shape, context) + 2 * shape.head)


def training(shape: Architecture, tokens: float, context: float, *, checkpointing: bool, fused: bool = True) -> float:
    """Forward and backward over so many tokens in texts of `context` tokens.

    Backward costs two forwards. With activation checkpointing each layer runs forward once more, up to its last
    product; a `fused` loss, as TRL's, makes the logits once more.
    """
    again = _layers(shape, context) - 2 * shape.layers * shape.hidden * shape.inner if checkpointing else 0
    return tokens * (3 * _layers(shape, context) + again + (8 if fused else 6) * shape.head)


def adapters(shape: Architecture, tokens: float, context: float, *, checkpointing: bool) -> float:
    """The same with frozen weights: no gradients of theirs, which is one product of three less."""
    full = training(shape, tokens, context, checkpointing=checkpointing)
    return full - tokens * 2 * (shape.linear + shape.head)


def _layers(shape: Architecture, context: float) -> float:
    """All layers, for each token."""
    return 2 * shape.linear + 4 * shape.layers * shape.heads * shape.head_dim * context
