"""What each stage of a recipe costs that is missing and needed: tokens, operations, device-hours, memory, disk."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from micota.costs import accelerator_memory, fitting, flops, measurements, serving, shapes, trainings
from micota.costs.accelerators import Accelerator, find
from micota.costs.assumptions import BYTES_PER_ROW, BYTES_PER_TOKEN
from micota.costs.fitting import Misfit
from micota.costs.lengths import Lengths, Texts
from micota.costs.spans import NOTHING, Span, at_ends, known
from micota.machine import EngineConfig, MachineProfile
from micota.run.missing import look_ahead
from micota.specs import (
    Adapter,
    Bpc,
    Generate,
    LengthDial,
    Merge,
    MergeSearch,
    Model,
    OnPolicyDistillation,
    Pretrain,
    RejectionSampling,
    Spec,
    Train,
    walk,
)
from micota.store.artifacts import Store
from micota.training.gradients import SAMPLE

UTILISATION, WITH_ADAPTERS = 0.4, 0.3
"""Shares of the accelerator's rate that a training is assumed to reach."""
WIDTHS = {"bfloat16": 2, "float16": 2, "float32": 4}
HOUR = 3600


@dataclass(frozen=True)
class Estimate:
    """One stage. `word` is its state; spans are what is left to do, `hours` those of one device, all together.

    `memory` are bytes of each device, of training, generation and measuring; `scratch` is on the disk only while it
    runs. `basis` names the assumptions; `unknown` says why something could not be counted.
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
    unknown: str | None = None
    misfit: Misfit | None = field(default=None, compare=False)


class Costs:
    """The costs of what a recipe's targets still need on a machine; with `whole` of all of it, done or not."""

    def __init__(self, store: Store, machine: MachineProfile, targets: Iterable[Spec], whole: bool = False) -> None:
        self.machine, self._store, self._whole = machine, store, whole
        self.device: Accelerator = find(machine.hardware)
        targets = list(targets)
        self._specs = list(walk(*targets, asked=True))
        self._lengths = Lengths(store, self._specs)
        self._missing = look_ahead(store, targets).missing
        self._cores = machine.threads if self.device.is_cpu else 1

    @property
    def memory(self) -> float:
        """Bytes of a device; of a CPU those of this machine."""
        if not self.device.is_cpu:
            return self.device.memory
        import psutil

        return float(psutil.virtual_memory().total)

    def all(self) -> list[Estimate]:
        """Every stage, in the order of making."""
        return [self.of(spec) for spec in self._specs if not spec.made_elsewhere]

    def of(self, spec: Spec) -> Estimate:
        """One stage; those that take seconds of a CPU cost nothing."""
        if not (self._whole or spec.digest in self._missing):
            return Estimate(spec, "done" if self._store.manifest(spec) else "not needed")
        ways: dict[type[Spec], Callable[[Any], Estimate]] = {
            Generate: self._generate,
            RejectionSampling: self._rejection_sampling,
            MergeSearch: self._search,
            Train: self._train,
            OnPolicyDistillation: self._distill,
            Pretrain: self._pretrain,
            Bpc: self._bpc,
            Adapter: self._merge,
            Merge: self._merge,
            LengthDial: self._merge,
        }
        way = ways.get(type(spec))
        return way(spec) if way else Estimate(spec, "new")

    def _generate(self, spec: Generate) -> Estimate:
        share = 1.0 if self._whole else measurements.remaining_share(self._store, spec)
        texts = self._lengths.responses(spec)
        texts = replace(texts, number=texts.number * share)
        config = self.machine.engine(spec)
        one = self._serve(spec, spec.model, spec, texts, config)
        if not one.unknown and (rate := measurements.generation_rate(self._store, spec, self.machine.name)):
            devices = config.tensor_parallel * config.data_parallel if config.engine == "vllm" else self._cores
            devices *= config.ray.replicas if config.ray else 1
            hours = texts.written / rate / HOUR * devices
            one = replace(one, hours=hours, basis=(*texts.basis, "measured rate"))
        return replace(one, word="partial" if share < 1 else "new")

    def _rejection_sampling(self, spec: RejectionSampling) -> Estimate:
        """The rounds after the first, which ask only for problems without a verified response."""
        first, rounds = spec.completions, spec.at_most - 1
        texts, share = self._lengths.responses(first), self._lengths.correct_share(first, spec.by)
        again = Span(sum((1 - share.high) ** i for i in range(1, rounds + 1)), (1 - share.low) * rounds)
        texts = replace(texts, number=texts.number * again)
        return self._serve(spec, first.model, first, texts, self.machine.engine(first))

    def _search(self, spec: MergeSearch) -> Estimate:
        probe = spec.reference.completions
        return self._serve(spec, spec.base, probe, self._lengths.tried(spec), self.machine.engine(spec))

    def _serve(self, spec: Spec, model: Model, like: Generate, texts: Texts, config: EngineConfig) -> Estimate:
        """Texts of a model, written on an engine as a generation says."""
        disk = (texts.read + texts.written) * BYTES_PER_TOKEN + texts.number * BYTES_PER_ROW
        one = Estimate(spec, "new", texts.read, texts.written, disk=disk, basis=texts.basis)
        shape = shapes.shape(model)
        if shape is None:
            return replace(one, unknown=shapes.unknown(model))
        if config.engine in ("openai", "scripted"):
            return one
        width, end = WIDTHS[like.precision], texts.prompt.high + like.sampling.max_tokens
        run = serving.Serving(shape, width, config, self.device, self._cores, end)
        context = texts.prompt + texts.response / 2
        changes = fitting.serving_changes(run, "search" if isinstance(spec, MergeSearch) else "generate")
        return replace(
            one,
            flops=at_ends(partial(flops.forward, shape), texts.read + texts.written, context),
            hours=at_ends(run.seconds, texts.number, texts.prompt, texts.response) / HOUR,
            memory=run.needs,
            basis=(*texts.basis, "generation", *(() if run.vllm else ("batches",))),
            misfit=fitting.misfit(run.needs, run.room(self.memory), self.memory, changes),
        )

    def _train(self, spec: Train) -> Estimate:
        shape, texts = shapes.shape(spec.base), self._lengths.data(spec.data, spec.base)
        tokens, each = trainings.tokens(spec, texts)
        if shape is None:
            return Estimate(spec, "new", tokens, basis=texts.basis, unknown=shapes.unknown(spec.base))
        run = trainings.on_device(spec, self.machine.training(spec), shape, texts.longest, self.device.is_cpu)
        count, share = (flops.adapters, WITH_ADAPTERS) if spec.lora else (flops.training, UTILISATION)
        work = at_ends(partial(count, shape, checkpointing=run.checkpointing), tokens, each)
        hours, basis = work / (self.device.flops * share) / HOUR, (*texts.basis, "training")
        if rate := self._training_rate(spec):
            hours, basis = tokens / rate / HOUR * max(run.devices, self._cores), (*texts.basis, "measured rate")
        needs = accelerator_memory.peak(run)
        return Estimate(
            spec,
            "partial" if (self._store.work(spec) / "scratch" / "checkpoints").exists() else "new",
            read=tokens,
            flops=work,
            hours=hours,
            memory=needs,
            disk=known(shape.parameters * WIDTHS[spec.precision]),
            scratch=12
            * run.trained
            * self.machine.training(spec).keep_checkpoints,  # weights and both moments, in float32
            basis=basis,
            misfit=fitting.misfit(needs, self._room, self.memory, fitting.training_changes(run)),
        )

    def _distill(self, spec: OnPolicyDistillation) -> Estimate:
        """Answers of the model by transformers, a pass of the teacher over them, and a training on them."""
        texts, shape, teacher = self._lengths.distilled(spec), shapes.shape(spec.base), shapes.shape(spec.teacher)
        each = texts.prompt + texts.response
        one = Estimate(spec, "new", texts.number * each, texts.written * spec.on_policy, basis=texts.basis)
        if shape is None or teacher is None:
            return replace(one, unknown=shapes.unknown(spec.base if shape is None else spec.teacher))
        width, longest = WIDTHS[spec.precision], texts.prompt.high + spec.max_tokens
        run = trainings.on_device(spec, self.machine.training(spec), shape, longest, self.device.is_cpu)
        learning = at_ends(partial(flops.training, shape, checkpointing=run.checkpointing), one.read, each)
        work = learning + at_ends(partial(flops.forward, teacher), one.read, each)
        batch = EngineConfig(batch=max(1, spec.batch // run.devices))
        served = serving.Serving(shape, width, batch, self.device, self._cores, longest)
        hours = at_ends(served.seconds, texts.number * spec.on_policy, texts.prompt, texts.response)
        needs = accelerator_memory.peak(run) + width * teacher.parameters / run.shards
        return replace(
            one,
            flops=work,
            hours=hours / HOUR + work / (self.device.flops * UTILISATION) / HOUR,
            memory=needs,
            disk=known(shape.parameters * width),
            scratch=12 * run.trained * self.machine.training(spec).keep_checkpoints,
            basis=(*texts.basis, "training", "generation", "batches"),
            misfit=fitting.misfit(needs, self._room, self.memory, ()),
        )

    @property
    def _room(self) -> float:
        return self.memory if self.device.is_cpu else self.memory - accelerator_memory.RESERVED

    def _training_rate(self, spec: Train) -> float | None:
        """Tokens a second of a finished training of an equal model on this machine profile."""
        for other in self._specs:
            if isinstance(other, Train) and (done := self._store.manifest(other)):
                equal = other.lora == spec.lora and shapes.shape(other.base) == shapes.shape(spec.base)
                if equal and (rate := measurements.training_rate(done, self.machine.name)):
                    return rate
        return None

    def _pretrain(self, spec: Pretrain) -> Estimate:
        shape = shapes.shape(spec)
        documents = sum(phase.steps * phase.batch for phase in spec.phases)
        tokens = Span(documents * spec.window / 8, documents * spec.window)
        if shape is None:
            return Estimate(spec, "new", tokens, unknown=shapes.unknown(spec))
        work = tokens * flops.training(shape, 1, spec.window / 2, checkpointing=False, fused=False)
        hours, disk = work / (self.device.flops * UTILISATION) / HOUR, known(4 * shape.parameters)
        return Estimate(spec, "new", tokens, flops=work, hours=hours, disk=disk, basis=("training",))

    def _bpc(self, spec: Bpc) -> Estimate:
        shape, texts = shapes.shape(spec.model), self._lengths.data(spec.data, spec.model)
        one = Estimate(spec, "new", texts.read + texts.written, disk=texts.number * BYTES_PER_ROW, basis=texts.basis)
        if shape is None:
            return replace(one, unknown=shapes.unknown(spec.model))
        row = texts.prompt + texts.response
        work = at_ends(partial(flops.forward, shape), texts.number * row, row)
        if spec.gradient:
            each = texts.number.at_most(SAMPLE) * row * 2
            work += at_ends(partial(flops.training, shape, checkpointing=False), each, row)
        width, batch, devices = WIDTHS[spec.precision], self.machine.bpc.batch, self.machine.bpc.devices
        longest_row = min(texts.longest, shape.context or math.inf)
        needs = accelerator_memory.measuring(shape, width, batch, longest_row, devices)
        changes = fitting.measuring_changes(shape, width, batch, longest_row, devices, self.device.is_cpu)
        return replace(
            one,
            flops=work,
            hours=work / (self.device.flops * serving.COMPUTE) / HOUR,
            memory=needs,
            basis=(*texts.basis, "generation"),
            misfit=fitting.misfit(needs, self._room, self.memory, changes),
        )

    def _merge(self, spec: Adapter | Merge | LengthDial) -> Estimate:
        """A merge runs on the CPU, in two or three times the time of a copy: only its disk counts."""
        shape = shapes.shape(spec)
        if shape is None:
            return Estimate(spec, "new", unknown=shapes.unknown(spec))
        return Estimate(spec, "new", disk=known(shapes.bytes_per_weight(spec) * shape.parameters))
