"""A model of the lab, made from nothing or lightly tuned, on documents that a program writes."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from micota.specs.spec import FrozenModel, Model
from micota.worlds.workings import WORLDS, Style, World


class Shape(FrozenModel):
    """The size of a Qwen2 with tied embeddings."""

    width: int = Field(ge=2, description="the size of the hidden states")
    layers: int = Field(ge=1, description="the number of layers")
    heads: int = Field(ge=1, description="attention heads of each layer")
    feedforward: int = Field(ge=1, description="the inner size of each feed-forward block")

    @model_validator(mode="after")
    def _splits_into_heads(self) -> Shape:
        if self.width % (2 * self.heads):
            raise ValueError(f"a width of {self.width} gives {self.heads} heads no even width each")
        return self


class Phase(FrozenModel):
    """A stretch of training on one style, with an optimizer of its own and a cosine schedule over its `steps`.

    With `until` it ends as soon as that share of 500 workings of its style, of problems of the dev split, is right.
    Each token is predicted behind the right text before it, which a greedy answer has up to its first mistake. So the
    share of a style with one working for each problem (terse, expanded, checked) is that of the problems which the
    model solves in this style; in other styles, where a step's length is drawn, only the digits count.
    """

    style: Style = Field(description="how the chains of thought of its documents are written")
    steps: int = Field(ge=1, description="optimizer steps")
    lr: float = Field(gt=0, description="peak learning rate")
    batch: int = Field(64, ge=1, description="documents of each optimizer step")
    shortest: int = Field(1, ge=1, description="operations of the shortest problem")
    until: float | None = Field(
        None, gt=0, le=1, description="share of right workings at which it ends before its steps are done"
    )
    every: int = Field(20, ge=1, description="of `until`: steps from one look to the next")


class Pretrain(Model):
    """A model that has seen the phases' documents, from fresh weights (`shape`) or from those of `base`.

    The batches of a phase depend on the seed and on the number of the phase. A model that goes on where another's
    phases ended says how many those were (`first`), and comes out as if all had been made in one.
    """

    kind: ClassVar[str] = "pretrain"
    world: World = Field("arithmetic", description="the world of problems that the documents are from")
    shape: Annotated[Shape | None, Field(strict=False)] = Field(None, description="the size, for fresh weights")
    base: Model | None = Field(None, description="the model whose training goes on, in place of fresh weights")
    phases: Annotated[tuple[Phase, ...], Field(strict=False, min_length=1)] = Field(
        description="the stretches of training, in order"
    )
    first: int = Field(0, ge=0, description="the number of the first phase")
    window: int = Field(512, ge=8, le=1024, description="tokens of the longest document; longer ones are left out")
    seed: int = Field(0, ge=0, lt=2**32, description="the random seed of weights and documents")

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
        longest = WORLDS[self.world].longest
        for phase in self.phases:
            if phase.shortest > longest:
                raise ValueError(f"shortest is {phase.shortest}, but a problem of {self.world} has {longest} at most")
        return self
