"""What does not fit into a device, and the smallest change that would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from micota.architectures import Architecture
from micota.costs import accelerator_memory as memory
from micota.costs.accelerator_memory import CPU_TILES, RESERVED, TILE_COLUMNS, TILE_ROWS, Training
from micota.costs.serving import Serving

MORE = (2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Misfit:
    """Bytes that a stage needs on each device and those there are; what to type, and what it needs then.

    Without a `fix`, `then` is the least that it can do with, by what `least_by` says.
    """

    needs: float
    has: float
    fix: str | None
    then: float
    least_by: str = ""


def training(run: Training, micro: int, has: float) -> Misfit | None:
    """None if it fits."""
    room = has if run.on_cpu else has - RESERVED
    if (needs := memory.peak(run)) <= room:
        return None
    then = needs
    for words, other in _lighter(run, micro):
        if (then := memory.peak(other)) <= room:
            return Misfit(needs, has, words, then)
    return Misfit(needs, has, None, then)


def _lighter(run: Training, micro: int) -> Iterator[tuple[str, Training]]:
    """Changes from the smallest on: one of the profile, several, more devices, then the recipe."""
    keep: list[str] = []
    if not run.checkpointing:
        keep, run = ["activation_checkpointing: true"], replace(run, checkpointing=True)
        yield _profile(keep), run
    fewer = [size for size in (64, 32, 16, 8, 4, 2, 1) if size < micro]
    for size in fewer:
        yield _profile([*keep, f"micro_batch: {size}"]), _with_micro(run, size)
    if fewer:
        keep, run = [*keep, "micro_batch: 1"], _with_micro(run, 1)
    for number in (run.devices, *MORE) if not run.on_cpu else ():
        if number > 1 and number >= run.devices and not (run.sharded and number == run.devices):
            devices = [] if number == run.devices else [f"devices: {number}"]
            yield _profile([*keep, "sharding: fsdp", *devices]), replace(run, sharded=True, devices=number)
    if not run.on_cpu:
        yield from _smaller_recipes(run, keep)


def _smaller_recipes(run: Training, keep: list[str]) -> Iterator[tuple[str, Training]]:
    beside = f", and {_profile(keep)}" if keep else ""
    if run.rank is None:
        run = replace(run, rank=16)
        yield f"lora: {{rank: 16}} in the recipe's train{beside}", run
    if not run.quantized:
        run = replace(run, quantized=True)
        yield f"lora: {{rank: 16, quantize: nf4}} in the recipe's train{beside}", run
    row = run.row
    while row > 1024:
        row //= 2
        yield (
            f"cutoff: {row} with lora: {{rank: 16, quantize: nf4}} in the recipe{beside}",
            replace(run, row=row, tokens=run.tokens * row // run.row),
        )


def _profile(changes: list[str]) -> str:
    return f"train: {{{', '.join(changes)}}} in the machine profile"


def _with_micro(run: Training, size: int) -> Training:
    return replace(run, tokens=run.row * size, padded=size > 1 and run.padded)


def serving(run: Serving, has: float, kind: str) -> Misfit | None:
    """The same for generation: a smaller batch, vllm, and more devices that share the model."""
    if run.least <= run.room(has):
        return None
    least = run.least
    for words, other in _served(run):
        least = min(least, other.least)
        if other.least <= other.room(has):
            return Misfit(run.least, has, f"{kind}: {{{words}}} in the machine profile", other.least)
    return Misfit(run.least, has, None, least)


def _served(run: Serving) -> Iterator[tuple[str, Serving]]:
    place = run.place
    if not run.grows:
        size = place.batch
        while size > 1:
            size //= 2
            yield f"batch: {size}", replace(run, place=place.model_copy(update={"batch": size}))
    if run.device.is_cpu:
        return
    for number in (1, *MORE[:4]):
        if (run.grows and number <= place.tensor_parallel) or run.shape.heads % number:
            continue
        words = f"tensor_parallel: {number}" if run.grows else f"engine: vllm, tensor_parallel: {number}"
        changed = {"engine": "vllm", "tensor_parallel": number}
        yield words, replace(run, place=place.model_copy(update=changed))


def measuring(
    shape: Architecture, width: int, batch: int, row: float, has: float, on_cpu: bool, devices: int = 1
) -> tuple[float, Misfit | None]:
    """Bytes on a device that a measurement of bits per character takes, a piece of the logits at a time; if they fit.

    Of several devices each holds some of the layers.
    """
    room = has if on_cpu else has - RESERVED
    tile = 4 * CPU_TILES[0] * TILE_COLUMNS * TILE_ROWS

    def needs(rows: int, over: int = devices) -> float:
        passing = width * 2 * (shape.hidden + shape.inner)
        return width * shape.parameters / over + rows * row * passing + min(tile, rows * row * shape.rows * 8)

    if needs(batch) <= room:
        return needs(batch), None
    halves = [batch >> i for i in range(1, batch.bit_length())]
    more = [number for number in MORE[:4] if number > devices and not on_cpu]
    lighter = [(f"bpc: {{batch: {size}}}", needs(size)) for size in halves]
    lighter += [(f"bpc: {{batch: 1, devices: {number}}}", needs(1, number)) for number in more]
    fits = next(((words, then) for words, then in lighter if then <= room), None)
    if fits:
        return needs(batch), Misfit(needs(batch), has, f"{fits[0]} in the machine profile", fits[1])
    least = min(lighter, key=lambda one: one[1], default=("", needs(batch)))
    return needs(batch), Misfit(needs(batch), has, None, least[1], least[0])
