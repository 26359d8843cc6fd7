"""What a training works on: its tokens, its longest row, the rows of a device, and how memory depends on them."""

from __future__ import annotations

import math

from micota.architectures import Architecture
from micota.costs import assumptions
from micota.costs.accelerator_memory import Training
from micota.costs.lengths import Texts
from micota.costs.spans import Span
from micota.machine import TrainConfig
from micota.specs import Data, Mix, RejectionSampling, Select, SftData, Train
from micota.training.sft_examples import steps


def tokens(spec: Train, texts: Texts) -> tuple[Span, Span]:
    """Tokens that a training sees in all its epochs, and those of a row."""
    each = (texts.prompt + texts.response).at_most(spec.cutoff)
    if spec.max_steps is not None:
        return each * (spec.max_steps * spec.batch), each
    if spec.target_tokens is not None:
        share = Span(1 + texts.prompt.low / texts.response.high, 1 + texts.prompt.high / texts.response.low)
        return share * spec.target_tokens, each
    rows = Span(max(0, texts.number.low - spec.held_out), max(0, texts.number.high - spec.held_out))
    return rows * each * spec.epochs, each


def longest(data: Data) -> float:
    """Tokens of the longest example that the data can hold."""
    if isinstance(data, Mix):
        return max(longest(part.data) for part in data.parts)
    if isinstance(data, SftData):
        return math.inf  # what the file holds is not looked at: the cutoff decides
    assert isinstance(data, RejectionSampling | Select)
    asked = data.completions
    most = asked.sampling.max_tokens
    if isinstance(data, Select) and data.max_tokens is not None:
        most = min(most, data.max_tokens)
    prompt = assumptions.PROMPTS[assumptions.of_prompt(asked.problems.source.ref)]
    return most + prompt.high


def run(spec: Train, place: TrainConfig, shape: Architecture, on_cpu: bool) -> tuple[Training, int]:
    """The training on one device as its memory sees it, and its rows at once."""
    row = spec.cutoff if spec.packing else int(min(float(spec.cutoff), longest(spec.data)))
    micro = steps(spec.batch, spec.batch, place.devices, place.micro_batch).micro
    flat = spec.packing or place.padding_free or "flash" in (place.attention or "")
    checkpointing = not on_cpu if place.activation_checkpointing is None else place.activation_checkpointing
    return Training(
        shape=shape,
        tokens=micro * row,
        row=row,
        half=spec.precision != "float32",
        checkpointing=checkpointing,
        batch=spec.batch,
        padded=micro > 1 and not flat,
        devices=place.devices,
        sharded=place.sharding != "none" and place.devices > 1,
        rank=spec.lora.rank if spec.lora else None,
        quantized=bool(spec.lora and spec.lora.quantize),
        on_cpu=on_cpu,
    ), micro
