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
        words = {one.word for one in self.stages}
        return words.pop() if len(words) == 1 else "partial"

    def sum(self, field: str) -> Span:
        return total(getattr(one, field) for one in self.stages)

    @property
    def memory(self) -> float:
        return _most(one.memory for one in self.stages)


def show(console: Console, recipe: Recipe, store: Store, machine: MachineProfile, targets: Sequence[Spec]) -> None:
    """Print the table; raises MicotaError, after it, if a stage does not fit into a device."""
    costs = Costs(store, machine, targets)
    found = costs.all()
    lines = _lines(recipe, [one for one in found if one.spec.kind not in FREE])
    console.print(_table(costs, lines, _uses(recipe, targets)))
    _remarks(console, costs, found)
    if misfits := [one for one in found if one.misfit]:
        raise _refusal(costs, misfits, labels(recipe))


def _lines(recipe: Recipe, found: Iterable[Estimate]) -> list[Line]:
    names = labels(recipe)
    evaluated = {one.spec.completions.digest: one for one in recipe.evaluations}
    groups: dict[tuple[str, str], list[Estimate]] = defaultdict(list)
    for one in found:
        spec = one.spec
        if isinstance(spec, Generate) and spec.digest in evaluated:
            groups["evaluate", evaluated[spec.digest].model].append(one)
        elif isinstance(spec, Bpc):
            groups["bpc", name(names, spec.model)].append(one)
        else:
            groups[spec.digest, name(names, spec)].append(one)
    return [Line(_label(kind, label, len(stages)), tuple(stages)) for (kind, label), stages in groups.items()]


def _label(kind: str, label: str, count: int) -> str:
    """`strong on 5 sets` for evaluations, `R1 under 4 sets` for measurements, else the stage's own name."""
    sets = f"{count} set{'s' * (count > 1)}"
    label = OWNER.sub("", label)
    return f"{label} on {sets}" if kind == "evaluate" else f"{sets} under {label}" if kind == "bpc" else label


def _uses(recipe: Recipe, targets: Sequence[Spec]) -> Counter[str]:
    """How many of the recipe's arms and other evaluated models need each stage."""
    wanted = {spec.digest for spec in walk(*targets, asked=True)}
    roots: dict[str, list[Spec]] = defaultdict(list)
    for one in recipe.evaluations:
        roots[one.model].append(one.spec)
    for label, spec in recipe.names.items():
        if label.partition("[")[0] in recipe.titles:
            roots[label].append(spec)
    found: Counter[str] = Counter()
    for specs in roots.values():
        found.update({spec.digest for spec in walk(*specs, asked=True)} & wanted)
    return found


def _table(costs: Costs, lines: list[Line], uses: Counter[str]) -> Table:
    price = costs.machine.price
    table = Table(box=None, pad_edge=False)
    unit = "core-hours" if costs.device.is_cpu else "GPU-hours"
    for head in ("state", "kind", "name"):
        table.add_column(head)
    for head in ("models", "tokens in", "tokens out", "FLOP", unit, "GiB each", "disk", *(["money"] if price else [])):
        table.add_column(head, justify="right", no_wrap=True)
    for line in lines:
        first = line.stages[0].spec
        count = max(uses[one.spec.digest] for one in line.stages)
        words = (f"[{COLOURS[line.word]}]{line.word}[/]", first.kind, escape(line.label), str(count or ""))
        table.add_row(*words, *_cells(line, price))
    everything = Line("total", tuple(one for line in lines for one in line.stages))
    scratch = max((one.scratch for one in everything.stages), default=0.0)
    table.add_row("", "", "total", "", *_cells(everything, price, scratch), style="bold")
    return table


def _cells(line: Line, price: float | None, scratch: float = 0.0) -> list[str]:
    hours = line.sum("hours")
    full = any(one.misfit for one in line.stages)
    memory = "" if math.isnan(line.memory) else f"{line.memory / 2**30:,.1f}"
    disk = line.sum("disk")
    cells = [
        said(line.sum("read")),
        said(line.sum("written")),
        said(line.sum("flops")),
        _plain(hours),
        f"[red]{memory}[/]" if full else memory,
        said(Span(disk.low + scratch, disk.high + scratch), "B"),
    ]
    return [*cells, _plain(hours * price)] if price else cells


def said(span: Span, unit: str = "") -> str:
    """`36–96 M`: both ends in the unit that suits the higher one."""
    if not span.high:
        return ""
    step = min(len(UNITS) - 1, max(0, int(math.log10(span.high)) // 3))
    low, high = (f"{end / 1000**step:.3g}" for end in (span.low, span.high))
    return f"{high if low == high else f'{low}–{high}'} {UNITS[step]}{unit}".rstrip()


def _plain(span: Span) -> str:
    if not span.high:
        return ""
    low, high = (f"{end:,.0f}" if span.high >= 10 else f"{end:.2g}" for end in (span.low, span.high))
    return high if low == high else f"{low}–{high}"


def _most(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _remarks(console: Console, costs: Costs, found: list[Estimate]) -> None:
    """The device, the counts of what costs next to nothing, and each assumption that a figure rests on."""
    device, machine = costs.device, costs.machine
    count = f"{machine.threads} threads of a CPU, each " if device.is_cpu else f"{device.name}, "
    rates = f"{device.flops / 1e12:,g} TFLOP/s, {device.bandwidth / 1e9:,g} GB/s"
    price = f", {machine.price:g} an hour" if machine.price else ""
    say = [f"machine {machine.name}: {count}{rates}, {costs.memory / 2**30:,.0f} GiB{price}"]
    free = Counter(one.spec.kind for one in found if one.spec.kind in FREE and one.word not in ("done", "not needed"))
    if free:
        say.append("on a CPU, in seconds: " + ", ".join(f"{n} {kind}" for kind, n in free.items()))
    if scratch := max((one.scratch for one in found), default=0.0):
        say.append(
            f"the total of the disk holds {said(Span(scratch, scratch), 'B')} of checkpoints while a model trains"
        )
    used = {word for one in found for word in one.basis}
    if measured := [word for word in ("measured", "measured elsewhere", "measured rate") if word in used]:
        say.append(f"from the store: {', '.join(MEASURED[word] for word in measured)}")
    say += [f"assumed, {word}: {text}" for word, text in WORDS.items() if word in used]
    say += [f"not counted: {line}" for line in dict.fromkeys(one.missing for one in found if one.missing)]
    for line in say:
        console.print(escape(line), soft_wrap=True, highlight=False)


MEASURED = {
    "measured": "lengths of answers that are there",
    "measured elsewhere": "lengths of the same model's answers to other problems",
    "measured rate": "tokens in a second of stages that ran",
}


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
    assert one.misfit is not None
    then = one.misfit.then
    if one.misfit.fix:
        return f"{one.misfit.fix} (then {name(names, one.spec)} needs {then / 2**30:,.1f} GiB)"
    if costs.device.is_cpu:
        return "name an accelerator in the machine profile, as in `hardware: H100`"
    larger = sorted((card.memory, card.name) for card in ACCELERATORS.values() if card.memory - RESERVED >= then)
    card = f"`hardware: {larger[0][1]}`" if larger else f"a device of {then / 2**30:,.0f} GiB, which nobody sells"
    also = f" and {one.misfit.least_by}" if one.misfit.least_by else ""
    return f"{card}{also} in the machine profile: {name(names, one.spec)} needs {then / 2**30:,.1f} GiB at least"
