"""What a training works on: its tokens, its longest row, the rows of a device, and how memory depends on them."""

from __future__ import annotations

from micota.architectures import Architecture
from micota.costs.accelerator_memory import Training
from micota.costs.lengths import Texts
from micota.costs.spans import Span
from micota.machine import TrainConfig
from micota.specs import FineTuned, Train
from micota.training.sft_examples import steps


def tokens(spec: Train, texts: Texts) -> tuple[Span, Span]:
    """Tokens that a training sees in all its epochs, and those of an example."""
    each = (texts.prompt + texts.response).at_most(spec.cutoff)
    if spec.max_steps is not None:
        return each * (spec.max_steps * spec.batch), each
    if spec.target_tokens is not None:
        share = Span(1 + texts.prompt.low / texts.response.high, 1 + texts.prompt.high / texts.response.low)
        return share * spec.target_tokens, each
    return texts.number.minus(spec.held_out) * each * spec.epochs, each


def on_device(spec: FineTuned, config: TrainConfig, shape: Architecture, longest: float, on_cpu: bool) -> Training:
    """The training as the memory of one device sees it."""
    packing, cutoff = (spec.packing, spec.cutoff) if isinstance(spec, Train) else (False, longest)
    row = int(cutoff if packing else min(cutoff, longest))
    micro = steps(spec.batch, spec.batch, config.accelerators, config.micro_batch).micro
    flat = packing or config.padding_free or "flash" in (config.attention or "")
    checkpointing = not on_cpu if config.activation_checkpointing is None else config.activation_checkpointing
    return Training(
        shape=shape,
        tokens=micro * row,
        row=row,
        half=spec.precision != "float32",
        checkpointing=checkpointing,
        batch=spec.batch,
        padded=micro > 1 and not flat,
        devices=config.accelerators,
        sharded=config.sharding != "none" and config.accelerators > 1,
        rank=spec.lora.rank if spec.lora else None,
        quantized=bool(spec.lora and spec.lora.quantize),
        on_cpu=on_cpu,
    )
