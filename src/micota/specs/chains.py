"""Chains of thought: a model's answers to problems, the verdicts on them, and the answers that become training data."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from micota.grading import CHOICE_VERSION, EXACT_VERSION, JUDGE_VERSION, SEMANTIC_REVISION, SEMANTIC_VERSION
from micota.specs.sampling import Prompt, PromptField, Sampling, SamplingField
from micota.specs.sources import Source
from micota.specs.spec import Choice, Data, Model, ProblemSet, Spec, plain, sha

GRADERS = {"semantic": SEMANTIC_VERSION, "exact_match": EXACT_VERSION, "choice": CHOICE_VERSION}
GRADER = (
    "the grader: semantic, exact_match, choice (for problems with `choices`), or one of your own: "
    "`package.module:function`"
)
Precision = Literal["bfloat16", "float16", "float32"]


class Generate(Spec):
    """A model's answers to problems: samples 0 to n-1 of each problem.

    With `unless` the last sample is drawn only for problems for which those verdicts on the earlier samples have no
    correct and whole answer.
    """

    kind: ClassVar[str] = "generate"
    model: Model = Field(description="the model that answers")
    problems: ProblemSet = Field(description="the problem set")
    prompt: PromptField = Field(Prompt(), description="the user message; a string is its template")
    sampling: SamplingField = Field(Sampling(), description="temperature, length and stop strings")
    n: int = Field(1, ge=1, description="samples of each problem")
    precision: Precision = Field("bfloat16", description="the precision of the weights; it decides the digest")
    trust_remote_code: bool = Field(False, description="run Python code that the model's folder brings")
    unless: Verify | None = Field(None, description="verdicts on the earlier samples, set by `until: verified`")

    @model_validator(mode="after")
    def _samples_differ(self) -> Generate:
        assert self.unless is None or self.unless.completions.n == self.n - 1, "one more sample than is graded"
        if self.n > 1 and self.sampling.temperature == 0:
            raise ValueError(f"n is {self.n} at temperature 0: all samples would be equal; set a temperature")
        return self

    @property
    def server(self) -> str | None:
        """The reference of a model made elsewhere: the profile may name a server for it."""
        return self.model.ref if isinstance(self.model, Source) else None

    @property
    def questions(self) -> tuple[Spec, ...]:
        """The inputs that say what is asked; the model is not among them."""
        return (self.problems, self.unless) if self.unless else (self.problems,)

    def reads(self, answered: bool) -> tuple[Spec, ...]:
        """The model's files are needed only if the pool lacks a completion."""
        return self.questions if answered else self.children

    def locks(self, pool: Callable[[Any], str]) -> tuple[str, ...]:
        """The artifact, and the pool of completions that it fills."""
        return (self.id, f"pool-{pool(self)}")

    def pool(self, model_content: str, fake: bool = False) -> str:
        """The id of the completion pool: the model's content, precision, prompt and sampling, without n.

        Invented answers, those of a `fake`, have a pool of their own.
        """
        settings = {"prompt": plain(self.prompt, "prompt"), "sampling": plain(self.sampling, "sampling")}
        settings |= {"precision": self.precision, "trust_remote_code": self.trust_remote_code}
        return ("fake-" if fake else "") + sha({"pool": self.version, "model": model_content, **settings})


class _Graded(Spec):
    """What is graded by one grader, whose version is a part of identity."""

    @property
    def version(self) -> str:
        """The kind's version and that of its grader."""
        versions = {**GRADERS, "judge": JUDGE_VERSION}
        return f"{self.VERSION}.{versions.get(getattr(self, 'by', ''), 0)}"

    @model_validator(mode="after")
    def _is_a_grader(self) -> Self:
        graded: Any = self
        by, problems = graded.by, graded.completions.problems
        if (by == "judge") != (getattr(self, "judged", None) is not None):
            raise ValueError("a judge is a model: by: {judge: {model: NAME}}, in verify, distill and evaluate")
        if by not in (*GRADERS, "judge") and not re.fullmatch(r"[\w.]+:\w+", by):
            raise ValueError(f"'{by}' is no grader: {', '.join(GRADERS)}, or package.module:function")
        if by == "choice" and not problems.choices:
            raise ValueError(f"choice grades options, and {problems.source.ref} has none: name them with `choices`")
        return self


class Verify(_Graded):
    """A verdict on each answer: correct, wrong, no_answer or unverifiable. On a benchmark this is the evaluation."""

    kind: ClassVar[str] = "verify"
    problems: ProblemSet = Field(description="the problem set with the reference answers")
    completions: Generate = Field(description="the answers to grade")
    by: str = Field("semantic", description=GRADER)
    grader: Source | None = Field(None, description="the file of a grader of your own; its content decides the digest")
    judged: Generate | None = Field(None, description="of `judge`: the replies of the model that judges")

    def warning(self, facts: Mapping[str, Any]) -> str | None:
        """Verdicts that an accident left open, or that an older grader gave."""
        if facts.get("accidents"):
            return f"grading processes died over {facts['accidents']} answers; the next run grades these again"
        if self.by == "semantic" and facts.get("revision", 1) < SEMANTIC_REVISION:
            return f"graded by an older semantic grader; `micota forget {self.id}` and a new run grade again"
        return None


class Select(Data):
    """The verified answers that become training data; every drop is counted by its reason (Eq. 1 of the paper)."""

    kind: ClassVar[str] = "select"
    completions: Generate = Field(description="the answers")
    verdicts: Verify = Field(description="the verdicts on them")
    keep: Literal["correct", "all"] = Field(
        "correct", description="which answers become training data: the correct ones or all"
    )
    max_tokens: int | None = Field(None, ge=1, description="drop longer responses (L_max)")
    duplicates: Literal["drop", "keep"] = Field("drop", description="what to do with rows of equal prompt and response")

    @property
    def writer(self) -> Model:
        """The model that answered."""
        return self.completions.model

    def warning(self, facts: Mapping[str, Any]) -> str | None:
        """Data of which little was kept."""
        kept, answers = facts.get("kept", 0), facts.get("answers", 0)
        return f"only {kept} of {answers} answers were kept as training data" if 5 * kept < answers else None


class RejectionSampling(Data, _Graded):
    """Training data for which each problem is sampled again until an answer is verified, `at_most` times.

    A dynamic spec: each round samples once more only the problems that have no verified answer yet.
    """

    kind: ClassVar[str] = "redraw"
    completions: Generate = Field(description="the first sample of each problem")
    at_most: int = Field(ge=2, description="the most samples of a problem")
    by: str = Field("semantic", description=GRADER)
    grader: Source | None = Field(None, description="the file of a grader of your own; its content decides the digest")
    duplicates: Literal["drop", "keep"] = Field("drop", description="what to do with rows of equal prompt and response")

    @model_validator(mode="after")
    def _draws(self) -> RejectionSampling:
        if self.completions.sampling.temperature == 0:
            raise ValueError("until: verified samples again at temperature 0: it would get the same; set a temperature")
        return self

    @property
    def writer(self) -> Model:
        """The model that answered."""
        return self.completions.model

    def next(self, results: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...] | Choice | None:
        """The verdicts to make next; once no problem is left, or after the last round, the rows they select."""
        unsolved: list[int] = []
        graded: Verify | None = None
        for number in range(self.at_most):
            graded = self._round(number, graded)
            if graded.digest not in results:
                return (graded,)
            facts = results[graded.digest]
            unsolved.append(int(facts.get("unsolved", facts["rows"])))  # verdicts of an older version do not say
            if not unsolved[-1]:
                break
        assert graded is not None
        rows = Select(completions=graded.completions, verdicts=graded, duplicates=self.duplicates)
        why = f"{len(unsolved)} rounds, {unsolved[-1]} problems without a verified answer"
        return Choice(rows, why, {"left": unsolved})

    def _round(self, number: int, before: Verify | None) -> Verify:
        """The verdicts on all samples up to one number."""
        answers = self.completions.changed(n=number + 1, unless=before) if before else self.completions
        return Verify(problems=answers.problems, completions=answers, by=self.by, grader=self.grader)
