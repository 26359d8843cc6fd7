"""A model's log-probabilities out of its states and its head, with gradients, at a few places at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from micota.errors import MicotaError
from micota.training.head_product import logit_form

LOGITS = 2**24
"""Logits of one model that are held at a time, however long the answers and however large the vocabulary."""


@dataclass(frozen=True)
class Head:
    """A model's states (row, position, width) and the head that makes logits of them. `form` is the factor and the
    soft cap that the family puts on these; they are divided by the temperature."""

    states: Any
    weight: Any
    bias: Any
    form: tuple[float, float | None]
    temperature: float

    @classmethod
    def of(cls, model: Any, states: Any, temperature: float) -> Head:
        """The head of a model, gathered from all processes that hold parts of it."""
        head = model.get_output_embeddings()
        parts: list[Any] = [head.weight, getattr(head, "bias", None)]
        weight, bias = (one.full_tensor() if hasattr(one, "full_tensor") else one for one in parts)
        return cls(states, weight, bias, logit_form(model.config.get_text_config()), temperature)

    def logs(self, places: Any) -> Any:
        """The log-probabilities (place, vocabulary) in fp32 at some places, counted over all rows."""
        logits = self.states.flatten(0, 1)[places].to(self.dtype) @ self.weight.to(self.dtype).T
        logits = (logits if self.bias is None else logits + self.bias) * self.form[0]
        if cap := self.form[1]:
            logits = (logits / cap).tanh() * cap
        return (logits / self.temperature).log_softmax(-1)

    def first(self, rows: int) -> Head:
        """The head without the rows of its vocabulary from `rows` on."""
        return replace(self, weight=self.weight[:rows], bias=None if self.bias is None else self.bias[:rows])

    @property
    def dtype(self) -> Any:
        """That of the log-probabilities: fp32, for weights in fp64 that."""
        import torch

        return torch.promote_types(self.weight.dtype, torch.float32)

    @property
    def nothing(self) -> Any:
        """Zero, with a gradient of zeros: processes wait for each other's."""
        return (self.states.sum() + self.weight.sum()) * 0


def refuse_deepspeed(trainer: Any) -> None:
    """Raise MicotaError behind DeepSpeed, which keeps the weights of a head in parts."""
    if trainer.is_deepspeed_enabled:
        what = "a loss of micota's own cannot be computed behind DeepSpeed"
        why = "it takes the weights of the whole head, which DeepSpeed keeps in parts"
        raise MicotaError(what, why=why, fix="take FSDP2 or DDP: --machine fsdp2; or a teacher of the same tokenizer")
