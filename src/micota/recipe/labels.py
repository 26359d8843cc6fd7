"""What a recipe makes, with the names that its author knows it by; a stage without one takes that of what it serves."""

from __future__ import annotations

from collections.abc import Iterator

from micota.recipe.contents import Contents
from micota.specs import Data, LengthDial, Model, Pretrain, Problems, Source, Spec, Train, walk


def everything(recipe: Contents) -> list[Spec]:
    """Every spec that the targets need, also those that a search asks for, in the order of making."""
    return list(walk(*recipe.targets, asked=True))


def labels(recipe: Contents) -> dict[str, str]:
    """A name for each spec by its digest: its own, the first that it has, or that of the nearest one above it."""
    known = list(_known(recipe))
    found: dict[str, str] = {}
    for label, spec in known:
        found.setdefault(spec.digest, label)
    for _, spec in known:
        _pass_down(spec, found)
    for dial in [spec for spec in walk(*recipe.names.values(), *recipe.targets) if isinstance(spec, LengthDial)]:
        searched = _searched(found[dial.digest], dial)
        for label, spec in searched:
            found.setdefault(spec.digest, label)
        for _, spec in searched:
            _pass_down(spec, found)
    return found


def _known(recipe: Contents) -> Iterator[tuple[str, Spec]]:
    """What the recipe names, evaluates and measures, with names for it."""
    yield from recipe.names.items()
    for one in recipe.evaluations:
        yield f"{one.model} on {one.data}, {one.spec.by}", one.spec
        yield f"{one.model} on {one.data}", one.spec.completions
        yield one.data, one.spec.problems
    for label, measure in recipe.measures.items():
        yield label.removeprefix("bpc:").replace("@", " under "), measure


def _searched(name: str, dial: LengthDial) -> list[tuple[str, Spec]]:
    """What a dial asks for, with names for it."""
    search = dial.search
    return [(name, search), (f"{name}, reference", search.reference), (f"{name}, probe", search.problems)]


def _pass_down(root: Spec, found: dict[str, str]) -> None:
    """Stages without a name of their own take that of what they belong to, with a model's or a problem set's source."""
    for child in root.children:
        if child.digest not in found:
            found[child.digest] = _label(child, found[root.digest])
            _pass_down(child, found)


def _label(spec: Spec, owner: str) -> str:
    if isinstance(spec, Source):
        return spec.ref
    if isinstance(spec, Problems):
        return spec.source.ref
    if isinstance(spec, Model) and isinstance(spec.origin, Source):
        return f"{spec.origin.ref} for {owner.rpartition(' for ')[2]}"
    return owner


def learnt_from(model: Spec) -> Data | None:
    """What a model learnt from; one whose pre-training goes on learnt what its base did, and a program's documents."""
    while isinstance(model, Pretrain) and model.base is not None:
        model = model.base
    return model.data if isinstance(model, Train) else None


def name(found: dict[str, str], spec: Spec) -> str:
    """The label of a spec, else the first eight digits of its digest."""
    return found.get(spec.digest, spec.digest[:8])
