"""Mixtures of training data, fine-tuning on them, and what is measured of them under a model."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from micota.specs.chains import Precision
from micota.specs.sampling import Prompt, TemplateKwargs
from micota.specs.spec import Data, FrozenModel, Model, Spec


class MixtureComponent(FrozenModel):
    """One data set of a mixture and its share of the examples."""

    data: Data = Field(description="the data set")
    share: float = Field(gt=0, le=1, description="its share of the examples; all shares add up to 1")


class Mix(Data):
    """Data sets mixed by share of examples, as Mix-Long does with 1:4."""

    kind: ClassVar[str] = "mix"
    parts: Annotated[
        tuple[MixtureComponent, ...], Field(strict=False, min_length=1, description="the data sets with their shares")
    ]
    seed: int = Field(0, description="the random seed of the choice and order of examples")

    @model_validator(mode="after")
    def _is_whole(self) -> Mix:
        total = sum(part.share for part in self.parts)
        if abs(total - 1) > 1e-9:
            raise ValueError(f"the shares of the parts make {total:g}, not 1")
        return self

    @property
    def components(self) -> tuple[Data, ...]:
        """The data sets that are mixed; a mixture among them is taken apart."""
        return tuple(leaf for part in self.parts for leaf in part.data.components)

    @property
    def system_messages(self) -> frozenset[str | None]:
        """Those of all components."""
        return frozenset().union(*(part.data.system_messages for part in self.parts))


class Lora(FrozenModel):
    """Low-rank adapters instead of all parameters (Hu et al., arXiv 2106.09685); merged into the weights at the end."""

    rank: int = Field(16, ge=1, description="rank of each adapter")
    alpha: int = Field(32, ge=1, description="the adapter is scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input")
    targets: Annotated[tuple[str, ...], Field(strict=False)] = Field(
        (), description="the modules with adapters; all linear ones if empty"
    )
    quantize: Literal["nf4"] | None = Field(None, description="hold the frozen weights in 4 bits while training: QLoRA")


class FineTuned(Model):
    """What every fine-tuning with AdamW has, of all parameters or of adapters."""

    base: Model = Field(description="the model to fine-tune")
    batch: int = Field(32, ge=1, description="examples of each optimizer step, over all devices")
    lr: float = Field(1e-5, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="the learning-rate schedule")
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.01, ge=0, description="weight decay of AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    seed: int = Field(
        0, ge=0, lt=2**32, description="the random seed of the order of examples, of dropout, and of sampled answers"
    )
    precision: Precision = Field("bfloat16", description="the precision of weights and arithmetic")
    trust_remote_code: bool = Field(False, description="run Python code that the model's folder brings")
    lora: Annotated[Lora | None, Field(strict=False)] = Field(None, description="adapters instead of all parameters")

    @property
    def parents(self) -> tuple[Model, ...]:
        """The base."""
        return (self.base,)


class Train(FineTuned):
    """A model fine-tuned on the responses of a data set: plain SFT with AdamW, of all parameters or of adapters."""

    kind: ClassVar[str] = "train"
    data: Data = Field(description="the training data")
    epochs: float = Field(2.0, gt=0, description="passes over the data")
    max_steps: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
    target_tokens: int | None = Field(
        None, ge=1, description="response tokens to learn from, instead of epochs or max_steps"
    )
    cutoff: int = Field(16_384, ge=2, description="tokens of prompt and response; longer examples are dropped")
    system: str | None = Field(None, description="the system message; without it the chat template's own")
    template_kwargs: TemplateKwargs = Field(
        {}, description="keywords of the chat template, as those of `prompt` at generation"
    )
    packing: bool = Field(
        False, description="fill rows of `cutoff` tokens with whole examples that do not see each other"
    )
    held_out: int = Field(
        0, ge=0, description="examples to leave out of the training and to measure the held-out loss on"
    )

    @property
    def prompt(self) -> Prompt:
        """How its examples are put to the model: as a generation with this prompt would."""
        return Prompt(system=self.system, template_kwargs=self.template_kwargs)

    @model_validator(mode="after")
    def _ends_once(self) -> Train:
        if self.max_steps and self.target_tokens:
            raise ValueError(
                f"max_steps is {self.max_steps} and target_tokens is {self.target_tokens}: give one of the two"
            )
        return self

    @model_validator(mode="after")
    def _has_the_system_message_of_its_rows(self) -> Train:
        for message in self.data.system_messages:
            if message != self.system:
                raise ValueError(
                    f"the rows have the system message {message!r}, the training {self.system!r}: give both the same"
                )
        return self


class Scoring(FrozenModel):
    """How responses are scored under a model, and what is measured of them beside bits per character."""

    precision: Precision = Field("bfloat16", description="the precision of the weights")
    template_kwargs: TemplateKwargs = Field(
        {}, description="keywords of the chat template through which the prompts go"
    )
    system: str | None = Field(
        None, description="the system message of rows made here, as `train` has it; rows from elsewhere have their own"
    )
    rsr: bool = Field(False, description="the rank-surprisal ratio too (arXiv 2601.14249): ranks, clipped at 100")
    local: int | None = Field(
        None,
        ge=1,
        description="the log-probability of each step too, given only so many steps before it (arXiv 2510.03988)",
    )
    step_end: str = Field("\n", min_length=1, description="of `local`: a step ends with the token that holds this text")
    local_steps: int | None = Field(
        None, ge=1, description="of `local`: at most so many steps of each response, evenly spread; all without it"
    )
    context: int | None = Field(
        None, ge=1, description="the share of tokens too that lie beyond so many, as the model was trained with"
    )

    @model_validator(mode="after")
    def _steps_are_read(self) -> Self:
        for name in ("step_end", "local_steps"):
            if self.local is None and name in self.stated:
                raise ValueError(
                    f"{name} belongs to `local`: say how many steps before a step are read, or leave it out"
                )
        return self


class Bpc(Spec, Scoring):
    """Bits per character of a data set's responses under a model (Eq. 3 of the paper), and measures of learnability."""

    kind: ClassVar[str] = "bpc"
    model: Model = Field(description="the model")
    data: Data = Field(description="the data set whose responses are scored")
    gradient: Data | None = Field(
        None, description="the cosine of this data's gradient with that of another data set too, of 128 responses each"
    )

    @model_validator(mode="after")
    def _has_one_system_message(self) -> Bpc:
        messages = self.data.system_messages | (self.gradient.system_messages if self.gradient else frozenset())
        messages |= {self.system} if self.system is not None else frozenset()
        if len(messages) > 1:
            raise ValueError(f"the rows have several system messages: {sorted(map(repr, messages))}")
        return self


By = Annotated[
    Literal["rsr", "local", "bpc", "beyond", "tokens"],
    Field(
        description="the measure, and which end is preferred: rank-surprisal ratio (`rsr`, lowest), log-probability of "
        "a step given `local` steps before it (`local`, highest), bits per character (`bpc`, lowest), share of tokens "
        "beyond `context` (`beyond`, lowest), or tokens, the control for length (`tokens`, fewest)"
    ),
]


def check_measured(by: str, scoring: Scoring) -> None:
    """Refuse, with a ValueError, a measure for which the scoring lacks a field."""
    if by == "local" and scoring.local is None:
        raise ValueError("say how many steps before a step are read, such as local: 3")
    if by == "beyond" and scoring.context is None:
        raise ValueError("say how many tokens the model was trained with, such as context: 4096")


class SelectBy(Data):
    """The share of a data set whose responses have the lowest measure under a model; of `local` the highest."""

    kind: ClassVar[str] = "filter"
    measure: Bpc = Field(description="the measures of all responses, ranks among them")
    by: By = "rsr"
    keep: float = Field(gt=0, lt=1, description="the share of the responses that is kept, from the preferred end")

    @model_validator(mode="after")
    def _is_measured(self) -> SelectBy:
        check_measured(self.by, self.measure)
        return self

    @property
    def stage_kinds(self) -> tuple[str, ...]:
        """A selection, as that of verified answers."""
        return ("select",)

    @property
    def components(self) -> tuple[Data, ...]:
        """Those of the data that is selected from."""
        return self.measure.data.components

    @property
    def system_messages(self) -> frozenset[str | None]:
        """Those of the data that is selected from."""
        return self.measure.data.system_messages

    @property
    def writer(self) -> Model | None:
        """That of the data that is selected from."""
        return self.measure.data.writer
