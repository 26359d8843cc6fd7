"""What the commands print: the plan, an artifact, the table of results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.tree import Tree

from micota.errors import MicotaError, suggestion
from micota.plan import State
from micota.recipe import Recipe
from micota.report.files import HEAD, cells
from micota.report.table import rows
from micota.specs import Spec
from micota.store import Manifest, Store

LONG = 60  # a longer plan is counted by kind, and only what is not done is listed
COLOURS = {"done": "green", "light": "green", "partial": "yellow", "new": "cyan", "unresolved": "red"}


def labels(recipe: Recipe) -> dict[str, str]:
    """A label for each spec: its own name, that of the nearest name above it, or model@problems of an evaluation."""
    found = {spec.digest: name for name, spec in reversed(recipe.names.items())}
    for one in recipe.evaluations:
        found.setdefault(one.spec.digest, f"{one.model}@{one.data}")
    roots = [*recipe.names.values(), *(one.spec for one in recipe.evaluations)]
    for root in roots:
        _pass_down(root, found)
    return found


def _pass_down(root: Spec, found: dict[str, str]) -> None:
    """Stages that sugar made have no name of their own and take that of what they belong to."""
    for child in root.children:
        if child.digest not in found:
            found[child.digest] = found[root.digest]
            _pass_down(child, found)


def plan_table(console: Console, states: list[State], names: dict[str, str]) -> None:
    """One line a spec; of a long plan the counts, and what is not done."""
    counts = Counter(state.word for state in states)
    shown = states if len(states) <= LONG else [s for s in states if s.word not in ("done", "light")][:LONG]
    table = Table("state", "kind", "name", "artifact", "note", box=None, pad_edge=False)
    for state in shown:
        word = f"[{COLOURS[state.word]}]{state.word}[/]"
        name = names.get(state.spec.digest, "").replace("[", "\\[")
        table.add_row(word, state.spec.kind, name, state.spec.digest, state.note)
    console.print(table)
    if len(shown) < len(states):
        kinds = Counter((state.spec.kind, state.word) for state in states)
        console.print("  ".join(f"{kind} {word}: {n}" for (kind, word), n in sorted(kinds.items())))
    console.print(", ".join(f"{n} {word}" for word, n in counts.items()) or "nothing to make")


def results(console: Console, recipe: Recipe, store: Store) -> None:
    """The table of results."""
    table = Table(*HEAD, title=recipe.name)
    for column in table.columns[2:]:
        column.justify = "right"
    for row in rows(recipe, store):
        table.add_row(*(cell.replace("[", "\\[") for cell in cells(row)))
    if table.row_count:
        console.print(table)


def artifact(console: Console, store: Store, name: str) -> None:
    """An artifact's manifest as a tree."""
    manifest = _find(store, name)
    tree = Tree(f"[bold]{manifest.kind}-{manifest.digest}[/]")
    tree.add(f"files: {store.files(manifest)}" + ("" if store.whole(manifest) else " (removed)"))
    if manifest.same_as:
        tree.add(f"same as {manifest.same_as}: {manifest.made.get('linked', '')}")
    for title, data in (("fields", manifest.fields), ("facts", manifest.facts), ("made", manifest.made)):
        branch = tree.add(f"[bold]{title}[/]")
        for key, value in data.items():
            shown = manifest.children.get(value["$"], "source") if _is_child(value) else value
            branch.add(f"{key}: {shown!r}".replace("[", "\\["))
    console.print(tree, soft_wrap=True, highlight=False)


def _is_child(value: object) -> bool:
    return isinstance(value, dict) and set(value) == {"$"}


def _find(store: Store, name: str) -> Manifest:
    """By the artifact's id, by RECIPE/NAME, or by NAME where only one recipe has it."""
    if manifest := store.manifest_of(name):
        return manifest
    links = {f"{p.parent.name}/{p.name}": p for p in sorted((store.root / "names").glob("*/*")) if p.is_symlink()}
    fits = [key for key in links if key == name or key.partition("/")[2] == name]
    if len(fits) == 1 and (manifest := store.manifest_of(Path(links[fits[0]].readlink()).name)):
        return manifest
    if len(fits) > 1:
        raise MicotaError(f"several recipes have a '{name}'", fix=f"micota show {fits[0]}")
    known = [*links, *(artifact_id_of(manifest) for manifest in store.all())]
    raise MicotaError(f"there is no artifact '{name}' in {store.root}", fix=suggestion(name, known))


def artifact_id_of(manifest: Manifest) -> str:
    return f"{manifest.kind}-{manifest.digest}"
