"""Models and data made elsewhere, and the problem sets and training data that are read from them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from micota.specs.spec import Data, FrozenModel, Model, ProblemSet


class Source(Model):
    """A model or data set made elsewhere: a Hub id, a folder or file, or `lab:NAME`.

    `revision` is the Hub's commit, or the hash of a local folder's content; of a local one only that is identity.
    `path` says where a local one lies.
    """

    kind: ClassVar[str] = "source"
    ref: str
    revision: str | None = None
    path: str | None = None

    def __repr__(self) -> str:
        return f"Source({self.ref!r})"

    @property
    def made_elsewhere(self) -> bool:
        """True: no stage makes it."""
        return True

    @property
    def own_fields(self) -> dict[str, Any]:
        """A local source is its content, one of the Hub its name and commit."""
        return {"content": self.revision} if self.path else {"ref": self.ref, "revision": self.revision}


class Problems(ProblemSet):
    """A set of problems with their gold answers; exact duplicates are dropped and counted."""

    kind: ClassVar[str] = "problems"
    source_type: ClassVar[Literal["model", "dataset"]] = "dataset"
    source: Source
    config: str | None = None
    split: str | None = None
    problem: str = Field("problem", description="the column that holds the text")
    answer: str = Field("answer", description="the column that holds the gold answer")
    n: int | None = Field(None, ge=1, description="the first n only")
    skip: int = Field(0, ge=0)
    seed: int = Field(0, description="of a world that makes its problems (lab:arithmetic)")
    benchmark: str | None = Field(None, description="the benchmark whose rules of extraction hold")
    decontaminate: Literal["report", "drop"] | None = Field(None, description="what to do with problems of `against`")
    against: Annotated[tuple[Problems, ...], Field(strict=False)] = ()

    def take(self, n: int) -> Subset:
        """The first n problems, as a probe or a smaller problem set: `mc.dial(..., probe=problems.take(200))`."""
        return Subset(data=self, n=n)


class Subset(FrozenModel):
    """The first n problems of a problem set."""

    data: Problems
    n: int = Field(ge=1)

    @property
    def problems(self) -> Problems:
        """The subset as a problem set of its own."""
        return self.data.changed(n=self.n)


class SftData(Data):
    """Training data that was made elsewhere: a prompt and its response in each row.

    Without names of columns they are found by the usual ones: chats (`messages`), prompt and response, instruction and
    output. Exact duplicates and rows without a response are dropped and counted.
    """

    kind: ClassVar[str] = "rows"
    source_type: ClassVar[Literal["model", "dataset"]] = "dataset"
    source: Source
    config: str | None = None
    split: str | None = None
    prompt: str | None = Field(None, description="the column that holds the user message")
    response: str | None = Field(None, description="the column that holds the answer")
    messages: str | None = Field(None, description="the column that holds chats of one question and one answer")
    template: str = Field("{problem}", description="the user message; `{problem}` stands for the prompt's text")
    system: str | None = Field(None, description="the system message of all rows; `train` needs the same")
    duplicates: Literal["drop", "keep"] = "drop"

    @model_validator(mode="after")
    def _has_one_form(self) -> SftData:
        if (self.prompt is None) != (self.response is None):
            raise ValueError("name both columns, `prompt` and `response`, or neither")
        if self.prompt and self.messages:
            raise ValueError("give `messages`, or `prompt` and `response`, not all three")
        if "{problem}" not in self.template:
            raise ValueError("the template has no {problem}: every row would get the same prompt")
        return self

    @property
    def system_messages(self) -> frozenset[str | None]:
        """The one system message that all rows have."""
        return frozenset([self.system])
