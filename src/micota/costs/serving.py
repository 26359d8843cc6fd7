"""Generation on accelerators: what it holds in memory, and how long it takes by a roofline.

A step reads all weights and the cache of every text that is being written, and computes one token of each. Reading a
prompt is a forward pass. Whatever takes longer, memory or arithmetic, is the step's time (Williams et al., 2009).
"""

from __future__ import annotations

from dataclasses import dataclass

from micota.architectures import Architecture
from micota.costs import flops
from micota.costs.accelerator_memory import RESERVED
from micota.costs.accelerators import Accelerator
from micota.machine import EngineConfig

COMPUTE, BANDWIDTH, STEP_S = 0.5, 0.6, 0.005
"""Shares of the sheet's rates that are assumed, and the seconds that a step takes at least."""
PREFILL = 8192
"""Tokens of prompts that are read in one pass: their activations are held."""


@dataclass(frozen=True)
class Serving:
    """A model on an engine: its shape, bytes of a weight, CPU cores of a stage, tokens of the longest text."""

    shape: Architecture
    width: int
    config: EngineConfig
    device: Accelerator
    cores: int
    longest: float

    @property
    def vllm(self) -> bool:
        """Whether texts wait until there is room for their cache; transformers pads them to a batch instead."""
        return self.config.engine == "vllm"

    @property
    def parallel(self) -> int:
        """Devices that share a copy of the model."""
        return self.config.tensor_parallel if self.vllm else 1

    @property
    def weights(self) -> float:
        """Bytes of the weights on each device, with a pass over prompts and the logits of the texts."""
        tokens, shape = min(PREFILL, self.longest), self.shape
        activations = self.width * tokens * (2 * shape.hidden + 2 * shape.inner) + 4 * self.config.batch * shape.rows
        return self.width * shape.parameters / self.parallel + activations

    @property
    def needs(self) -> float:
        """Bytes of each device without which it cannot run: one whole text's cache, or a whole batch's."""
        texts = 1 if self.vllm else self.config.batch
        return self.weights + texts * self._cache(self.longest)

    def _cache(self, context: float) -> float:
        return self.width * self.shape.kv_per_token * context / self.parallel

    def room(self, memory: float) -> float:
        """Bytes of a device that may be used."""
        return memory if self.device.is_cpu else memory * (self.config.memory if self.vllm else 1) - RESERVED

    def at_once(self, context: float) -> float:
        """Texts of a mean length that are written at the same time on one copy."""
        batch = float(self.config.batch)
        if self.device.is_cpu or not self.vllm:
            return batch
        return max(1.0, min(batch, (self.room(self.device.memory) - self.weights) / self._cache(context)))

    def seconds(self, number: float, prompt: float, response: float) -> float:
        """Seconds of one device, all devices together, for so many texts."""
        if not number:
            return 0.0
        context = prompt + response / 2
        texts = min(self.at_once(context), number)
        rate = self.device.flops * self.cores * self.parallel * COMPUTE
        bandwidth = self.device.bandwidth * self.cores * self.parallel * BANDWIDTH
        read = self.width * (self.shape.parameters + texts * self.shape.kv_per_token * context)
        step = max(STEP_S, read / bandwidth, flops.forward(self.shape, texts, context) / rate)
        waits = 1 if self.vllm else 2  # a batch ends with its longest response
        writing = number * response / texts * step * waits
        reading = flops.forward(self.shape, number * prompt, prompt) / rate
        return (writing + reading) * self.parallel * self.cores
