"""What does not fit into a device, and the smallest change that would."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from micota.architectures import Architecture
from micota.costs.accelerator_memory import Training, measuring, peak
from micota.costs.serving import Serving

MORE = (2, 4, 8, 16, 32, 64, 128)
"""Numbers of devices that are tried."""
Change = tuple[str, float]
"""What to type, and the bytes of each device that are needed then."""


@dataclass(frozen=True)
class Misfit:
    """Bytes that a stage needs on each device and those there are; what to type, and what it needs then.

    Without a `fix`, `then` is the least that it can do with, by the change `least_by`.
    """

    needs: float
    has: float
    fix: str | None
    then: float
    least_by: str = ""


def misfit(needs: float, room: float, has: float, changes: Iterable[Change]) -> Misfit | None:
    """None if it fits into the `room` of a device that `has` so much; else the first of the changes that helps."""
    if needs <= room:
        return None
    least: Change = ("", needs)
    for change in changes:
        if change[1] <= room:
            return Misfit(needs, has, *change)
        least = min(least, change, key=lambda one: one[1])
    return Misfit(needs, has, None, least[1], least[0])


def training_changes(run: Training) -> Iterator[Change]:
    """From the smallest on: one of the profile, several, more devices, then the recipe."""
    profile: list[str] = []
    if not run.checkpointing:
        profile, run = ["activation_checkpointing: true"], replace(run, checkpointing=True)
        yield _in_profile("train", profile), peak(run)
    fewer = [size for size in (64, 32, 16, 8, 4, 2, 1) if size < run.tokens // run.row]
    for size in fewer:
        run = replace(run, tokens=run.row * size, padded=size > 1 and run.padded)
        yield _in_profile("train", [*profile, f"micro_batch: {size}"]), peak(run)
    profile += ["micro_batch: 1"] if fewer else []
    if run.on_cpu:
        return
    for number in (run.devices, *MORE):
        if number > 1 and number >= run.devices and not (run.sharded and number == run.devices):
            devices = [] if number == run.devices else [f"devices: {number}"]
            words = _in_profile("train", [*profile, "sharding: fsdp", *devices])
            yield words, peak(replace(run, sharded=True, devices=number))
    yield from _recipe_changes(run, f", and {_in_profile('train', profile)}" if profile else "")


def _recipe_changes(run: Training, beside: str) -> Iterator[Change]:
    if run.rank is None:
        run = replace(run, rank=16)
        yield f"lora: {{rank: 16}} in the recipe's train{beside}", peak(run)
    run = replace(run, quantized=True)
    yield f"lora: {{rank: 16, quantize: nf4}} in the recipe's train{beside}", peak(run)
    while run.row > 1024:
        run = replace(run, row=run.row // 2, tokens=run.tokens // 2)
        yield f"cutoff: {run.row} with lora: {{rank: 16, quantize: nf4}} in the recipe{beside}", peak(run)


def serving_changes(run: Serving, kind: str) -> Iterator[Change]:
    """A smaller batch, vllm, and more devices that share the model."""
    config, size = run.config, 1 if run.vllm else run.config.batch
    while size > 1:
        size //= 2
        smaller = config.model_copy(update={"batch": size})
        yield _in_profile(kind, [f"batch: {size}"]), replace(run, config=smaller).needs
    for number in (1, *MORE[:4]) if not run.device.is_cpu else ():
        if run.shape.heads % number == 0 and not (run.vllm and number <= config.tensor_parallel):
            engine = [] if run.vllm else ["engine: vllm"]
            shared = config.model_copy(update={"engine": "vllm", "tensor_parallel": number})
            yield _in_profile(kind, [*engine, f"tensor_parallel: {number}"]), replace(run, config=shared).needs


def measuring_changes(
    shape: Architecture, width: int, batch: int, row: float, devices: int, on_cpu: bool
) -> Iterator[Change]:
    """For bits per character: a smaller batch, then more devices that share the layers."""
    while batch > 1:
        batch //= 2
        yield _in_profile("bpc", [f"batch: {batch}"]), measuring(shape, width, batch, row, devices)
    for number in MORE[:4]:
        if number > devices and not on_cpu:
            words = _in_profile("bpc", ["batch: 1", f"devices: {number}"])
            yield words, measuring(shape, width, 1, row, number)


def _in_profile(kind: str, changes: list[str]) -> str:
    return f"{kind}: {{{', '.join(changes)}}} in the machine profile"
