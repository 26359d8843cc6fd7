"""What a recipe is given: models and data that were made elsewhere, and problem sets read from such data."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from micota.specs.spec import Spec


class Source(Spec):
    """A model or data set made elsewhere: a Hub id, a folder or file, or `lab:NAME`.

    `revision` is the Hub's commit, or the hash of a local folder's content; of a local one only that is identity.
    `path` says where a local one lies.
    """

    kind: ClassVar[str] = "source"
    ref: str
    revision: str | None = None
    path: str | None = None

    @property
    def own_fields(self) -> dict[str, Any]:
        return {"content": self.revision} if self.path else {"ref": self.ref, "revision": self.revision}


class Problems(Spec):
    """A set of problems with their gold answers; exact duplicates are dropped and counted."""

    kind: ClassVar[str] = "problems"
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
