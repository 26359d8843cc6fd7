"""Generation on accelerators: what it holds in memory, and how long it takes by a roofline.

A step reads all weights and the cache of every text that is being written, and computes one token of each. Reading a
prompt is a forward pass. Whatever takes longer, memory or arithmetic, is the step's time.
"""

from __future__ import annotations

from dataclasses import dataclass

from micota.architectures import Architecture
from micota.costs import flops
from micota.costs.accelerator_memory import RESERVED
from micota.costs.accelerators import Accelerator
from micota.costs.spans import Span
from micota.machine import EngineConfig

COMPUTE, BANDWIDTH, STEP_S = 0.5, 0.6, 0.005
"""Shares of the sheet's rates that are assumed, and the seconds that a step takes at least."""
AT_ONCE = 8192
"""Tokens of prompts that are read in one pass: their activations are held."""


@dataclass(frozen=True)
class Serving:
    """A model of a shape and a width (bytes of a weight) at a place; texts of at most `longest` tokens."""

    shape: Architecture
    width: int
    place: EngineConfig
    device: Accelerator
    cores: int
    longest: float

    @property
    def grows(self) -> bool:
        """Whether texts wait until there is room for their cache, as vllm lets them."""
        return self.place.engine == "vllm"

    @property
    def parallel(self) -> int:
        """Devices that share a copy of the model."""
        return self.place.tensor_parallel if self.grows else 1

    @property
    def devices(self) -> int:
        """Devices of one stage."""
        return self.parallel * (self.place.data_parallel if self.grows else 1)

    @property
    def weights(self) -> float:
        """Bytes of the weights on each device."""
        return self.width * self.shape.parameters / self.parallel

    @property
    def text(self) -> float:
        """Bytes of the cache of one whole text on each device."""
        return self.width * self.shape.kv_per_token * self.longest / self.parallel

    @property
    def least(self) -> float:
        """Bytes without which it cannot run: weights, a pass, and one text, or all of a batch where it is padded."""
        texts = 1 if self.grows else self.place.batch
        return self.weights + self._pass() + texts * self.text

    def _pass(self) -> float:
        """Activations of a pass over prompts, and the logits of the texts."""
        tokens = min(AT_ONCE, self.longest)
        shape = self.shape
        return self.width * tokens * (2 * shape.hidden + 2 * shape.inner) + 4 * self.place.batch * shape.rows

    def room(self, memory: float) -> float:
        """Bytes of a device that may be used."""
        return memory if self.device.is_cpu else memory * (self.place.memory if self.grows else 1) - RESERVED

    def at_once(self, context: float) -> float:
        """Texts of a mean length that are written at the same time on one copy."""
        if self.device.is_cpu or not self.grows:
            return float(self.place.batch)
        free = self.room(self.device.memory) - self.weights - self._pass()
        each = self.width * self.shape.kv_per_token * context / self.parallel
        return max(1.0, min(float(self.place.batch), free / each))

    def seconds(self, number: Span, prompt: Span, response: Span) -> Span:
        """Seconds of one device, all devices together, for so many texts: at the low ends and at the high ones."""
        return Span(
            self._seconds(number.low, prompt.low, response.low), self._seconds(number.high, prompt.high, response.high)
        )

    def _seconds(self, number: float, prompt: float, response: float) -> float:
        if not number:
            return 0.0
        context = prompt + response / 2
        together = min(self.at_once(context), number)
        rate = self.device.flops * self.cores * self.parallel * COMPUTE
        bytes_s = self.device.bandwidth * self.cores * self.parallel * BANDWIDTH
        read = self.width * (self.shape.parameters + together * self.shape.kv_per_token * context)
        step = max(STEP_S, read / bytes_s, flops.forward(self.shape, together, context) / rate)
        waits = 1 if self.grows else 2  # a batch ends with its longest answer
        writing = number * response / together * step * waits
        reading = flops.forward(self.shape, number * prompt, prompt) / rate
        return (writing + reading) * self.parallel * self.cores
