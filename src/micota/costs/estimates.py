"""What each stage of a recipe costs that is missing and needed: tokens, operations, device-hours, memory, disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from micota.costs import accelerator_memory as memory
from micota.costs import fitting, flops, serving, shapes, trainings
from micota.costs import measurements as measured
from micota.costs.accelerators import Accelerator, find
from micota.costs.assumptions import BYTES_OF_A_TOKEN
from micota.costs.fitting import Misfit
from micota.costs.lengths import Lengths, Texts
from micota.costs.spans import NOTHING, Span, known
from micota.machine import EngineConfig, GenerateConfig, MachineProfile
from micota.run.missing import look_ahead
from micota.specs import (
    Bpc,
    Generate,
    LengthDial,
    Merge,
    MergeSearch,
    Pretrain,
    RejectionSampling,
    Source,
    Spec,
    Train,
    walk,
)
from micota.store.artifacts import Store

UTILISATION = 0.4
WITH_ADAPTERS = 0.3
"""Shares of the accelerator's rate that a training is assumed to reach."""
ROW = 200
"""Bytes of a row beside its text."""
WIDTHS = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Estimate:
    """One stage. Spans are what is left to do; `hours` are of one device, all devices together.

    `memory` are bytes of each device, of training or of generation; `scratch` is on the disk only while it runs.
    """

    spec: Spec
    word: str
    read: Span = NOTHING
    written: Span = NOTHING
    flops: Span = NOTHING
    hours: Span = NOTHING
    memory: float = math.nan
    disk: Span = NOTHING
    scratch: float = 0.0
    basis: tuple[str, ...] = ()
    missing: str | None = None
    misfit: Misfit | None = field(default=None, compare=False)


class Costs:
    """The costs of what a recipe's targets still need on a machine."""

    def __init__(self, store: Store, machine: MachineProfile, targets: Iterable[Spec]) -> None:
        self.machine, self._store = machine, store
        self.device: Accelerator = find(machine.hardware)
        targets = list(targets)
        self._specs = list(walk(*targets, asked=True))
        self._lengths = Lengths(store, self._specs)
        self._missing = look_ahead(store, targets).missing

    @property
    def memory(self) -> float:
        """Bytes of a device; of a CPU those of this machine."""
        if not self.device.is_cpu:
            return self.device.memory
        import psutil

        return float(psutil.virtual_memory().total)

    def all(self) -> list[Estimate]:
        """Every stage, in the order of making."""
        return [self.of(spec) for spec in self._specs if not isinstance(spec, Source)]

    def of(self, spec: Spec) -> Estimate:
        if spec.digest not in self._missing:
            return Estimate(spec, "done" if self._store.manifest(spec) else "not needed")
        ways: dict[type[Spec], Callable[[Any], Estimate]] = {
            Generate: self._generate,
            RejectionSampling: self._redraw,
            MergeSearch: self._search,
            Train: self._train,
            Pretrain: self._pretrain,
            Bpc: self._bpc,
            Merge: self._merge,
            LengthDial: self._merge,
        }
        way = ways.get(type(spec))
        return way(spec) if way else Estimate(spec, "new")

    def _cores(self) -> int:
        return self.machine.threads if self.device.is_cpu else 1

    def _generate(self, spec: Generate) -> Estimate:
        left = measured.left(self._store, spec)
        texts = self._lengths.answers(spec)
        owing = replace(texts, number=texts.number * left)
        made = self._served(spec, spec, owing, self.machine.engine(spec))
        seen = self._lengths.seen(spec)
        if seen and seen.rate and not made.missing:
            hours = owing.written / seen.rate / 3600 * self._devices(spec)
            made = replace(made, hours=hours, basis=(*made.basis, "measured rate"))
        return replace(made, word="partial" if left < 1 else "new")

    def _devices(self, spec: Generate) -> int:
        place = self.machine.engine(spec)
        copy = place.tensor_parallel * place.data_parallel if place.engine == "vllm" else self._cores()
        return copy * place.processes if isinstance(place, GenerateConfig) else copy

    def _redraw(self, spec: RejectionSampling) -> Estimate:
        """The rounds after the first, which asks only for problems without a verified answer."""
        texts = self._lengths.answers(spec.completions)
        share = self._lengths.share(spec.completions, spec.by)
        rounds = spec.at_most - 1
        again = Span(sum((1 - share.high) ** i for i in range(1, rounds + 1)), (1 - share.low) * rounds)
        rest = replace(texts, number=texts.number * again)
        return self._served(spec, spec.completions, rest, self.machine.engine(spec.completions))

    def _search(self, spec: MergeSearch) -> Estimate:
        made = self._served(spec, spec.reference.completions, self._lengths.tried(spec), self.machine.engine(spec))
        return replace(made, basis=("dialled", *made.basis))

    def _served(self, spec: Spec, asked: Generate, texts: Texts, place: EngineConfig) -> Estimate:
        """Answers of a model at a place."""
        disk = (texts.read + texts.written) * BYTES_OF_A_TOKEN + texts.number * ROW
        made = Estimate(spec, "new", texts.read, texts.written, disk=disk, basis=texts.basis)
        model = spec.base if isinstance(spec, MergeSearch) else asked.model
        shape = shapes.shape(model)
        if place.engine in ("openai", "scripted") or shape is None:
            return replace(made, missing=shapes.missing(model) if shape is None else None)
        longest = texts.prompt.high + asked.sampling.max_tokens
        run = serving.Serving(shape, WIDTHS[asked.precision], place, self.device, self._cores(), longest)
        basis = (*texts.basis, "generation", *(() if run.grows else ("batches",)))
        context = texts.prompt + texts.response / 2
        work = _ends(lambda n, one: flops.forward(shape, n, one), texts.read + texts.written, context)
        hours = run.seconds(texts.number, texts.prompt, texts.response) / 3600
        misfit = fitting.serving(run, self.memory, spec.kind)
        return replace(made, flops=work, hours=hours, memory=run.least, basis=basis, misfit=misfit)

    def _train(self, spec: Train) -> Estimate:
        shape = shapes.shape(spec.base)
        texts = self._lengths.data(spec.data)
        tokens, each = trainings.tokens(spec, texts)
        if shape is None:
            return Estimate(spec, "new", tokens, basis=texts.basis, missing=shapes.missing(spec.base))
        place = self.machine.train
        run, micro = trainings.run(spec, place, shape, self.device.is_cpu)
        count, share = (flops.adapters, WITH_ADAPTERS) if spec.lora else (flops.training, UTILISATION)
        work = _ends(lambda n, one: count(shape, n, one, checkpointing=run.checkpointing, fused=True), tokens, each)
        hours, basis = work / (self.device.flops * share) / 3600, (*texts.basis, "training")
        if rate := self._learnt_per_second(spec):
            hours, basis = tokens / rate / 3600 * max(run.devices, self._cores()), (*texts.basis, "measured rate")
        return Estimate(
            spec,
            "partial" if (self._store.work(spec) / "scratch" / "checkpoints").exists() else "new",
            read=tokens,
            flops=work,
            hours=hours,
            memory=memory.peak(run),
            disk=known(shape.parameters * WIDTHS[spec.precision]),
            scratch=12 * run.trained * place.keep_checkpoints,  # weights and both moments, in float32
            basis=basis,
            misfit=fitting.training(run, micro, self.memory),
        )

    def _learnt_per_second(self, spec: Train) -> float | None:
        """Tokens in a second of a finished training of such a model on this machine profile."""
        for other in self._specs:
            done = self._store.manifest(other) if isinstance(other, Train) else None
            if not done or not isinstance(other, Train) or other.lora != spec.lora:
                continue
            if shapes.shape(other.base) != shapes.shape(spec.base):
                continue
            facts, made = done.facts, done.made
            if made.get("machine") == self.machine.name and made.get("seconds", 0) > 1 and facts.get("target_tokens"):
                epochs = facts["learnt_tokens"] / facts["target_tokens"]
                return float(facts["tokens"] * epochs / made["seconds"])
        return None

    def _pretrain(self, spec: Pretrain) -> Estimate:
        shape = shapes.shape(spec)
        documents = sum(phase.steps * phase.batch for phase in spec.phases)
        tokens = Span(documents * spec.window / 8, documents * spec.window)
        if shape is None:
            return Estimate(spec, "new", tokens, missing=shapes.missing(spec))
        work = tokens * (flops.training(shape, 1, spec.window / 2, checkpointing=False, fused=False))
        hours = work / (self.device.flops * UTILISATION) / 3600
        return Estimate(
            spec, "new", tokens, NOTHING, work, hours, disk=known(4 * shape.parameters), basis=("training",)
        )

    def _bpc(self, spec: Bpc) -> Estimate:
        shape = shapes.shape(spec.model)
        texts = self._lengths.data(spec.data)
        made = Estimate(spec, "new", texts.whole, disk=texts.number * ROW, basis=texts.basis)
        if shape is None:
            return replace(made, missing=shapes.missing(spec.model))
        work = _ends(lambda n, one: flops.forward(shape, n * one, one), texts.number, texts.prompt + texts.response)
        hours = work / (self.device.flops * serving.COMPUTE) / 3600
        place, width, on_cpu = self.machine.bpc, WIDTHS[spec.precision], self.device.is_cpu
        longest = min(trainings.longest(spec.data), shape.context or math.inf)
        least, misfit = fitting.measuring(shape, width, place.batch, longest, self.memory, on_cpu, place.devices)
        basis = (*texts.basis, "generation")
        return replace(made, flops=work, hours=hours, memory=least, basis=basis, misfit=misfit)

    def _merge(self, spec: Merge | LengthDial) -> Estimate:
        """A merge runs on the CPU, in two or three times the time of a copy: only its disk counts."""
        shape = shapes.shape(spec)
        if shape is None:
            return Estimate(spec, "new", missing=shapes.missing(spec))
        return Estimate(spec, "new", disk=known(shapes.width(spec) * shape.parameters))


def _ends(count: Callable[[float, float], float], number: Span, each: Span) -> Span:
    """A count at both ends of its two arguments."""
    return Span(count(number.low, each.low), count(number.high, each.high))
