"""Memory of one device while a model is trained, as TRL trains it here: float32 weights, bf16 by autocast, AdamW.

The peak is the highest of four moments: the end of the forward pass, the loss's backward, a layer's backward, and the
optimizer's step. Every term is a tensor that is alive then; tests hold the sum to torch's own memory tracker.
"""

from __future__ import annotations

from dataclasses import dataclass

from micota.architectures import Architecture

TILE_ROWS, TILE_COLUMNS = 4096, 32_768
"""The piece of the logits that TRL's loss holds at a time."""
CPU_TILES = (4, 8)
"""float32 copies of that piece, forward and backward, that it makes where there is no Triton."""
NF4 = 0.53
"""Bytes of a weight in four bits, with its constants."""
PROCESS = 0.72 * 2**30
"""Bytes of a training's process on a CPU before its model is there: Python, torch, TRL, a tokenizer."""
RESERVED = 1.0 * 2**30
"""Bytes that CUDA, its libraries and communication take on every device."""


@dataclass(frozen=True)
class Training:
    """What the memory of a training depends on. `tokens` are those of one device's rows at once, each of `row`.

    `batch` are the rows of an optimizer step over all devices.
    """

    shape: Architecture
    tokens: int
    row: int
    half: bool = True  # bf16 or fp16 by autocast
    checkpointing: bool = True
    batch: int = 32
    padded: bool = False  # rows of unequal length need a mask, which is a square
    devices: int = 1
    sharded: bool = False
    rank: int | None = None
    quantized: bool = False
    on_cpu: bool = False

    @property
    def shards(self) -> int:
        """Devices that share weights, gradients and optimizer."""
        return self.devices if self.sharded else 1

    @property
    def accumulates(self) -> bool:
        """Whether gradients are there already when a pass begins."""
        return self.tokens // self.row * self.devices < self.batch

    @property
    def trained(self) -> float:
        """Parameters that are trained: all, or those of the adapters of all linear layers."""
        shape = self.shape
        if self.rank is None:
            return shape.parameters
        q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
        ends = 2 * (shape.hidden + q) + 2 * (shape.hidden + kv) + 3 * (shape.hidden + shape.inner)
        return self.rank * shape.layers * ends


def peak(run: Training) -> float:
    """Bytes of each device at the highest moment, without what CUDA itself takes."""
    return sum(parts(run).values())


def parts(run: Training) -> dict[str, float]:
    """The peak by what takes it: weights, gradients and optimizer, and what passes through."""
    held = 4 * run.trained / run.shards
    buckets = held if run.devices > 1 and not run.sharded else 0  # what is summed over the devices lies apart
    # AdamW makes the roots of all second moments at once; on a CPU those of one tensor, and what it divides by.
    step = 8 * run.shape.head if run.on_cpu and run.rank is None else held
    through = max(passes(run), held + step)
    own = {"process": PROCESS} if run.on_cpu else {}
    return own | {
        "weights": _weights(run),
        "optimizer": 2 * held,
        "buckets": buckets,
        "gradients and activations": through,
    }


def passes(run: Training) -> float:
    """Bytes beside weights and moments at the highest moment of the forward and backward passes."""
    return max(_forward(run), _loss_backward(run), _layer_backward(run))


def measuring(shape: Architecture, width: int, batch: int, row: float, devices: int) -> float:
    """Bytes of each device for bits per character: rows of so many tokens at once, a piece of the logits at a time.

    `width` are the bytes of a weight. Each device holds some of the layers.
    """
    logits = min(4 * CPU_TILES[0] * TILE_COLUMNS * TILE_ROWS, 8 * batch * row * shape.rows)
    return width * shape.parameters / devices + batch * row * width * 2 * (shape.hidden + shape.inner) + logits


def _weights(run: Training) -> float:
    """Of a sharded model also two layers whole, and the embedding and the head, which are whole all the time."""
    shape, width = run.shape, _width(run)
    whole = 4.0 * run.trained
    if run.rank is not None:
        whole += width * (shape.parameters - shape.linear) + (NF4 if run.quantized else width) * shape.linear
    ends = shape.head * (1 if shape.tied else 2)
    gathered = width * (2 * shape.linear / shape.layers + ends) if run.sharded else 0
    return whole / run.shards + gathered


def _forward(run: Training) -> float:
    """At its end: the copies in half precision that autocast remembers, what was kept, and the loss."""
    return _gradients(run) + _copies(run) + _kept(run) + _tile(run, CPU_TILES[0])


def _loss_backward(run: Training) -> float:
    shape = run.shape
    copies = 0 if run.checkpointing else _copies(run)
    of_head = 4 * shape.head if run.rank is None else 0
    loss = _tile(run, CPU_TILES[1]) + 4 * shape.hidden * run.tokens
    return _gradients(run) + copies + _kept(run) + of_head + loss


def _copies(run: Training) -> float:
    return 2 * run.shape.linear if run.half and not run.sharded and run.rank is None else 0


def _layer_backward(run: Training) -> float:
    """The last layer's if gradients accumulate; else whichever is more of what was kept and of the gradients so far.

    The head's gradient waits for that of an embedding that it is tied to.
    """
    shape = run.shape
    of_layers = 4 * min(run.trained, shape.linear) / run.shards
    head = 4 * shape.head / run.shards if run.rank is None else 0
    if run.accumulates:
        grown = _gradients(run) + _kept(run) + (head if shape.tied else 0)
    else:
        grown = max(of_layers, _kept(run)) + head
    layer = _layer(run) if run.checkpointing else 0
    whole = 4 * shape.linear / shape.layers if run.rank is None else 0
    passing = run.tokens * (_width(run) * 2 * shape.inner + 8 * shape.hidden)
    return grown + whole + layer + passing


def _gradients(run: Training) -> float:
    return 4 * run.trained / run.shards if run.accumulates else 0


def _kept(run: Training) -> float:
    """What the backward pass will read: of each layer its input, or everything; and the final norm's."""
    shape = run.shape
    each = _stream(run) * shape.hidden * run.tokens if run.checkpointing else _layer(run)
    return shape.layers * each + 8 * shape.hidden * run.tokens


def _layer(run: Training) -> float:
    """The tensors that one layer saves, with the copies of its matrices in half precision where they are made."""
    shape = run.shape
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    repeated = q if run.padded else kv  # with a mask, keys and values are repeated for each head
    width = _width(run)
    # Two norms: their input, it in float32, the normed one, and what the matrices read, which autocast copies for each.
    of_hidden = 24 if not run.half else 26 if _stream(run) == 4 else 20
    token = of_hidden * shape.hidden + width * (4 * shape.inner + 2 * q + 2 * repeated) + 4 * shape.heads
    mask = width * run.row if run.padded else 0
    return run.tokens * (token + mask)


def _tile(run: Training, copies: int) -> float:
    tile = min(run.tokens, TILE_ROWS) * min(run.shape.rows, TILE_COLUMNS)
    return tile * (_width(run) + (4 * copies if run.on_cpu else 0))


def _stream(run: Training) -> int:
    """Bytes of an entry of what layers hand on: sharding and frozen weights hold the model itself in half precision."""
    return _width(run) if run.sharded or run.rank is not None else 4


def _width(run: Training) -> int:
    return 2 if run.half else 4
