"""Specs: frozen nouns that say what an artifact is. Equal specs have equal digests and are one artifact.

A spec's fields are literals or other specs; a spec inside a spec is an edge of the plan. The digest covers the kind,
its version, the fields that differ from their defaults, and the digests of the children; nothing of where or how
fast it is made. Bump a kind's VERSION when its meaning changes.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from micota.errors import MicotaError
from micota.scoring import EXACT_VERSION, SEMANTIC_VERSION

GRADERS = {"semantic": SEMANTIC_VERSION, "exact_match": EXACT_VERSION}
Precision = Literal["bfloat16", "float16", "float32"]
DEFAULT_PROMPT = "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}."


class Value(BaseModel):
    """A frozen group of typed fields; unknown fields and wrong types are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Spec(Value):
    """One artifact, said in full. `digest` is its identity: 16 hexadecimal digits."""

    kind: ClassVar[str]
    VERSION: ClassVar[int] = 1

    @property
    def version(self) -> str:
        return str(self.VERSION)

    @cached_property
    def digest(self) -> str:
        return sha(self.identity({child.digest: child.digest for child in self.children}))

    @cached_property
    def children(self) -> tuple[Spec, ...]:
        """The specs this one refers to, in the order of the fields, each once."""
        found = {spec.digest: spec for name in type(self).model_fields for spec in _specs(getattr(self, name))}
        return tuple(found.values())

    @property
    def own_fields(self) -> dict[str, Any]:
        """The fields that differ from their defaults; children stand as {"$": digest}."""
        fields = {}
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            if info.is_required() or value != info.default:
                fields[name] = _plain(value, name)
        return fields

    def next(self, results: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...] | Choice | None:
        """The one dynamic rule: the specs to make next, or the choice among them; None for a spec that is a stage.

        Pure: `results` holds the facts of what was asked for before, by digest, and grows from round to round.
        """
        return None

    def identity(self, names: Mapping[str, str]) -> dict[str, Any]:
        """What a digest is taken over, with each child's digest replaced through `names`.

        With the children's *contents* as names this is the key of early cut-off: equal keys, equal artifacts.
        """
        return {"kind": self.kind, "version": self.version, "fields": _rename(self.own_fields, names)}


@dataclass(frozen=True)
class Choice:
    """The end of a dynamic spec: the spec whose artifact it is, why, and what the report shows of the search."""

    spec: Spec
    why: str
    facts: Mapping[str, Any] = field(default_factory=dict)


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


class Sampling(Value):
    """How tokens are drawn; without n, so that more samples join the same pool. Greedy drawing ignores the rest."""

    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, description="0 is off")
    max_tokens: int = Field(16_384, ge=1, description="new tokens at most, by the generating model's tokenizer")
    seed: int = 0
    stop: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="before")
    @classmethod
    def _greedy_is_one(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("temperature", 0):
            return {k: v for k, v in data.items() if k not in ("top_p", "top_k", "seed")}
        return data


class Prompt(Value):
    """The user turn made of a problem. `raw` sends it without the model's chat template."""

    template: str = Field(DEFAULT_PROMPT, description="`{problem}` stands for the problem's text")
    mode: Literal["chat", "raw"] = "chat"
    system: str | None = None

    @model_validator(mode="after")
    def _has_a_place(self) -> Prompt:
        if "{problem}" not in self.template:
            raise ValueError("the prompt has no {problem}: every problem would get the same text")
        return self


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


class Generate(Spec):
    """A model's answers to problems: samples 0 to n-1 of each."""

    kind: ClassVar[str] = "generate"
    model: Model
    problems: Problems
    prompt: Prompt = Prompt()
    sampling: Sampling = Sampling()
    n: int = Field(1, ge=1)
    precision: Precision = "bfloat16"
    trust_remote_code: bool = False

    @model_validator(mode="after")
    def _samples_differ(self) -> Generate:
        if self.n > 1 and self.sampling.temperature == 0:
            raise ValueError(f"n is {self.n} at temperature 0: all samples would be equal; set a temperature")
        return self

    def pool(self, model_content: str) -> str:
        """The id of the completion pool: model's content, precision, prompt and sampling, without n."""
        asked = {"prompt": _plain(self.prompt, "prompt"), "sampling": _plain(self.sampling, "sampling")}
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


class Part(Value):
    """One ingredient of a mixture: a data set and its share of the examples."""

    data: Data
    share: float = Field(gt=0, le=1)


class Mix(Spec):
    """Data sets mixed by share of examples, as Mix-Long does with 1:4."""

    kind: ClassVar[str] = "mix"
    parts: Annotated[tuple[Part, ...], Field(strict=False, min_length=1)]
    seed: int = 0


class Train(Spec):
    """A model fine-tuned on the responses of a data set: plain SFT, all parameters, AdamW."""

    kind: ClassVar[str] = "train"
    base: Model
    data: Data
    epochs: float = Field(2.0, gt=0)
    max_steps: int | None = Field(None, ge=1, description="optimizer steps, instead of epochs")
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


class Merge(Spec):
    """A weighted merge of fine-tuned models into their base, by task vectors."""

    kind: ClassVar[str] = "merge"
    base: Model
    models: Annotated[tuple[Model, ...], Field(strict=False, min_length=1)]
    method: Literal["linear", "dare_linear", "dare_ties"]
    weights: Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
    density: float = Field(1.0, gt=0, le=1)
    lambda_: float = Field(1.0, alias="lambda")
    rescale: Literal["inverse_density", "l1", "none"] | None = None
    normalize: bool = False
    seed: int = 0

    @model_validator(mode="after")
    def _is_complete(self) -> Merge:
        if len(self.weights) != len(self.models):
            raise ValueError(f"{len(self.models)} models but {len(self.weights)} weights")
        if self.method == "linear" and (self.density != 1 or self.rescale):
            raise ValueError("method linear drops nothing: remove density and rescale, or take dare_linear")
        if self.method != "linear" and self.rescale is None:
            raise ValueError("say how the kept entries are rescaled: inverse_density, l1 or none")
        return self


class Target(Value):
    """The length that the dial looks for, as a share of another model's mean response."""

    length: float = Field(gt=0)
    of: Model


class Probe(Value):
    """The problems on which the dial tries its candidates: never those of the evaluation."""

    data: Problems
    n: int = Field(200, ge=1)


class Dial(Spec):
    """The merge whose responses have the wanted length, found by trying weights on probe problems."""

    kind: ClassVar[str] = "dial"
    base: Model
    models: Annotated[tuple[Model, ...], Field(strict=False, min_length=1)]
    method: Literal["linear", "dare_linear", "dare_ties"]
    weight: Annotated[tuple[float, float], Field(strict=False)]
    target: Target
    probe: Probe
    density: float = Field(1.0, gt=0, le=1)
    rescale: Literal["inverse_density", "l1", "none"] | None = None
    max_loss: float = Field(0.02, ge=0)
    seed: int = 0


class Bpc(Spec):
    """Bits per character of a data set's responses under a model (Eq. 3 of the paper)."""

    kind: ClassVar[str] = "bpc"
    model: Model
    data: Data


Model = Source | Train | Merge | Dial
Data = Select | Mix
KINDS: dict[str, type[Spec]] = {
    cls.kind: cls for cls in (Source, Problems, Generate, Verify, Select, Mix, Train, Merge, Dial, Bpc)
}
for _cls in (Problems, Generate, Part, Mix, Train, Merge, Target, Dial, Bpc, Select, Verify):
    _cls.model_rebuild()


def walk(*roots: Spec) -> Iterator[Spec]:
    """Every spec below the roots, children before those that need them, each digest once."""
    seen: set[str] = set()
    stack: list[tuple[Spec, bool]] = [(spec, False) for spec in reversed(roots)]
    while stack:
        spec, ready = stack.pop()
        if ready:
            yield spec
        elif spec.digest not in seen:
            seen.add(spec.digest)
            stack.append((spec, True))
            stack += [(child, False) for child in reversed(spec.children)]


def to_json(spec: Spec) -> dict[str, Any]:
    """The spec with everything below it, each once and before what needs it, so that another process can read it."""
    nodes = []
    for node in walk(spec):
        fields = {name: _plain(getattr(node, name), name) for name in type(node).model_fields}
        nodes.append({"digest": node.digest, "kind": node.kind, "fields": fields})
    return {"specs": nodes}


def from_json(data: Mapping[str, Any]) -> Spec:
    """The inverse of `to_json`."""
    built: dict[str, Spec] = {}

    def build(value: Any) -> Any:
        if isinstance(value, dict):
            if set(value) == {"$"}:
                return built[value["$"]]
            return {key: build(item) for key, item in value.items()}
        return [build(item) for item in value] if isinstance(value, list) else value

    for node in data["specs"]:
        built[node["digest"]] = KINDS[node["kind"]](**build(node["fields"]))
    return built[data["specs"][-1]["digest"]]


def _specs(value: Any) -> Iterator[Spec]:
    if isinstance(value, Spec):
        yield value
    elif isinstance(value, Value):
        for name in type(value).model_fields:
            yield from _specs(getattr(value, name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _specs(item)


def _plain(value: Any, name: str) -> Any:
    """A field as canonical JSON data; what has no stable form is refused by name."""
    if isinstance(value, Spec):
        return {"$": value.digest}
    if isinstance(value, Value):
        fields = type(value).model_fields.items()
        shown = {n: getattr(value, n) for n, i in fields if i.is_required() or getattr(value, n) != i.default}
        return {n: _plain(v, f"{name}.{n}") for n, v in shown.items()}
    if isinstance(value, tuple):
        return [_plain(item, name) for item in value]
    if value is None or isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    raise MicotaError(f"'{name}' has no stable form: {value!r}", why="an artifact's identity must not change by itself")


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
