"""What `micota plan --cost` prints: each stage once with what it still costs, the totals, and what was assumed."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from micota.costs.accelerator_memory import RESERVED
from micota.costs.accelerators import ACCELERATORS
from micota.costs.assumptions import WORDS
from micota.costs.estimates import Costs, Estimate
from micota.costs.spans import Span, total
from micota.errors import MicotaError
from micota.machine import MachineProfile
from micota.recipe.labels import labels, name
from micota.recipe.recipe import Recipe
from micota.specs import Bpc, Generate, Spec, walk
from micota.store.artifacts import Store

FREE = ("problems", "rows", "verify", "select", "mix")
"""Kinds that take seconds of a CPU: they are counted, not listed."""
COLOURS = {"done": "green", "partial": "yellow", "new": "cyan", "not needed": "dim"}
OWNER = re.compile(r"(?<==)[\w.-]+/")
"""Whose a model is, where a name holds a variable's value."""
UNITS = ("", "k", "M", "G", "T", "P", "E", "Z", "Y")


@dataclass(frozen=True)
class Line:
    """A row of the table: one stage, or all evaluations, or all measurements, of one model."""

    label: str
    stages: tuple[Estimate, ...]

    @property
    def word(self) -> str:
        """The state: that of its stages, or partial if they differ."""
        words = {one.word for one in self.stages}
        return words.pop() if len(words) == 1 else "partial"

    def sum(self, field: str) -> Span:
        """The total of a field of its stages."""
        return total(getattr(one, field) for one in self.stages)

    @property
    def memory(self) -> float:
        """Bytes of a device for the stage that needs most; nan if no stage needs a device."""
        return max((one.memory for one in self.stages if not math.isnan(one.memory)), default=math.nan)


def show(console: Console, recipe: Recipe, store: Store, machine: MachineProfile, targets: Sequence[Spec]) -> None:
    """Print the table. Raises MicotaError after it, if a stage would run out of memory."""
    costs = Costs(store, machine, targets)
    estimates = costs.all()
    rows = lines(recipe, [one for one in estimates if one.spec.kind not in FREE])
    console.print(_table(costs, rows, uses(recipe, targets)))
    for remark in _remarks(costs, estimates):
        console.print(escape(remark), soft_wrap=True, highlight=False)
    if misfits := [one for one in estimates if one.misfit]:
        raise _refusal(costs, misfits, labels(recipe))


def lines(recipe: Recipe, estimates: Iterable[Estimate]) -> list[Line]:
    """The rows of the table; a model's evaluations share one, and so do its measurements."""
    names = labels(recipe)
    models = {one.spec.completions.digest: one.model for one in recipe.evaluations}
    groups: dict[tuple[str, str], list[Estimate]] = defaultdict(list)
    for one in estimates:
        spec = one.spec
        if isinstance(spec, Generate) and spec.digest in models:
            groups["evaluate", models[spec.digest]].append(one)
        elif isinstance(spec, Bpc):
            groups["bpc", name(names, spec.model)].append(one)
        else:
            groups[spec.digest, name(names, spec)].append(one)
    return [Line(_label(kind, label, len(stages)), tuple(stages)) for (kind, label), stages in groups.items()]


def _label(kind: str, label: str, count: int) -> str:
    """`strong on 5 sets` for evaluations, `4 sets under R1` for measurements, else the stage's own name."""
    sets = f"{count} set{'s' * (count > 1)}"
    label = OWNER.sub("", label)
    return f"{label} on {sets}" if kind == "evaluate" else f"{sets} under {label}" if kind == "bpc" else label


def uses(recipe: Recipe, targets: Sequence[Spec]) -> Counter[str]:
    """How many of the recipe's arms and other evaluated models need each stage, by digest."""
    wanted = {spec.digest for spec in walk(*targets, asked=True)}
    roots: dict[str, list[Spec]] = defaultdict(list)
    for one in recipe.evaluations:
        roots[one.model].append(one.spec)
    for label, spec in recipe.names.items():
        if recipe.is_arm(label):
            roots[label].append(spec)
    counts: Counter[str] = Counter()
    for specs in roots.values():
        counts.update({spec.digest for spec in walk(*specs, asked=True)} & wanted)
    return counts


def _table(costs: Costs, rows: list[Line], counts: Counter[str]) -> Table:
    price = costs.machine.price
    table = Table("state", "kind", "name", box=None, pad_edge=False)
    hours = "core-hours" if costs.device.is_cpu else "GPU-hours"
    heads = ("models", "tokens in", "tokens out", "FLOP", hours, "GiB each", "disk", *(["money"] if price else []))
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for line in rows:
        count = max(counts[one.spec.digest] for one in line.stages)
        state = f"[{COLOURS[line.word]}]{line.word}[/]"
        cells = _cells(line, price)
        table.add_row(state, line.stages[0].spec.kind, escape(line.label), str(count or ""), *cells)
    everything = Line("total", tuple(one for line in rows for one in line.stages))
    scratch = max((one.scratch for one in everything.stages), default=0.0)
    table.add_row("", "", "total", "", *_cells(everything, price, scratch), style="bold")
    return table


def _cells(line: Line, price: float | None, scratch: float = 0.0) -> list[str]:
    memory = "" if math.isnan(line.memory) else f"{line.memory / 2**30:,.1f}"
    hours = line.sum("hours")
    return [
        amount(line.sum("read")),
        amount(line.sum("written")),
        amount(line.sum("flops")),
        _whole(hours),
        f"[red]{memory}[/]" if any(one.misfit for one in line.stages) else memory,
        amount(line.sum("disk") + Span(scratch, scratch), "B"),
        *([_whole(hours * price)] if price else []),
    ]


def amount(span: Span, unit: str = "") -> str:
    """`36–96 M`: both ends in the unit that suits the higher one."""
    if not span.high:
        return ""
    step = min(len(UNITS) - 1, max(0, int(math.log10(span.high)) // 3))
    low, high = (f"{end / 1000**step:.3g}" for end in (span.low, span.high))
    return f"{high if low == high else f'{low}–{high}'} {UNITS[step]}{unit}".rstrip()


def _whole(span: Span) -> str:
    if not span.high:
        return ""
    low, high = (f"{end:,.0f}" if span.high >= 10 else f"{end:.2g}" for end in (span.low, span.high))
    return high if low == high else f"{low}–{high}"


def _remarks(costs: Costs, estimates: list[Estimate]) -> Iterable[str]:
    """The device, the counts of what costs next to nothing, and each assumption that a figure rests on."""
    device, machine = costs.device, costs.machine
    count = f"{machine.threads} threads of a CPU, each " if device.is_cpu else f"{device.name}, "
    rates = f"{device.flops / 1e12:,g} TFLOP/s, {device.bandwidth / 1e9:,g} GB/s"
    price = f", {machine.price:g} an hour" if machine.price else ""
    yield f"machine {machine.name}: {count}{rates}, {costs.memory / 2**30:,.0f} GiB{price}"
    free = Counter(one.spec.kind for one in estimates if one.spec.kind in FREE and one.word in ("new", "partial"))
    if free:
        yield "on a CPU, in seconds: " + ", ".join(f"{n} {kind}" for kind, n in free.items())
    if scratch := max((one.scratch for one in estimates), default=0.0):
        yield f"the total of the disk includes {amount(Span(scratch, scratch), 'B')} of checkpoints during training"
    used = {word for one in estimates for word in one.basis}
    for word, text in WORDS.items():
        if word in used:
            yield f"{word}: {text}" if word.startswith("measured") else f"assumed, {word}: {text}"
    yield from dict.fromkeys(f"not counted: {one.unknown}" for one in estimates if one.unknown)


def _refusal(costs: Costs, misfits: list[Estimate], names: dict[str, str]) -> MicotaError:
    """Of each kind of stage the one that needs most, and the smallest change with which it fits."""
    kinds = dict.fromkeys(one.spec.kind for one in misfits)
    worst = [max((m for m in misfits if m.spec.kind == kind), key=lambda one: one.memory) for kind in kinds]
    count = len(misfits) - len(worst)
    return MicotaError(
        "; ".join(_needs(costs, one, names) for one in worst),
        where=f"machine profile '{costs.machine.name}': {', '.join(kinds)}",
        why=f"{count} other stages of these kinds do not fit either" if count else None,
        fix="; ".join(dict.fromkeys(_change(costs, one, names) for one in worst)),
    )


def _needs(costs: Costs, one: Estimate, names: dict[str, str]) -> str:
    assert one.misfit is not None
    needs, has = one.misfit.needs / 2**30, one.misfit.has / 2**30
    device = "this machine has" if costs.device.is_cpu else f"each {costs.device.name} has"
    return f"{one.spec.kind} {name(names, one.spec)} needs {needs:,.1f} GiB, {device} {has:,.0f}"


def _change(costs: Costs, one: Estimate, names: dict[str, str]) -> str:
    misfit = one.misfit
    assert misfit is not None
    needs = f"{name(names, one.spec)} needs {misfit.then / 2**30:,.1f} GiB"
    if misfit.fix:
        return f"{misfit.fix} (then {needs})"
    if costs.device.is_cpu:
        return "name an accelerator in the machine profile, as in `hardware: H100`"
    larger = sorted((card.memory, card.name) for card in ACCELERATORS.values() if card.memory - RESERVED >= misfit.then)
    card = f"`hardware: {larger[0][1]}`" if larger else f"an accelerator of {misfit.then / 2**30:,.0f} GiB"
    place = f"and {misfit.least_by}" if misfit.least_by else "in the machine profile"
    return f"{card} {place}: {needs} at least"
