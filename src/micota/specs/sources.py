"""Models and data made elsewhere, and the problem sets and training data that are read from them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from micota.errors import MicotaError
from micota.specs.spec import Data, FrozenModel, Model, ProblemSet


class Source(Model):
    """A model or data set made elsewhere: a Hub id, a folder or file, or `lab:NAME`.

    `revision` is the Hub's commit, or the hash of a local folder's content; of a local one only that is identity.
    `path` says where a local one lies.
    """

    kind: ClassVar[str] = "source"
    ref: str = Field(description="the Hub id, path or `lab:NAME` as it was written")
    revision: str | None = Field(
        None, description="the Hub's commit, or the hash of a local folder's or file's content"
    )
    path: str | None = Field(None, description="where a local folder or file lies")

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
    """A set of problems with their reference answers; exact duplicates are dropped and counted."""

    kind: ClassVar[str] = "problems"
    source_type: ClassVar[Literal["model", "dataset"]] = "dataset"
    source: Source = Field(description="a Hub id, a JSONL, CSV or Parquet file, `lab:arithmetic` or `lab:dates`")
    config: str | None = Field(None, description="the configuration of the data set on the Hub")
    split: str | None = Field(None, description="the split to read")
    problem: str = Field("problem", description="the column with the text of the problem")
    answer: str = Field("answer", description="the column with the reference answer")
    choices: str | Annotated[tuple[str, ...], Field(strict=False)] | None = Field(
        None,
        description="of multiple choice, the column with a list of options, or the columns with one each; `answer` is "
        "then the letter, the number (from 0) or the text of the right one",
    )
    shuffle: int | None = Field(
        None, description="the random seed that shuffles the options of each problem; without it they stay as they are"
    )
    n: int | None = Field(None, ge=1, description="how many problems to take; all of them without it")
    skip: int = Field(0, ge=0, description="how many problems to leave out at the beginning")
    seed: int = Field(
        0, description="the random seed of problems that a program writes (`lab:arithmetic`, `lab:dates`)"
    )
    benchmark: str | None = Field(None, description="the benchmark whose columns and answer extraction to use")
    decontaminate: Literal["report", "drop"] | None = Field(
        None, description="count the problems that also stand in `against`, or drop them"
    )
    against: Annotated[tuple[Problems, ...], Field(strict=False)] = Field(
        (),
        description="the problem sets to compare with; the paper's five benchmarks if `decontaminate` is set "
        "without it",
    )

    @model_validator(mode="after")
    def _has_something_to_shuffle(self) -> Problems:
        if self.shuffle is not None and not self.choices:
            raise ValueError("shuffle orders the options of multiple choice: name their column with `choices`")
        return self

    def take(self, n: int) -> Subset:
        """The first n problems, as a probe or a smaller problem set: `mc.dial(..., probe=problems.take(200))`."""
        if type(n) is not int or n < 1:
            raise MicotaError(f"take({n!r:.80}): a whole number from 1 on is expected here", fix="problems.take(200)")
        return Subset(data=self, n=n)


class Subset(FrozenModel):
    """The first n problems of a problem set."""

    data: Problems = Field(description="the problem set")
    n: int = Field(ge=1, description="how many problems to take")

    @property
    def problems(self) -> Problems:
        """The subset as a problem set of its own."""
        return self.data.changed(n=self.n if self.data.n is None else min(self.n, self.data.n))


class SftData(Data):
    """Training data that was made elsewhere: a prompt and its response in each row.

    Without names of columns they are found by the usual ones: chats (`messages`), prompt and response, instruction and
    output. Exact duplicates and rows without a response are dropped and counted.
    """

    kind: ClassVar[str] = "rows"
    source_type: ClassVar[Literal["model", "dataset"]] = "dataset"
    source: Source = Field(description="a Hub id, or a JSONL, CSV or Parquet file")
    config: str | None = Field(None, description="the configuration of the data set on the Hub")
    split: str | None = Field(None, description="the split to read")
    prompt: str | None = Field(None, description="the column with the user message")
    response: str | None = Field(None, description="the column with the response")
    messages: str | None = Field(None, description="the column with chats of one question and one answer")
    template: str = Field(
        "{problem}", description="the user message; `{problem}` stands for the text of the prompt column"
    )
    system: str | None = Field(None, description="the system message of all rows; `train` needs the same")
    duplicates: Literal["drop", "keep"] = Field("drop", description="what to do with rows of equal prompt and response")

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
