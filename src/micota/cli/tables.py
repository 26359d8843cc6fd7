"""What the commands print: the plan, an artifact, the table of results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from micota.checks import Finding, errors
from micota.cli.grade import rejected_references
from micota.errors import MicotaError
from micota.report import page
from micota.report import page_sections as tables
from micota.report.escape import short
from micota.run.plan import State
from micota.stats import accuracy
from micota.store.artifacts import Store

if TYPE_CHECKING:
    from micota.housekeeping.activity import Activity
    from micota.housekeeping.holdings import HeldArtifact, HeldPool, WorkFolder
    from micota.housekeeping.removal import Removal

WIDE = 10  # of a table with more columns only the averages are printed
KEPT = ("Average", "Seeds", "Truncated", "Repetitive")
LONG = 60  # a longer plan is counted by kind, and only what is not done is listed
COLOURS = {
    "done": "green",
    "pruned": "green",
    "partial": "yellow",
    "new": "cyan",
    "unresolved": "red",
    "not needed": "dim",
}


def plan_table(console: Console, states: list[State], names: dict[str, str]) -> None:
    """One line a spec; of a long plan the counts, and what is not done."""
    counts = Counter(state.word for state in states)
    shown = states if len(states) <= LONG else [s for s in states if COLOURS[s.word] not in ("green", "dim")][:LONG]
    table = Table("state", "kind", "name", "artifact", "note", box=None, pad_edge=False)
    for state in shown:
        word = f"[{COLOURS[state.word]}]{state.word}[/]"
        name = escape(names.get(state.spec.digest, ""))
        table.add_row(word, state.spec.kind, name, state.spec.digest, state.note)
    console.print(table)
    if len(shown) < len(states):
        kinds = Counter((state.spec.kind, state.word) for state in states)
        console.print("  ".join(f"{kind} {word}: {n}" for (kind, word), n in sorted(kinds.items())))
    console.print(", ".join(f"{n} {word}" for word, n in counts.items()) or "nothing to make")


def listing(console: Console, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table of plain values."""
    table = Table(*head, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def results(console: Console, report: page.Page) -> None:
    """The accuracies, the differences from the baseline, and the claims where the recipe has the paper's roles."""
    sections = {section.title: section for section in report.sections}
    for title in (tables.MAIN, tables.NEUTRAL, tables.CLAIMS):
        items = sections[title].items if title in sections else ()
        shown = [item for item in items if isinstance(item, page.Table)]
        for table in shown[:1] + [one for one in shown[1:] if one.key == "from_baseline"]:
            console.print(printed(table))


def dials(console: Console, report: page.Page) -> None:
    """The candidates of the length dials, and their choices."""
    for section in report.sections:
        for item in section.items if section.title == tables.MERGING else ():
            if isinstance(item, page.Table) and item.key.startswith("dial"):
                console.print(printed(item))


def printed(table: page.Table, wide: int = WIDE) -> Table:
    """A table of the report for the terminal: values and errors in one column, no empty columns."""
    columns = _columns(table)
    if len(columns) > wide:
        columns = [column for i, column in enumerate(columns) if i < table.words or column[0].startswith(KEPT)]
    shown = Table(title=escape(short(table.title)))
    for i, (head, _) in enumerate(columns):
        shown.add_column(escape(short(head)), justify="left" if i < table.words else "right")
    for row, cells in zip(table.rows, zip(*(cells for _, cells in columns), strict=True), strict=True):
        shown.add_row(*(escape(short(cell)) for cell in cells), style="bold" if len(row) == 1 else "")
    return shown


def _columns(table: page.Table) -> list[tuple[str, list[str]]]:
    """The heads and cells of the columns that are not empty, without the paper's."""
    rows = [row if len(row) > 1 else (*row, *[page.Cell("")] * (len(table.head) - 1)) for row in table.rows]
    columns: list[tuple[str, list[str]]] = []
    for i, head in enumerate(table.head):
        cells = [row[i].text for row in rows]
        if head.startswith("± s.e."):
            name, before = columns[-1]
            pairs = zip(before, cells, strict=True)
            columns[-1] = name, [cell if error in ("", "–") else f"{cell} ± {error}" for cell, error in pairs]
        elif not head.startswith("Paper") and any(cell not in ("", "–") for cell in cells):
            columns.append((head, cells))
    return columns


def grades(
    console: Console, totals: dict[str, Counter[str]], parted: list[tuple[str, str, str, int, str, str]], group: str
) -> None:
    """Accuracy by the graders for each value of `group`, and the rows on which the two disagree, by the reason."""
    options, judged = (any(word in count for count in totals.values()) for word in ("options", "judged"))
    meant, more = "semantic, choice" if options else "semantic", ("judge", "agrees") if judged else ()
    head = (escape(group), "n", "exact_match", meant, *more, "truncated", "repetitive", "no answer", "unverifiable")
    table = Table(*head)
    for name, count in totals.items():
        table.add_row(
            escape(name),
            str(count["n"]),
            _percent(count["exact_match"], count["n"] - count["options"]),
            _percent(count["correct"], count["n"]),
            *(_percent(count[one], count["n"]) for one in ("judged", "judge_agrees") if judged),
            *(str(count[one]) for one in ("truncated", "looped", "no_answer", "unverifiable")),
        )
    console.print(table)
    if accidents := sum(count["accidents"] for count in totals.values()):
        console.print(f"warning: grading processes died over {accidents} answers; grade the file again")
    if silent := sum(count["judge_open"] for count in totals.values()):
        console.print(f"warning: {silent} of the judge's replies hold no verdict; these answers count as not correct")
    if parted:
        apart = Table(
            escape(group),
            "exact_match",
            "semantic",
            "rows",
            "reason",
            "for example",
            title="Where the graders disagree",
        )
        for name, exact, meant, n, reason, example in parted[:LONG]:
            apart.add_row(escape(name), exact, meant, str(n), escape(reason), escape(example))
        console.print(apart)


def _percent(correct: int, n: int) -> str:
    if not n:
        return "–"
    share, error = accuracy(correct, n)
    return f"{100 * share:.1f} ± {100 * error:.1f} %" if n > 1 else f"{100 * share:.1f} %"


def failing_golds(console: Console, data_dir: Path | None) -> None:
    """The benchmarks' reference answers that one of the two graders rejects."""
    table = Table("benchmark", "row", "reference answer", "exact_match", "semantic")
    for name, index, gold, exact, semantic in rejected_references(data_dir):
        words = str(exact.verdict), f"{semantic.verdict}: {semantic.reason}"
        table.add_row(name, str(index), escape(gold[:60]), words[0], escape(words[1]))
    console.print(table if table.row_count else "both graders accept every reference answer")
    console.print(f"{table.row_count} reference answers that a grader rejects")


def measured(console: Console, facts: dict[str, Any]) -> None:
    """How well a model predicts responses."""
    table = Table("responses", "tokens", "characters", "bits per character", "bits per byte", "mean of the rows")
    sizes = (f"{facts[name]:,}" for name in ("rows", "tokens", "characters"))
    bits = ("bits_per_character", "bits_per_byte", "bits_per_character_mean_of_rows")
    more = ("rank_surprisal_ratio", "local_log_probability", "beyond_context")
    for name in (there := [name for name in more if name in facts]):
        table.add_column(name.replace("_", " "), justify="right")
    table.add_row(*sizes, *(f"{facts[name]:.4f}" for name in (*bits, *there)))
    console.print(table)


def holdings(
    console: Console, held: list[HeldArtifact], pools: list[HeldPool], works: list[WorkFolder], targets: int = 0
) -> None:
    """What a store holds, by size; `targets` are the bytes of the tables of teachers' tokens."""
    table = Table("size", "files", "artifact", "names", box=None, pad_edge=False)
    for one in held[:LONG]:
        state = f"{one.state}, fake" if one.manifest.fake else one.state
        table.add_row(_bytes(one.size), state, one.manifest.id, escape(", ".join(one.names)))
    console.print(table)
    if len(held) > LONG:
        console.print(f"{len(held) - LONG} smaller artifacts: {_bytes(sum(one.size for one in held[LONG:]))}")
    if pools:
        table = Table("size", "rows", "tokens", "pool", "model", "", box=None, pad_edge=False)
        for pool in pools:
            note = "" if pool.used else "no artifact refers to it"
            counts = f"{pool.rows:,}", f"{pool.tokens:,}"
            table.add_row(_bytes(pool.size), *counts, pool.id, escape(short(pool.source)), note)
        console.print(table)
    if works:
        table = Table("size", "unfinished", "name", "last written", "run by", box=None, pad_edge=False)
        for work in works:
            age = f"{_time(work.age_s)} ago"
            table.add_row(_bytes(work.size), work.id, escape(work.name), age, work.holder or "")
        console.print(table)
    for kind in sorted({one.manifest.kind for one in held}):
        sizes = [one.size for one in held if one.manifest.kind == kind]
        console.print(f"{kind}: {len(sizes)}, {_bytes(sum(sizes))}", highlight=False)
    if targets:
        console.print(f"targets/, which teachers score again if it is removed: {_bytes(targets)}", highlight=False)
    sizes = [*(one.size for one in held), *(one.size for one in pools), *(one.size for one in works), targets]
    console.print(f"in all {_bytes(sum(sizes))}", highlight=False)


def removals(console: Console, removable: list[Removal]) -> None:
    """What can be removed, and why."""
    table = Table("size", "what", "id", "name", "why", box=None, pad_edge=False)
    for one in removable:
        table.add_row(_bytes(one.size), one.what, one.id, escape(short(one.name)), one.why)
    console.print(table if removable else "nothing can be removed")
    if removable:
        console.print(f"in all {_bytes(sum(one.size for one in removable))}", highlight=False)


def activities(console: Console, running: list[Activity], left: list[Activity]) -> None:
    """What runs now, and what was left unfinished."""
    table = Table("running", "name", "by", "for", "at", "rate", "left", "note", box=None, pad_edge=False)
    for one in running:
        rate = f"{one.rate:.3g} {one.unit}/s" if one.rate else ""
        rest = _time(one.left_s) if one.left_s is not None else ""
        cells = one.kind, escape(one.work.name), one.work.holder, _time(one.since_s)
        table.add_row(*cells, _at(one), rate, rest, escape(short(one.note)))
    console.print(table if running else "nothing runs now", highlight=False)
    if left:
        table = Table("unfinished", "name", "last written", "at", "last message", box=None, pad_edge=False)
        for one in left:
            age = f"{_time(one.since_s)} ago"
            table.add_row(one.work.id, escape(one.work.name), age, _at(one), escape(short(one.note)))
        console.print(table, highlight=False)


def _at(one: Activity) -> str:
    return "" if one.done is None else f"{one.done:,.0f}/{one.total:,.0f} {one.unit}"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"


def _time(seconds: float) -> str:
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def artifact(console: Console, store: Store, name: str) -> None:
    """An artifact's manifest as a tree."""
    manifest = store.find(name)
    tree = Tree(f"[bold]{manifest.id}[/]{' (fake: made of answers that were invented)' if manifest.fake else ''}")
    tree.add(f"files: {store.files(manifest)}" + ("" if store.whole(manifest) else " (removed)"))
    if manifest.same_as:
        tree.add(f"same as {manifest.same_as}: {manifest.provenance.get('linked', '')}")
    for title, data in (("fields", manifest.fields), ("facts", manifest.facts), ("made", manifest.provenance)):
        branch = tree.add(f"[bold]{title}[/]")
        for key, value in data.items():
            branch.add(escape(f"{key}: {_named(value, manifest.children)!r}"))
    console.print(tree, soft_wrap=True, highlight=False)


def _named(value: Any, children: dict[str, str]) -> Any:
    """A field with its children's names in the place of their digests."""
    if isinstance(value, list):
        return [_named(item, children) for item in value]
    if isinstance(value, dict):
        return children[value["$"]] if set(value) == {"$"} else {k: _named(v, children) for k, v in value.items()}
    return value


def findings(console: Console, looked: list[str], found: list[Finding]) -> None:
    """What was looked at and what the linter found; raises MicotaError if an error is among it."""
    for line in looked:
        console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
    for one in found:
        colour = "red" if one.severity == "error" else "yellow"
        console.print(f"[{colour}]{one.severity}[/] {escape(str(one.error()))}", highlight=False, soft_wrap=True)
    if wrong := errors(found):
        names = ", ".join(dict.fromkeys(one.model for one in wrong))
        many = "s" * (len(wrong) > 1)
        raise MicotaError(f"{len(wrong)} error{many}, in {names}", fix="change what each of them says, and check again")
