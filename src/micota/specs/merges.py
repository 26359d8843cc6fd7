"""Merges of fine-tuned models with fixed settings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from micota.merging import Method, Rescale
from micota.merging.settings import THINNING
from micota.specs.spec import Model


class Merge(Model):
    """A weighted merge of fine-tuned models: of their task vectors on a base, or, in linear and slerp, of the models.

    Methods: linear, slerp, task_arithmetic (Ilharco et al., arXiv 2212.04089), ties (Yadav et al., arXiv 2306.01708),
    dare_linear and dare_ties (Yu et al., arXiv 2311.03099). `weight: 0.5` stands for `weights: [0.5]`.
    """

    kind: ClassVar[str] = "merge"
    VERSION: ClassVar[int] = 2
    base: Model = Field(description="the pre-fine-tuning checkpoint")
    models: Annotated[tuple[Model, ...], Field(strict=False, min_length=1, description="the fine-tuned models")]
    method: Method = Field(description="how the models are merged")
    weights: Annotated[
        tuple[float, ...],
        Field(
            strict=False,
            min_length=1,
            description="a weight for each model, in place of `weight`; slerp's one weight is t",
        ),
    ]
    density: float = Field(1.0, gt=0, le=1, description="share of the entries of a task vector that is kept")
    lambda_: float = Field(1.0, alias="lambda", description="factor of the merged task vector")
    rescale: Rescale | None = Field(None, description="how kept entries are rescaled; DARE and TIES need it")
    normalize: bool | None = Field(
        None, description="divide by the sum of the weights; by default in linear and ties only"
    )
    seed: int = Field(0, description="the random seed of DARE's masks")

    @model_validator(mode="before")
    @classmethod
    def _one_weight(cls, data: Any) -> Any:
        if isinstance(data, dict) and "weight" in data and "weights" not in data:
            weight = data["weight"]
            rest = {name: value for name, value in data.items() if name != "weight"}
            return {**rest, "weights": weight if isinstance(weight, list | tuple) else [weight]}
        return data

    @model_validator(mode="after")
    def _is_complete(self) -> Merge:
        if len(self.weights) != len(self.models):
            raise ValueError(f"{len(self.models)} models but {len(self.weights)} weights")
        check_thinning(self.method, self.density, self.rescale)
        return self

    @property
    def parents(self) -> tuple[Model, ...]:
        """The base, then the models."""
        return (self.base, *self.models)


def check_thinning(method: Method, density: float, rescale: Rescale | None) -> None:
    """Density and rescale belong to the methods that drop entries, where rescale is written out; else ValueError."""
    if method not in THINNING and (density != 1 or rescale):
        raise ValueError(f"method {method} drops nothing: remove density and rescale, or take dare_linear")
    if method in THINNING and rescale is None:
        raise ValueError("say how the kept entries are rescaled: inverse_density, l1 or none")
