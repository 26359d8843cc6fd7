"""A model of the lab, made from nothing or lightly tuned, on documents that a program writes."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from micota.arithmetic import RULES, Style, World
from micota.specs.spec import FrozenModel, Model


class Shape(FrozenModel):
    """The size of a Qwen2 with tied embeddings."""

    width: int = Field(ge=2)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    feedforward: int = Field(ge=1)

    @model_validator(mode="after")
    def _splits_into_heads(self) -> Shape:
        if self.width % (2 * self.heads):
            raise ValueError(f"a width of {self.width} gives {self.heads} heads no even width each")
        return self


class Phase(FrozenModel):
    """A stretch of training on one style, with an optimizer of its own and a cosine schedule."""

    style: Style
    steps: int = Field(ge=1)
    lr: float = Field(gt=0, description="peak learning rate")
    batch: int = Field(64, ge=1, description="documents for each optimizer step")
    shortest: int = Field(1, ge=1, description="operations of the shortest problem; the world has the longest")


class Pretrain(Model):
    """A model that has seen the phases' documents, from fresh weights (`shape`) or from those of `base`.

    The batches of a phase depend on the seed and on the number of the phase. A model that goes on where another's
    phases ended says how many those were (`first`), and comes out as if all had been made in one.
    """

    kind: ClassVar[str] = "pretrain"
    world: World = "arithmetic"
    shape: Annotated[Shape | None, Field(strict=False)] = Field(None, description="the size, for fresh weights")
    base: Model | None = None
    phases: Annotated[tuple[Phase, ...], Field(strict=False, min_length=1)]
    first: int = Field(0, ge=0, description="the number of the first phase")
    window: int = Field(512, ge=8, le=1024, description="tokens of the longest document; a longer one is never seen")
    seed: int = 0

    @property
    def parents(self) -> tuple[Model, ...]:
        """The base, if it goes on from one."""
        return (self.base,) if self.base else ()

    @property
    def steps(self) -> int:
        """Optimizer steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    @model_validator(mode="after")
    def _begins_once(self) -> Pretrain:
        if (self.shape is None) == (self.base is None):
            raise ValueError("give a shape for fresh weights or a base to go on from, one of the two")
        return self

    @model_validator(mode="after")
    def _has_such_problems(self) -> Pretrain:
        longest = RULES[self.world].longest
        for phase in self.phases:
            if phase.shortest > longest:
                raise ValueError(f"shortest is {phase.shortest}, but a problem of {self.world} has {longest} at most")
        return self
