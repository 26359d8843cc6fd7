"""What a recipe makes, with the names that its author knows it by; a stage without one takes that of what it serves."""

from __future__ import annotations

from collections.abc import Iterator

from micota.recipe.contents import Contents
from micota.specs import Data, LengthDial, Pretrain, Source, Spec, Train, walk


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
    return found


def _known(recipe: Contents) -> Iterator[tuple[str, Spec]]:
    """What the recipe names, asks, measures and searches, with names for it."""
    yield from recipe.names.items()
    for one in recipe.evaluations:
        yield f"{one.model} on {one.data}, {one.spec.by}", one.spec
        yield f"{one.model} on {one.data}", one.spec.completions
        yield one.data, one.spec.problems
    for label, measure in recipe.measures.items():
        yield label.removeprefix("bpc:").replace("@", " under "), measure
    for label, spec in recipe.names.items():
        if isinstance(spec, LengthDial):
            yield label, spec.search
            yield f"{label}, reference", spec.search.reference
            yield f"{label}, probe", spec.search.problems


def _pass_down(root: Spec, found: dict[str, str]) -> None:
    """Stages that sugar made have no name of their own and take that of what they belong to."""
    for child in root.children:
        if child.digest not in found:
            found[child.digest] = child.ref if isinstance(child, Source) else found[root.digest]
            _pass_down(child, found)


def learnt_from(model: Spec) -> Data | None:
    """What a model learnt from; one whose pre-training goes on learnt what its base did, and a program's documents."""
    while isinstance(model, Pretrain) and model.base is not None:
        model = model.base
    return model.data if isinstance(model, Train) else None


def name(found: dict[str, str], spec: Spec) -> str:
    return found.get(spec.digest, spec.digest[:8])
