"""What a spec is: frozen fields, children, and a digest that is its identity."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict

from micota.errors import MicotaError


class FrozenModel(BaseModel):
    """A frozen group of typed fields; unknown fields and wrong types are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, populate_by_name=True, hide_input_in_errors=True
    )

    @property
    def stated(self) -> dict[str, Any]:
        """The fields that are required or differ from their defaults, with their values."""
        fields = type(self).model_fields.items()
        return {n: getattr(self, n) for n, info in fields if info.is_required() or getattr(self, n) != info.default}

    def changed(self, **fields: Any) -> Self:
        """The same with some fields changed, checked as if it were made anew."""
        return type(self)(**{**{name: getattr(self, name) for name in type(self).model_fields}, **fields})


class Spec(FrozenModel):
    """One artifact, said in full. `digest` is its identity: 16 hexadecimal digits."""

    kind: ClassVar[str]
    VERSION: ClassVar[int] = 1
    source_type: ClassVar[Literal["model", "dataset"]] = "model"
    """What a source among the children is."""

    def __repr__(self) -> str:
        """The stated fields; specs below stand by their names or ids, so that it fits on a line."""
        return _stated(self)

    __str__ = __repr__

    @property
    def version(self) -> str:
        """The version of the kind's meaning, a part of identity."""
        return str(self.VERSION)

    @property
    def id(self) -> str:
        """The name of the artifact: KIND-DIGEST."""
        return f"{self.kind}-{self.digest}"

    @property
    def made_elsewhere(self) -> bool:
        """Whether no stage makes it: a model or data set of the Hub, a folder, a file."""
        return False

    @property
    def stage_kinds(self) -> tuple[str, ...]:
        """The kinds whose settings in the machine profile apply, the nearest first."""
        return (self.kind,)

    @property
    def server(self) -> str | None:
        """The word for which a machine profile may name a server that answers in the model's place."""
        return None

    def reads(self, answered: bool) -> tuple[Spec, ...]:
        """The inputs whose files a run needs; `answered` says that the pool has every completion."""
        return self.children

    def locks(self, pool: Callable[[Any], str]) -> tuple[str, ...]:
        """The names that a run holds while it makes this, so that two runs never write the same files.

        `pool` gives the id of the pool that a generation fills.
        """
        return (self.id,)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits: the identity of the artifact."""
        return sha(self.identity({child.digest: child.digest for child in self.children}))

    @cached_property
    def children(self) -> tuple[Spec, ...]:
        """The specs this one refers to, in the order of the fields, each once."""
        found = {spec.digest: spec for name in type(self).model_fields for spec in _specs(getattr(self, name))}
        return tuple(found.values())

    @property
    def own_fields(self) -> dict[str, Any]:
        """The fields that differ from their defaults; children stand as {"$": digest}."""
        return {name: plain(value, name) for name, value in self.stated.items()}

    def next(self, results: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...] | Choice | None:
        """The one dynamic rule: the specs to make next, or the choice among them; None for a spec that is a stage.

        Pure: `results` holds the facts of what was asked for before, by digest, and grows from round to round.
        """
        return None

    def warning(self, facts: Mapping[str, Any]) -> str | None:
        """What a user must know of a finished artifact with these facts, if anything."""
        return None

    @property
    def needs(self) -> tuple[Spec, ...]:
        """The children and, of a search, what it asks for as long as it has no results."""
        asked = self.next({})
        return (*self.children, *asked) if isinstance(asked, tuple) else self.children

    def identity(self, names: Mapping[str, str]) -> dict[str, Any]:
        """What a digest is taken over, with each child's digest replaced through `names`.

        With the children's *contents* as names this is the key of early cut-off: equal keys, equal artifacts.
        """
        return {"kind": self.kind, "version": self.version, "fields": _rename(self.own_fields, names)}


class Model(Spec):
    """A model: made elsewhere, pre-trained, fine-tuned or merged. Its artifact is a Hugging Face folder."""

    @property
    def parents(self) -> tuple[Model, ...]:
        """The models whose weights this one is made of, the base first; () for weights from elsewhere or fresh ones."""
        return ()

    @property
    def origin(self) -> Model:
        """The model at the bottom of all bases: only a stack changes its shape, and nothing its tokenizer."""
        return self.parents[0].origin if self.parents else self

    @property
    def stacked(self) -> int | None:
        """The layers of the last stack that it comes from; None where it has those of its origin."""
        return self.parents[0].stacked if self.parents else None


class Data(Spec):
    """Training data: rows of a prompt and a response."""

    @property
    def components(self) -> tuple[Data, ...]:
        """The data sets that this one is mixed of; itself if it is no mixture."""
        return (self,)

    @property
    def system_messages(self) -> frozenset[str | None]:
        """The system messages that rows made elsewhere have; none for rows made here, where `train` says it."""
        return frozenset()

    @property
    def writer(self) -> Model | None:
        """The model that wrote the responses; None for a mixture and for rows made elsewhere."""
        return None


class ProblemSet(Spec):
    """Problems with their reference answers; each kind says where they come from and how they are graded."""

    if TYPE_CHECKING:

        @property
        def source(self) -> Any: ...
        @property
        def benchmark(self) -> str | None: ...
        @property
        def choices(self) -> str | tuple[str, ...] | None: ...


@dataclass(frozen=True)
class Choice:
    """The end of a dynamic spec: the spec whose artifact it is, why, and what the report shows of the search."""

    spec: Spec
    why: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def _specs(value: Any) -> Iterator[Spec]:
    if isinstance(value, Spec):
        yield value
    elif isinstance(value, FrozenModel):
        for name in type(value).model_fields:
            yield from _specs(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _specs(item)


def plain(value: Any, name: str) -> Any:
    """A field as canonical JSON data; what has no stable form is refused by name."""
    if isinstance(value, Spec):
        return {"$": value.digest}
    if isinstance(value, FrozenModel):
        return {n: plain(v, f"{name}.{n}") for n, v in value.stated.items()}
    if isinstance(value, tuple):
        return [plain(item, name) for item in value]
    if isinstance(value, Mapping):
        return {key: plain(item, f"{name}.{key}") for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise MicotaError(f"'{name}' has no stable form: {value!r}", why="an artifact's identity must not change by itself")


def _stated(value: FrozenModel) -> str:
    return f"{type(value).__name__}({', '.join(f'{n}={_brief(field)}' for n, field in value.stated.items())})"


def _brief(value: Any) -> str:
    if isinstance(value, Spec):
        return repr(value) if value.made_elsewhere else value.id
    if isinstance(value, tuple):
        return f"[{', '.join(map(_brief, value))}]"
    return _stated(value) if isinstance(value, FrozenModel) else repr(value)


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$"}:
            return {"$": names[value["$"]]}
        return {key: _rename(item, names) for key, item in value.items()}
    return [_rename(item, names) for item in value] if isinstance(value, list) else value


def sha(data: Any) -> str:
    """16 hexadecimal digits over the canonical JSON of plain data."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
