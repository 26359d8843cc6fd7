"""On-policy distillation: a student learns a teacher's distribution at every token of its own answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from micota.specs.fine_tuning import FineTuned
from micota.specs.sampling import Prompt, PromptField, Sampling
from micota.specs.sources import Problems
from micota.specs.spec import Data, Model, sha

BETA: Mapping[str, float] = {"forward_kl": 0.0, "jsd": 0.5, "reverse_kl": 1.0}
"""The divergences by beta of the generalised Jensen-Shannon divergence (Agarwal et al., arXiv 2306.13649, Eq. 1)."""


class OnPolicyDistillation(FineTuned):
    """A model that was distilled on-policy: it answers, and at each token of its answer the divergence between its
    next-token distribution and a teacher's is lowered (Agarwal et al., arXiv 2306.13649).

    With `data` and `on_policy: 0` the responses of rows stand in its answers' place: with `forward_kl` these are
    token-level targets on a teacher's chains.
    """

    kind: ClassVar[str] = "opd"
    teacher: Model = Field(description="the model whose next-token distribution is learnt")
    problems: Problems | None = Field(None, description="the problems that the model answers while it is trained")
    data: Data | None = Field(
        None, description="instead of problems: training data, whose responses are learnt on too, as `on_policy` says"
    )
    on_policy: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the steps that learn on the model's own answers; below 1 with `data` only",
    )
    prompt: PromptField = Field(Prompt(), description="the user message of a problem; a string is its template")
    divergence: Literal["reverse_kl", "forward_kl", "jsd"] = Field(
        "reverse_kl",
        description="KL from the student to the teacher, KL from the teacher to the student, or Jensen-Shannon's",
    )
    top_k: int | None = Field(
        None,
        ge=1,
        description="of `forward_kl` on `data`: the teacher scores each response once and its likeliest tokens are "
        "kept, so many at each place, with all others as one; it is not there while the model is trained",
    )
    temperature: float = Field(
        1.0,
        ge=0.01,
        le=100,
        description="the temperature at which answers are sampled; both distributions are divided by it too",
    )
    max_tokens: int = Field(
        2048, ge=1, description="the most tokens of an answer; rows of `data` with longer responses are dropped"
    )
    steps: int = Field(200, ge=1, description="optimizer steps")
    batch: int = Field(64, ge=1, description="answers of each optimizer step, over all devices")
    lr: float = Field(1e-6, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "linear", "constant"] = Field("constant", description="the learning-rate schedule")

    @property
    def sampling(self) -> Sampling:
        """How its answers are sampled."""
        return Sampling(temperature=self.temperature, max_tokens=self.max_tokens, seed=self.seed)

    def targets(self, teacher: str, vocabulary: int) -> str:
        """The id of the table that keeps a teacher's likeliest tokens: that of its content, precision, temperature and
        `top_k`, and of how many rows of its vocabulary count."""
        fields = {name: getattr(self, name) for name in ("precision", "temperature", "top_k", "trust_remote_code")}
        return sha({"targets": 1, "teacher": teacher, "vocabulary": vocabulary, **fields})

    @property
    def stage_kinds(self) -> tuple[str, ...]:
        """Where the machine profile says nothing of its own, it is run as trainings are."""
        return (self.kind, "train")

    @model_validator(mode="after")
    def _has_a_source_of_answers(self) -> OnPolicyDistillation:
        if (self.problems is None) == (self.data is None):
            raise ValueError(
                "give one of the two: problems, which the model answers, or data, whose rows have responses"
            )
        if self.problems and self.on_policy < 1:
            raise ValueError(
                f"on_policy is {self.on_policy:g}, and problems have no responses: give data in their place"
            )
        if self.data and self.on_policy == 1:
            raise ValueError(
                "on_policy is 1: the responses of data are never read; give problems, or a smaller on_policy"
            )
        if self.data and self.prompt.template != Prompt().template:
            raise ValueError("the rows of data have user messages of their own: leave the prompt's template out")
        if self.data and self.prompt.mode == "raw":
            raise ValueError("the rows of data go through the chat template: leave mode: raw out")
        for message in self.data.system_messages if self.data else ():
            if message != self.prompt.system:
                raise ValueError(
                    f"the rows have the system message {message!r}, prompt.system is {self.prompt.system!r}"
                )
        return self

    @model_validator(mode="after")
    def _keeps_what_it_can_look_up(self) -> OnPolicyDistillation:
        if self.top_k and (self.problems or self.on_policy):
            raise ValueError("top_k keeps the teacher's tokens for responses that are there: give data, on_policy: 0")
        if self.top_k and self.divergence != "forward_kl":
            raise ValueError(
                f"over its likeliest tokens only the KL from the teacher is near the whole one, not {self.divergence}: "
                "divergence: forward_kl, or leave top_k out"
            )
        return self

    @model_validator(mode="after")
    def _has_something_to_learn(self) -> OnPolicyDistillation:
        if self.teacher == self.base:
            raise ValueError("teacher and base are the same model: there is nothing to learn")
        if self.lora and "lm_head" in self.lora.targets:
            raise ValueError("an adapter on lm_head would learn nothing: the loss reads its weights without it")
        return self
