"""Models that are asked about responses: what they read, and the chains that a model has rewritten."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from pydantic import Field, model_validator

from micota.specs.chains import Generate, RejectionSampling, Select
from micota.specs.spec import Data, Model, ProblemSet

REWRITE = """Problem:
{problem}

Solution:
{response}

Write this solution again, as short as it can be: keep every step that the next ones need, and leave out repetitions, \
detours and checks. Put the final answer within \\boxed{}. Write nothing but the solution."""
"""What a model reads that is to shorten a solution."""
_PLACES = re.compile(r"\{(problem|response|gold)\}")


class Inquiry(ProblemSet):
    """A text about each response, out of the problem, the response and the reference answer, for a model to answer.

    Its problems are these texts, each once; their reference answers are those of the problems.
    """

    kind: ClassVar[str] = "inquiry"
    responses: Generate | Select | RejectionSampling = Field(description="the responses that are asked about")
    problems: ProblemSet = Field(description="the problems that they respond to")
    template: str = Field(description="the text; `{problem}`, `{response}` and `{gold}` stand for what it is about")

    @model_validator(mode="after")
    def _is_about_responses(self) -> Inquiry:
        if "{response}" not in self.template:
            raise ValueError("the prompt has no {response}: the model would not see what it is asked about")
        return self

    @property
    def source(self) -> Any:
        """Where the problems come from."""
        return self.problems.source

    @property
    def benchmark(self) -> str | None:
        """The benchmark whose rules of extraction hold."""
        return self.problems.benchmark

    @property
    def choices(self) -> str | tuple[str, ...] | None:
        """The options' columns of multiple choice."""
        return self.problems.choices

    def text(self, **parts: str) -> str:
        """The text about a response; what stands in braces inside a problem or a response stays as it is."""
        return _PLACES.sub(lambda place: parts[place[1]], self.template)


class Rewrite(Data):
    """Chains as a model has written them again, those that are still correct, with the prompts of the chains."""

    kind: ClassVar[str] = "rewrite"
    data: Data = Field(description="the verified chains")
    inquiry: Inquiry = Field(description="what the model reads")
    rewritten: Select = Field(description="its responses that are correct")

    @property
    def writer(self) -> Model:
        """The model that wrote them again."""
        return self.rewritten.completions.model
