"""What a recipe makes, with the names that its author knows it by; a stage without one takes that of what it serves."""

from __future__ import annotations

from micota.recipe import Recipe
from micota.specs import Dial, Select, Spec, Verify, walk


def everything(recipe: Recipe) -> list[Spec]:
    """Every spec that the targets need, also those that a search asks for, in the order of making."""
    found: dict[str, Spec] = {}
    todo = recipe.targets
    while todo:
        fresh = [spec for spec in walk(*todo) if spec.digest not in found]
        found |= {spec.digest: spec for spec in fresh}
        todo = [one for spec in fresh if isinstance(step := spec.next({}), tuple) for one in step]
    return list(found.values())


def labels(recipe: Recipe) -> dict[str, str]:
    """The name of each spec by its digest."""
    found: dict[str, str] = {}
    for label, spec in recipe.names.items():
        _name(found, label, spec)
    for one in recipe.evaluations:
        found.setdefault(one.spec.digest, f"{one.model} on {one.data}, {one.spec.by}")
        found.setdefault(one.spec.completions.digest, f"{one.model} on {one.data}")
    for label, measure in recipe.measures.items():
        _name(found, label.removeprefix("bpc:").replace("@", " under "), measure)
    for label, spec in recipe.names.items():
        for i, probe in enumerate(_probes(spec)):
            tried = f"weight {weight_of(probe):g}" if i else "reference"
            _name(found, f"{label}, {tried}", probe)
            found.setdefault(probe.completions.model.digest, f"{label}, {tried}")
            found.setdefault(probe.problems.digest, f"{label}, probe")
    return found


def name(found: dict[str, str], spec: Spec) -> str:
    return found.get(spec.digest, spec.digest[:8])


def weight_of(probe: Verify) -> float:
    """The weight of the candidate that a dial's probe tries."""
    return float(getattr(probe.completions.model, "weights", (0.0,))[0])


def _probes(spec: Spec) -> list[Verify]:
    """What a dial asks for: the answers of the reference, then of each candidate."""
    asked = spec.next({}) if isinstance(spec, Dial) else None
    return [one for one in asked if isinstance(one, Verify)] if isinstance(asked, tuple) else []


def _name(found: dict[str, str], label: str, spec: Spec) -> None:
    """Name a spec, and the answers and verdicts that it is made of."""
    found.setdefault(spec.digest, label)
    if isinstance(spec, Select):
        _name(found, label, spec.verdicts)
    if isinstance(spec, Select | Verify):
        found.setdefault(spec.completions.digest, label)
