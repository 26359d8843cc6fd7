"""Merges of fine-tuned models with fixed settings."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from micota.errors import MicotaError
from micota.merging import Method, Rescale, check, settings_of
from micota.merging.settings import FIXED, THINNING, WEIGHING
from micota.specs.spec import FrozenModel, Model


class Adapter(Model):
    """A LoRA adapter that was trained elsewhere, added to the weights of its base.

    Only the content of its folder is identity, not where the folder lies (`path`) or how it was named (`ref`).
    """

    kind: ClassVar[str] = "adapter"
    base: Model = Field(description="the model that it was trained on")
    content: str = Field(description="the hash of its folder's content")
    ref: str = Field(description="its folder as it was written")
    path: str = Field(description="where its folder lies")

    @property
    def parents(self) -> tuple[Model, ...]:
        """The base."""
        return (self.base,)

    @property
    def own_fields(self) -> dict[str, Any]:
        """The base and the content."""
        return {"base": {"$": self.base.digest}, "content": self.content}


class Slice(FrozenModel):
    """Layers of one model, as part of a stack."""

    model: Model = Field(description="the model")
    layers: Annotated[
        tuple[int, int], Field(strict=False, description="the first of its layers, and the one behind the last")
    ]

    @model_validator(mode="after")
    def _has_layers(self) -> Slice:
        if not 0 <= self.layers[0] < self.layers[1]:
            raise ValueError(f"layers {list(self.layers)}: the first, from 0 on, and the one behind the last")
        return self


class Merge(Model):
    """A weighted merge of fine-tuned models: of their task vectors on a base, or, in linear and slerp, of the models.

    Methods: linear, slerp, task_arithmetic (Ilharco et al., arXiv 2212.04089), ties (Yadav et al., arXiv 2306.01708),
    dare_linear and dare_ties (Yu et al., arXiv 2311.03099), della and della_linear (Deep et al., arXiv 2406.11617),
    breadcrumbs and breadcrumbs_ties (Davari and Belilovsky, arXiv 2312.06795), sce (Wan et al., arXiv 2408.07990),
    model_stock (Jang et al., arXiv 2403.19522), nuslerp; passthrough stacks layers. `weight: 0.5` stands for
    `weights: [0.5]`.
    """

    kind: ClassVar[str] = "merge"
    VERSION: ClassVar[int] = 2
    base: Model = Field(description="the pre-fine-tuning checkpoint")
    models: Annotated[tuple[Model, ...], Field(strict=False, min_length=1, description="the fine-tuned models")]
    method: Method = Field(description="how the models are merged")
    weights: Annotated[
        tuple[float, ...],
        Field(strict=False, description="a weight for each model, in place of `weight`; slerp's one weight is t"),
    ] = ()
    density: float = Field(1.0, gt=0, le=1, description="share of the entries of a task vector that is kept")
    lambda_: float = Field(1.0, alias="lambda", description="factor of the merged task vector")
    rescale: Rescale | None = Field(None, description="how kept entries are rescaled; DARE and TIES need it")
    normalize: bool | None = Field(
        None, description="divide by the sum of the weights; by default in linear, ties and della only"
    )
    seed: int = Field(0, description="the random seed of the masks of DARE and DELLA")
    epsilon: float | None = Field(
        None, ge=0, description="of della: the smallest entry of a row is kept with density - epsilon; by default 0.15"
    )
    gamma: float | None = Field(
        None, ge=0, lt=1, description="of breadcrumbs: share of the largest entries that is dropped; by default 0.01"
    )
    slices: Annotated[
        tuple[Slice, ...],
        Field(strict=False, description="of passthrough: the layers of the result, from the first on"),
    ] = ()

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
        self._refuse_idle()
        if self.method in (*WEIGHING, "passthrough"):
            if self.method == "passthrough" and not {one.model for one in self.slices} <= {*self.parents}:
                raise ValueError("every slice takes layers of the base or of one of the models")
        elif len(self.weights) != len(self.models):
            raise ValueError(f"{len(self.models)} models but {len(self.weights)} weights")
        check_thinning(self.method, self.density, self.rescale)
        if self.method in FIXED or self.epsilon is not None or self.gamma is not None or "della" in self.method:
            try:
                check(settings_of(self))
            except MicotaError as error:
                raise ValueError(error.what) from None
        return self

    def _refuse_idle(self) -> None:
        """What the methods that came last do not have is refused; of the others `check` says it."""
        method = self.method
        own = {
            "weight": method not in (*WEIGHING, "passthrough"),
            "epsilon": method in ("della", "della_linear"),
            "gamma": method in ("breadcrumbs", "breadcrumbs_ties"),
            "slices": method == "passthrough",
            **dict.fromkeys(("lambda", "normalize"), method not in FIXED),
            "seed": method not in ("model_stock", "nuslerp", "passthrough"),
        }
        for name, belongs in own.items():
            field = {"weight": "weights", "lambda": "lambda_"}.get(name, name)
            if not belongs and field in self.stated:
                raise ValueError(f"method {method} has no {name}: leave it out")
        if method == "passthrough" and not self.slices:
            raise ValueError("say which layers are stacked: slices: [{model: NAME, layers: [0, 16]}, ...]")

    @property
    def parents(self) -> tuple[Model, ...]:
        """The base, then the models."""
        return (self.base, *self.models)

    @property
    def stacked(self) -> int | None:
        """The layers of all slices together."""
        return sum(one.layers[1] - one.layers[0] for one in self.slices) or super().stacked


def check_thinning(method: Method, density: float, rescale: Rescale | None) -> None:
    """Density and rescale belong to the methods that drop entries, where rescale is written out; else ValueError."""
    if method not in THINNING and (density != 1 or rescale):
        raise ValueError(f"method {method} drops nothing: remove density and rescale, or take dare_linear")
    if method == "sce" and rescale:
        raise ValueError("method sce has no rescale: leave it out")
    if method in THINNING and method != "sce" and rescale is None:
        raise ValueError("say how the kept entries are rescaled: inverse_density, l1 or none")
