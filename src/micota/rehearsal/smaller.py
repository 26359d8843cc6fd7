"""A recipe's specs made small: stand-ins for models, few problems, few tokens, two steps. All else stays as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from micota.recipe.recipe import Recipe
from micota.rehearsal.data import Few
from micota.rehearsal.stand_ins import StandIn
from micota.specs import (
    Adapter,
    Bpc,
    FineTuned,
    FrozenModel,
    Generate,
    LengthDial,
    Lora,
    Merge,
    Mix,
    Model,
    OnPolicyDistillation,
    Phase,
    Probe,
    Problems,
    Prompt,
    Sampling,
    SftData,
    Source,
    Spec,
    Train,
    walk,
)

NEW_TOKENS = 24
STEPS = 2
BATCH = 2
LONGER = 8
"""Tokens that bytes take for one of a real tokenizer, at most: by so much a cutoff is raised where bytes stand in."""


class Smaller:
    """Turns specs into small ones, each once: equal specs stay equal, and different ones different."""

    def __init__(self, stand_ins: Mapping[str, StandIn], data: Mapping[str, Few]) -> None:
        self._stand_ins, self._data = stand_ins, data
        self._made: dict[str, Spec] = {}

    def recipe(self, made: Recipe) -> Recipe:
        """The recipe with small specs under its own names."""
        needed = {spec.digest for spec in walk(*made.targets)}
        return made.with_specs(
            names={name: self.spec(spec) for name, spec in made.names.items() if spec.digest in needed},
            evaluations=[dataclasses.replace(one, spec=self.spec(one.spec)) for one in made.evaluations],
            measures={name: self.spec(one) for name, one in made.measures.items()},
        )

    def spec(self, spec: Spec) -> Any:
        """The small spec; those below it are made first, so that no recipe is too deep."""
        for one in walk(spec):
            if one.digest not in self._made:
                self._made[one.digest] = self._shrunk(one)
        return self._made[spec.digest]

    def _shrunk(self, spec: Spec) -> Spec:
        if isinstance(spec, Source):
            return self._stand_ins[spec.digest].source if spec.digest in self._stand_ins else spec
        if isinstance(spec, Adapter):  # it does not fit the stand-in of its base
            return self._made[spec.base.digest]
        return self._small(spec)  # type: ignore[no-any-return]

    def _small(self, value: Any) -> Any:
        fields = {name: self._value(getattr(value, name)) for name in type(value).model_fields}
        return value.changed(**{**fields, **self._changes(value)})

    def _value(self, value: Any) -> Any:
        if isinstance(value, Spec):
            return self._made[value.digest]
        if isinstance(value, FrozenModel):
            return self._small(value)
        return tuple(map(self._value, value)) if isinstance(value, tuple) else value

    def _changes(self, value: FrozenModel) -> dict[str, Any]:
        """What is smaller about a spec, or about a group of its fields."""
        match value:
            case Problems() | SftData():
                return self._data[value.digest].fields
            case Sampling():
                most, budget = min(value.max_tokens, NEW_TOKENS), value.thinking_budget
                return {"max_tokens": most, "thinking_budget": budget and min(budget, most // 2)}
            case Generate():
                return {"n": min(value.n, 2), "prompt": self._asked(value.prompt, value.model)}
            case Bpc() if self._is_bytewise(value.model):
                return {"template_kwargs": {}}
            case Probe():
                return {"n": min(value.n, len(self._data[value.data.digest].rows) or value.n)}
            case LengthDial():
                probe = self._small(value.probe)
                probe = probe.changed(prompt=self._asked(probe.prompt, value.base))
                return {"steps": 2, "refine": 0, "fallback": "nearest", "probe": probe}
            case Phase():
                return {"steps": STEPS, "batch": min(value.batch, BATCH)}
            case Lora():
                return {"quantize": None}  # four bits want a GPU
            case Mix():
                return self._parts(value)
            case Train():
                return self._training(value)
            case OnPolicyDistillation():
                limit = NEW_TOKENS if value.problems else value.max_tokens * LONGER
                few = {"steps": STEPS, "batch": BATCH, "max_tokens": min(value.max_tokens, limit)}
                return few | {"prompt": self._asked(value.prompt, value)}
        return {}

    def _training(self, spec: Train) -> dict[str, Any]:
        bytewise = self._is_bytewise(spec)
        return {
            "max_steps": STEPS,
            "target_tokens": None,
            "batch": min(spec.batch, BATCH),
            "held_out": min(spec.held_out, 2),
            "cutoff": spec.cutoff * (LONGER if bytewise else 1),
            "template_kwargs": {} if bytewise else spec.template_kwargs,
        }

    def _is_bytewise(self, model: Model) -> bool:
        """Whether a stand-in of its tokenizer plays, whose chat template reads no keywords."""
        root = model.origin
        return root.digest in self._stand_ins and self._stand_ins[root.digest].tokenizer != "real"

    def _asked(self, prompt: Prompt, model: Model) -> Prompt:
        return prompt.changed(template_kwargs={}) if self._is_bytewise(model) else prompt

    def _parts(self, spec: Mix) -> dict[str, Any]:
        """Equal shares where one is so small that a few rows would leave nothing of it."""
        if min(part.share for part in spec.parts) >= 0.1:
            return {}
        share = 1 / len(spec.parts)
        return {"parts": tuple(type(part)(data=self._value(part.data), share=share) for part in spec.parts)}


def trained(targets: list[Spec]) -> set[str]:
    """The digests of the models that trainings begin at."""
    return {spec.origin.digest for spec in walk(*targets) if isinstance(spec, FineTuned)}


def stacks(targets: list[Spec]) -> bool:
    """Whether layers are named by their numbers."""
    return any(isinstance(spec, Merge) and spec.slices for spec in walk(*targets))


def models(targets: list[Spec]) -> list[Source]:
    """The models made elsewhere that the targets need: sources that hold neither problems nor a grader."""
    uses = [(spec, child) for spec in walk(*targets) for child in spec.children if isinstance(child, Source)]
    found = {one.digest: one for spec, one in uses if spec.source_type == "model" and one != getattr(spec, "grader", 0)}
    return list(found.values())
