"""The length dial: a merge whose settings are found by trying them on probe problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from micota.merging import Method, Rescale
from micota.merging.settings import THINNING
from micota.specs import dial_policy as choosing
from micota.specs.kinds import Generate, Merge, Precision, Verify, check_thinning
from micota.specs.sampling import Prompt, Sampling
from micota.specs.sources import Problems
from micota.specs.spec import Choice, FrozenModel, Spec

if TYPE_CHECKING:
    from micota.specs.table import Model

Range = float | Annotated[tuple[float, float], Field(strict=False)]
"""A value, or the two ends between which the best one is looked for."""
MOST = 64
"""Candidates of a grid at most: a finer one is cheaper as rounds of refinement."""


class Target(FrozenModel):
    """The length that the dial looks for: a share of another model's mean response, or tokens.

    `of` is also whose accuracy the candidates may lose `max_loss` of.
    """

    length: float | None = Field(None, gt=0, description="share of the mean response of `of`")
    tokens: float | None = Field(None, gt=0, description="mean tokens of a response, in place of a share")
    of: Model

    @model_validator(mode="after")
    def _is_one(self) -> Target:
        if (self.length is None) == (self.tokens is None):
            raise ValueError("give the target as `length`, a share, or as `tokens`")
        return self


class Probe(FrozenModel):
    """The problems on which the dial tries its candidates, and how it asks: never those of the evaluation."""

    data: Problems
    n: int = Field(200, ge=1)
    prompt: Prompt = Prompt()
    sampling: Sampling = Sampling()
    precision: Precision = "bfloat16"
    by: Literal["exact_match", "semantic"] = "semantic"

    @property
    def problems(self) -> Problems:
        """The first n of the probe problems."""
        fields = {name: getattr(self.data, name) for name in type(self.data).model_fields}
        return Problems(**{**fields, "n": self.n})

    def grade(self, model: Model) -> Verify:
        """A model's answers to the probe problems, verified."""
        answers = Generate(
            model=model, problems=self.problems, prompt=self.prompt, sampling=self.sampling, precision=self.precision
        )
        return Verify(problems=self.problems, completions=answers, by=self.by)


class MergeSearchFields(Spec):
    """What a search and its dial have in common: a merge with some settings left open, and how they are tried.

    A weight is given to every model. The first round tries `steps` values along every range (all combinations); each of
    `refine` further rounds tries, along every range, the values half way from the best candidate to its neighbours. The
    search ends early when a candidate that loses at most `max_loss` is as near to the target as `choosing.CLOSE`.
    """

    base: Model
    models: Annotated[tuple[Model, ...], Field(strict=False, min_length=1)]
    method: Method
    weight: Range
    density: Range = 1.0
    lambda_: Range = Field(1.0, alias="lambda")
    rescale: Rescale | None = None
    seed: int = 0
    steps: int = Field(7, ge=2, description="values along each range in the first round, both ends included")
    refine: int = Field(2, ge=0, description="rounds of refinement after the first")
    max_loss: float = Field(0.02, ge=0, description="of accuracy, against the target's `of`")

    @model_validator(mode="after")
    def _can_be_turned(self) -> MergeSearchFields:
        ranges = self.ranges
        if not any(isinstance(one, tuple) for one in ranges.values()):
            raise ValueError("give at least one of weight, density and lambda as a range: [low, high]")
        for name, one in ranges.items():
            if isinstance(one, tuple) and not one[0] < one[1]:
                raise ValueError(f"the range of {name} ends before it begins: {list(one)}")
        if any(not 0 < end <= 1 for end in choosing.ends(self.density)):
            raise ValueError("density is a share: greater than 0, at most 1")
        check_thinning(self.method, choosing.ends(self.density)[0], self.rescale)
        if (count := len(choosing.grid(ranges, self.steps))) > MOST:
            raise ValueError(f"the first round has {count} candidates, at most {MOST} are tried: lower `steps`")
        return self

    @property
    def ranges(self) -> dict[str, float | tuple[float, float]]:
        return {"weight": self.weight, "density": self.density, "lambda": self.lambda_}

    def candidate(self, setting: Mapping[str, float]) -> Merge:
        """The merge with a setting's weight, density and lambda."""
        return Merge(
            base=self.base,
            models=self.models,
            method=self.method,
            weights=(setting["weight"],) * len(self.models),
            density=setting["density"],
            lambda_=setting["lambda"],
            rescale=self.rescale if self.method in THINNING else None,
            seed=self.seed,
        )


class MergeSearch(MergeSearchFields):
    """Candidates of a merge, made in memory from one reading of the models, and tried until the rule is content.

    `reference` says by which problems, how they are asked and how answers are graded; its model is what lengths and
    losses are measured against.
    """

    kind: ClassVar[str] = "search"
    problems: Problems
    reference: Verify
    length: float | None = None
    tokens: float | None = None


class LengthDial(MergeSearchFields):
    """The merge whose responses have the wanted length, found by trying settings on probe problems.

    Among the candidates that lose at most `max_loss` accuracy against `target.of`, the one whose mean length is nearest
    to the target. If none qualifies that is an error, unless `fallback: nearest` takes the nearest of all.
    """

    kind: ClassVar[str] = "dial"
    VERSION: ClassVar[int] = 2
    target: Target
    probe: Probe
    fallback: Literal["nearest"] | None = None

    @property
    def search(self) -> MergeSearch:
        """The trials that the choice is made from."""
        shared = {name: getattr(self, name) for name in MergeSearchFields.model_fields}
        reference = self.probe.grade(self.target.of)
        return MergeSearch(**shared, problems=reference.problems, reference=reference,
                      length=self.target.length, tokens=self.target.tokens)  # fmt: skip

    def next(self, results: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...] | Choice | None:
        search = self.search
        if search.digest not in results:
            return (search,)
        facts = results[search.digest]
        best, fits = choosing.nearest(facts["dial"], facts["target"], self.max_loss, self.fallback == "nearest")
        why = f"{choosing.said(best)}: {best['share']:.2f} of the length, loss {best['loss']:.3f}"
        seen = {"dial": facts["dial"], "reference": facts["reference"], "target": facts["target"]}
        chosen = {name: best[name] for name in choosing.SETTINGS}
        return Choice(self.candidate(best), why if fits else why + " (fallback)",
                      seen | {"chosen": chosen, "fallback": not fits})  # fmt: skip
