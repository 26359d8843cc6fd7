"""How many tokens each stage reads and writes: measured where the store knows, else assumed by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from micota.costs import assumptions
from micota.costs import measurements as measured
from micota.costs.shapes import origin
from micota.costs.spans import Span, known, total
from micota.specs import (
    Data,
    Generate,
    LengthDial,
    Merge,
    MergeSearch,
    Mix,
    Model,
    Pretrain,
    Problems,
    RejectionSampling,
    Select,
    SftData,
    Source,
    Spec,
    Train,
    Verify,
)
from micota.specs import dial_policy as choosing
from micota.store.artifacts import Store


@dataclass(frozen=True)
class Texts:
    """So many texts, each with a prompt and a response of so many tokens; `basis` names what that rests on."""

    number: Span
    prompt: Span
    response: Span
    basis: tuple[str, ...] = ()

    @property
    def read(self) -> Span:
        return self.number * self.prompt

    @property
    def written(self) -> Span:
        return self.number * self.response

    @property
    def whole(self) -> Span:
        """Tokens of prompt and response together."""
        return self.number * (self.prompt + self.response)


class Lengths:
    """Lengths of the texts of a recipe. What one stage has measured of a model holds for its other stages."""

    def __init__(self, store: Store, specs: Iterable[Spec]) -> None:
        self._store = store
        self._answers: dict[str, Texts] = {}
        self._data: dict[str, Texts] = {}
        asked = [one for one in specs if isinstance(one, Generate)]
        self._seen = {one.digest: seen for one in asked if (seen := measured.answers(store, one))}
        self._of_model = {one.model.digest: self._seen[one.digest] for one in asked if one.digest in self._seen}

    def seen(self, spec: Generate) -> measured.Seen | None:
        return self._seen.get(spec.digest)

    def problems(self, spec: Problems) -> tuple[Span, tuple[str, ...]]:
        """How many problems a set has."""
        if done := measured.facts(self._store, spec):
            return known(done["problems"]), ()
        listed = assumptions.rows(spec.source.ref) or _lines(spec.source)
        rows = listed or assumptions.UNKNOWN_SET
        left = Span(max(0, rows.low - spec.skip), max(0, rows.high - spec.skip))
        if spec.n is not None:
            return (left.at_most(spec.n) if listed else known(spec.n)), ()
        return left, (() if listed else ("set",))

    def answers(self, spec: Generate) -> Texts:
        """A stage's answers, whether they are there or not."""
        if spec.digest not in self._answers:
            self._answers[spec.digest] = self._answer(spec)
        return self._answers[spec.digest]

    def _answer(self, spec: Generate) -> Texts:
        number, basis = self.problems(spec.problems)
        most = spec.sampling.max_tokens
        if seen := self._seen.get(spec.digest):
            return Texts(number * spec.n, known(seen.prompt), known(seen.response), ("measured",))
        word = assumptions.of_prompt(spec.problems.source.ref)
        response, why = self.response(spec.model)
        return Texts(number * spec.n, assumptions.PROMPTS[word], response.at_most(most), (*basis, word, *why))

    def response(self, model: Spec) -> tuple[Span, tuple[str, ...]]:
        """The mean length of a model's responses."""
        if near := self._of_model.get(model.digest):
            return known(near.response), ("measured elsewhere",)
        if isinstance(model, Train):
            return self.data(model.data).response, ("taught",)
        if isinstance(model, LengthDial):
            if model.target.tokens is not None:
                return known(model.target.tokens) * Span(0.85, 1.15), ("dialled",)
            length, basis = self.response(model.target.of)
            return length * (model.target.length or 1) * Span(0.85, 1.15), ("dialled", *basis)
        if isinstance(model, Merge):
            length, basis = max((self.response(one) for one in model.models), key=lambda one: one[0].high)
            return length * assumptions.MERGED, ("merged", *basis)
        word = _kind(model)
        return assumptions.RESPONSES[word], (word,)

    def data(self, spec: Data) -> Texts:
        """What a training reads."""
        if spec.digest not in self._data:
            if isinstance(spec, SftData):
                self._data[spec.digest] = self._own(spec)
            else:
                assert isinstance(spec, Mix | Select | RejectionSampling)
                self._data[spec.digest] = self._mixed(spec) if isinstance(spec, Mix) else self._kept(spec)
        return self._data[spec.digest]

    def _own(self, spec: SftData) -> Texts:
        """A user's own rows: as many as the file has lines, of unknown length."""
        done = measured.facts(self._store, spec)
        number = known(done["kept"]) if "kept" in done else _lines(spec.source)
        response = assumptions.OWN
        if number and spec.source.path and (file := Path(spec.source.path)).is_file():
            response = assumptions.SHARE_OF_A_ROW * (file.stat().st_size / assumptions.BYTES_OF_A_TOKEN / number.high)
        return Texts(number or assumptions.UNKNOWN_SET, assumptions.PROMPTS["problems"], response, ("own",))

    def _kept(self, spec: Select | RejectionSampling) -> Texts:
        texts = self.answers(spec.completions)
        done = measured.facts(self._store, spec)
        if "kept" in done:
            return Texts(known(done["kept"]), texts.prompt, known(done["mean_tokens"]), ("measured",))
        if isinstance(spec, RejectionSampling):
            number = texts.number * Span(self.share(spec.completions, spec.by).low, 1)
            return Texts(number, texts.prompt, texts.response, texts.basis)
        share = known(1) if spec.keep == "all" else self.share(spec.completions, spec.verdicts.by)
        response = texts.response.at_most(spec.max_tokens) if spec.max_tokens else texts.response
        return Texts(texts.number * share, texts.prompt, response, texts.basis)

    def _mixed(self, spec: Mix) -> Texts:
        parts = [(self.data(part.data), part.share) for part in spec.parts]
        ends = [one.number / share for one, share in parts]
        number = Span(min(one.low for one in ends), min(one.high for one in ends))
        prompt, response = (
            total(getattr(one, name) * share for one, share in parts) for name in ("prompt", "response")
        )
        basis = tuple(dict.fromkeys(word for one, _ in parts for word in one.basis))
        return Texts(number, prompt, response, basis)

    def share(self, answers: Generate, by: str) -> Span:
        """Which share of the answers is correct."""
        done = measured.facts(self._store, Verify(problems=answers.problems, completions=answers, by=by))
        if done.get("rows"):
            return known(done["verdicts"].get("correct", 0) / done["rows"])
        return assumptions.KEPT[_kind(_teacher(answers.model))]

    def tried(self, spec: MergeSearch) -> Texts:
        """The answers of all candidates of a search: between those of its base and of the model it measures by."""
        grid = len(choosing.grid(spec.ranges, spec.steps))
        axes = sum(isinstance(one, tuple) for one in spec.ranges.values())
        candidates = Span(grid, grid + 2 * axes * spec.refine)
        asked = self.answers(spec.reference.completions)
        short, basis = self.response(spec.base)
        most = spec.reference.completions.sampling.max_tokens
        response = Span(min(short.low, asked.response.low), max(short.high, asked.response.high)).at_most(most)
        return Texts(candidates * asked.number, asked.prompt, response, ("dialled", *basis, *asked.basis))


def _teacher(model: Model) -> Spec:
    """Whose manner a model has: that of the one it learnt from, at last."""
    while True:
        if isinstance(model, Train):
            writer = model.data.components[0].writer
            if writer is None:
                return model
            model = writer
        elif isinstance(model, LengthDial | Merge):
            model = model.models[0]
        else:
            return model


def _kind(model: Spec) -> str:
    first = origin(model)
    return (
        "lab" if isinstance(first, Pretrain) else assumptions.of_source(first.ref if isinstance(first, Source) else "")
    )


def _lines(source: Source) -> Span | None:
    """Rows of a local JSONL file."""
    path = Path(source.path) if source.path else None
    if path is None or path.suffix != ".jsonl" or not path.is_file():
        return None
    with open(path, "rb") as file:
        return known(sum(1 for _ in file))
