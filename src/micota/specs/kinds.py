"""The nouns of a recipe: every kind of spec, with its fields, their defaults and what they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from micota.grading import EXACT_VERSION, SEMANTIC_VERSION
from micota.merging import Method, Rescale
from micota.merging.settings import THINNING
from micota.specs import rejection_sampling as redrawing
from micota.specs.sampling import Prompt, Sampling
from micota.specs.sources import Problems, SftData, Source
from micota.specs.spec import Choice, FrozenModel, Spec, plain, sha

if TYPE_CHECKING:
    from micota.specs.table import Data, Model

GRADERS = {"semantic": SEMANTIC_VERSION, "exact_match": EXACT_VERSION}
Precision = Literal["bfloat16", "float16", "float32"]


class Generate(Spec):
    """A model's answers to problems: samples 0 to n-1 of each.

    With `unless` the last sample is drawn only of problems for which those verdicts on the earlier ones have no correct
    and whole answer.
    """

    kind: ClassVar[str] = "generate"
    model: Model
    problems: Problems
    prompt: Prompt = Prompt()
    sampling: Sampling = Sampling()
    n: int = Field(1, ge=1)
    precision: Precision = "bfloat16"
    trust_remote_code: bool = False
    unless: Verify | None = None

    @model_validator(mode="after")
    def _samples_differ(self) -> Generate:
        assert self.unless is None or self.unless.completions.n == self.n - 1, "one more sample than is graded"
        if self.n > 1 and self.sampling.temperature == 0:
            raise ValueError(f"n is {self.n} at temperature 0: all samples would be equal; set a temperature")
        return self

    def pool(self, model_content: str) -> str:
        """The id of the completion pool: model's content, precision, prompt and sampling, without n."""
        asked = {"prompt": plain(self.prompt, "prompt"), "sampling": plain(self.sampling, "sampling")}
        asked |= {"precision": self.precision, "trust_remote_code": self.trust_remote_code}
        return sha({"pool": self.version, "model": model_content, **asked})


class Verify(Spec):
    """A verdict on each answer: correct, wrong, no_answer or unverifiable. Evaluation is this on a test set."""

    kind: ClassVar[str] = "verify"
    problems: Problems
    completions: Generate
    by: str = Field("semantic", description="exact_match, semantic, or a grader of one's own: package.module:function")
    grader: Source | None = Field(None, description="the file of a grader of one's own: its content is identity")

    @property
    def version(self) -> str:
        return f"{self.VERSION}.{GRADERS.get(self.by, 0)}"

    @model_validator(mode="after")
    def _is_a_grader(self) -> Verify:
        if self.by not in GRADERS and not re.fullmatch(r"[\w.]+:\w+", self.by):
            raise ValueError(f"'{self.by}' is no grader: exact_match, semantic, or package.module:function")
        return self


class Select(Spec):
    """The verified answers that become training data; every drop is counted by its reason (Eq. 1 of the paper)."""

    kind: ClassVar[str] = "select"
    completions: Generate
    verdicts: Verify
    keep: Literal["correct", "all"] = "correct"
    max_tokens: int | None = Field(None, ge=1, description="longer responses are dropped (L_max)")
    duplicates: Literal["drop", "keep"] = "drop"


class RejectionSampling(Spec):
    """Training data for which each problem is answered until an answer is verified, at most so often: by `next`."""

    kind: ClassVar[str] = "redraw"
    completions: Generate
    at_most: int = Field(ge=2, description="answers to a problem")
    by: str = "semantic"
    grader: Source | None = None
    duplicates: Literal["drop", "keep"] = "drop"

    @property
    def version(self) -> str:
        return f"{self.VERSION}.{GRADERS.get(self.by, 0)}"

    @model_validator(mode="after")
    def _draws(self) -> RejectionSampling:
        if self.completions.sampling.temperature == 0:
            raise ValueError("until: verified draws again at temperature 0: it would get the same; set a temperature")
        return self

    def next(self, results: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...] | Choice | None:
        return redrawing.next_round(self, results)


class MixtureComponent(FrozenModel):
    """One ingredient of a mixture: a data set and its share of the examples."""

    data: Data
    share: float = Field(gt=0, le=1)


class Mix(Spec):
    """Data sets mixed by share of examples, as Mix-Long does with 1:4."""

    kind: ClassVar[str] = "mix"
    parts: Annotated[tuple[MixtureComponent, ...], Field(strict=False, min_length=1)]
    seed: int = 0

    @model_validator(mode="after")
    def _is_whole(self) -> Mix:
        total = sum(part.share for part in self.parts)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of the parts make {total:g}, not 1")
        return self


class Lora(FrozenModel):
    """Low-rank adapters instead of all parameters (Hu et al., arXiv 2106.09685); merged into the weights at the end."""

    rank: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1, description="the adapter is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Annotated[tuple[str, ...], Field(strict=False)] = Field((), description="modules; all linear ones if none")
    quantize: Literal["nf4"] | None = Field(None, description="hold the frozen weights in 4 bits while training: QLoRA")


class Train(Spec):
    """A model fine-tuned on the responses of a data set: plain SFT with AdamW, of all parameters or of adapters."""

    kind: ClassVar[str] = "train"
    base: Model
    data: Data
    epochs: float = Field(2.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
    target_tokens: int | None = Field(
        None, ge=1, description="target tokens to learn from, instead of epochs or max_steps"
    )
    batch: int = Field(32, ge=1, description="examples for each optimizer step, over all devices")
    lr: float = Field(1e-5, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(0.01, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    cutoff: int = Field(16_384, ge=2, description="tokens of prompt and response; longer examples are dropped")
    system: str | None = Field(None, description="the system message; none of our own by default")
    seed: int = 0
    precision: Precision = "bfloat16"
    trust_remote_code: bool = False
    packing: bool = Field(
        False, description="fill rows of `cutoff` tokens with whole examples that do not see each other"
    )
    lora: Lora | None = None
    held_out: int = Field(0, ge=0, description="examples that are not learnt but measured: the held-out loss")

    @model_validator(mode="after")
    def _ends_once(self) -> Train:
        if self.max_steps and self.target_tokens:
            raise ValueError(
                f"max_steps is {self.max_steps} and target_tokens is {self.target_tokens}: give one of the two"
            )
        return self

    @model_validator(mode="after")
    def _asks_as_its_rows(self) -> Train:
        for one in systems(self.data):
            if one != self.system:
                raise ValueError(
                    f"the rows have the system message {one!r}, the training {self.system!r}: give both one"
                )
        return self


class Merge(Spec):
    """A weighted merge of fine-tuned models: with their base by task vectors, or in linear and slerp of the models."""

    kind: ClassVar[str] = "merge"
    VERSION: ClassVar[int] = 2
    base: Model
    models: Annotated[tuple[Model, ...], Field(strict=False, min_length=1)]
    method: Method
    weights: Annotated[tuple[float, ...], Field(strict=False, min_length=1, description="slerp's one weight is its t")]
    density: float = Field(1.0, gt=0, le=1)
    lambda_: float = Field(1.0, alias="lambda")
    rescale: Rescale | None = None
    normalize: bool | None = Field(None, description="divide by the weights; null: in linear and ties only")
    seed: int = 0

    @model_validator(mode="after")
    def _is_complete(self) -> Merge:
        if len(self.weights) != len(self.models):
            raise ValueError(f"{len(self.models)} models but {len(self.weights)} weights")
        check_thinning(self.method, self.density, self.rescale)
        return self


def check_thinning(method: Method, density: float, rescale: Rescale | None) -> None:
    """Density and rescale belong to the methods that drop entries, and there the rescale is written out."""
    if method not in THINNING and (density != 1 or rescale):
        raise ValueError(f"method {method} drops nothing: remove density and rescale, or take dare_linear")
    if method in THINNING and rescale is None:
        raise ValueError("say how the kept entries are rescaled: inverse_density, l1 or none")


class Bpc(Spec):
    """Bits per character of a data set's responses under a model (Eq. 3 of the paper)."""

    kind: ClassVar[str] = "bpc"
    model: Model
    data: Data
    precision: Precision = "bfloat16"

    @model_validator(mode="after")
    def _asks_in_one_way(self) -> Bpc:
        if len(found := systems(self.data)) > 1:
            raise ValueError(f"the rows have several system messages: {sorted(map(repr, found))}")
        return self


def systems(data: Data) -> set[str | None]:
    """The system messages of the rows that were made elsewhere; of data made here none, since `train` says it."""
    if isinstance(data, Mix):
        return {one for part in data.parts for one in systems(part.data)}
    return {data.system} if isinstance(data, SftData) else set()
