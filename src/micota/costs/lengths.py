"""How many tokens each stage reads and writes: measured where the store knows, else assumed by name."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from micota.chat import example
from micota.costs import assumptions, measurements
from micota.costs.spans import Span, known, total
from micota.data.loading import table
from micota.specs import (
    Data,
    Generate,
    Inquiry,
    LengthDial,
    Merge,
    MergeSearch,
    Mix,
    Model,
    OnPolicyDistillation,
    Problems,
    ProblemSet,
    RejectionSampling,
    Rewrite,
    Select,
    SelectBy,
    SftData,
    Source,
    Spec,
    Train,
    Verify,
    dial_policy,
)
from micota.stages.rows import completions
from micota.store.artifacts import Store
from micota.store.resolution import cached_tokenizer

SAMPLE, LONG = 200, 8
"""So many local rows are tokenized, from the shortest to the longest, and so many of the longest."""
Basis = tuple[str, ...]
"""The names of the assumptions that a quantity rests on."""


@dataclass(frozen=True)
class Texts:
    """So many texts, each with a prompt and a response of so many tokens."""

    number: Span
    prompt: Span
    response: Span
    basis: Basis = ()
    longest: float = math.inf
    """Tokens of the longest example; of rows that were not counted the cutoff decides."""

    @property
    def read(self) -> Span:
        """Tokens of all prompts."""
        return self.number * self.prompt

    @property
    def written(self) -> Span:
        """Tokens of all responses."""
        return self.number * self.response


class Lengths:
    """Lengths of the texts of a recipe. What one stage has measured of a model holds for its other stages."""

    def __init__(self, store: Store, specs: Iterable[Spec]) -> None:
        self._store = store
        self._responses: dict[str, Texts] = {}
        generations = [one for one in specs if isinstance(one, Generate)]
        lengths = {one.digest: measurements.mean_lengths(store, one) for one in generations}
        self._measured = {digest: means for digest, means in lengths.items() if means}
        self._of_model = {one.model.digest: self._measured[one.digest][1] for one in generations
                          if one.digest in self._measured}  # fmt: skip

    def problems(self, spec: ProblemSet) -> tuple[Span, Basis]:
        """How many problems a set has."""
        if done := measurements.facts(self._store, spec):
            return known(done["problems"]), ()
        if not isinstance(spec, Problems):
            assert isinstance(spec, Inquiry)
            texts = self._about(spec)
            return texts.number, texts.basis
        size = assumptions.SETS.get(spec.source.ref) or _lines(spec.source)
        if spec.n is not None:
            return size.minus(spec.skip).at_most(spec.n) if size else known(spec.n), ()
        return (size or assumptions.UNKNOWN_SET).minus(spec.skip), () if size else ("set",)

    def responses(self, spec: Generate) -> Texts:
        """All responses of a stage, whether they are there or not."""
        if spec.digest not in self._responses:
            self._responses[spec.digest] = self._generated(spec)
        return self._responses[spec.digest]

    def _generated(self, spec: Generate) -> Texts:
        number, basis = self.problems(spec.problems)
        if means := self._measured.get(spec.digest):
            return Texts(number * spec.n, known(means[0]), known(means[1]), ("measured",))
        sort = assumptions.prompt_sort(spec.problems.source.ref)
        response, reasons = self.response(spec.model)
        response = response.at_most(spec.sampling.max_tokens)
        prompt = assumptions.PROMPTS[sort]
        if isinstance(spec.problems, Inquiry):
            prompt += self._about(spec.problems).response
        return Texts(number * spec.n, prompt, response, (*basis, sort, *reasons))

    def _about(self, spec: Inquiry) -> Texts:
        """The responses that an inquiry is about."""
        about = spec.responses
        return self.responses(about) if isinstance(about, Generate) else self.data(about)

    def response(self, model: Model) -> tuple[Span, Basis]:
        """The mean length of a model's responses."""
        if mean := self._of_model.get(model.digest):
            return known(mean), ("measured elsewhere",)
        if isinstance(model, Train):
            return self.data(model.data).response, ("taught",)
        if isinstance(model, OnPolicyDistillation):
            (own, basis), (its, more) = self.response(model.base), self.response(model.teacher)
            return Span(min(own.low, its.low), max(own.high, its.high)), ("distilled", *basis, *more)
        if isinstance(model, LengthDial):
            if model.target.tokens is not None:
                return assumptions.DIALLED * model.target.tokens, ("dialled",)
            length, basis = self.response(model.target.of)
            if model.target.rank:
                return length * assumptions.MERGED, ("merged", *basis)
            return length * assumptions.DIALLED * (model.target.length or 1), ("dialled", *basis)
        if isinstance(model, Merge):
            length, basis = max((self.response(one) for one in model.models), key=lambda one: one[0].high)
            return length * assumptions.MERGED, ("merged", *basis)
        sort = _sort(model)
        return assumptions.RESPONSES[sort], (sort,)

    def distilled(self, spec: OnPolicyDistillation) -> Texts:
        """All answers of a distillation's steps: the model's own, or those of rows."""
        number = known(spec.steps * spec.batch)
        if spec.data:
            return replace(self.data(spec.data, spec.base), number=number)
        assert spec.problems is not None
        sort, (response, basis) = assumptions.prompt_sort(spec.problems.source.ref), self.response(spec.base)
        prompt, response = assumptions.PROMPTS[sort], response.at_most(spec.max_tokens)
        return Texts(number, prompt, response, (sort, *basis))

    def data(self, spec: Data, model: Model | None = None) -> Texts:
        """The examples of training data, counted with the tokenizer of a model where that can be."""
        if isinstance(spec, SftData):
            return self._own_rows(spec, model)
        if isinstance(spec, Mix):
            return self._mixed(spec, model)
        if isinstance(spec, Rewrite):
            return self._selected(spec.rewritten)
        if isinstance(spec, SelectBy):
            texts = self.data(spec.measure.data, model)
            return replace(texts, number=texts.number * spec.keep)
        assert isinstance(spec, Select | RejectionSampling)
        return self._selected(spec)

    def _own_rows(self, spec: SftData, model: Model | None) -> Texts:
        """Counted; else as many rows as the file has lines, and as many tokens as its bytes may be."""
        origin = model.origin if model else None
        if isinstance(origin, Source) and (counted := _counted(spec, origin)):
            count, asked, answered, longest = counted
            return Texts(known(count), known(asked), known(answered), ("measured rows",), longest)
        kept = measurements.facts(self._store, spec).get("kept")
        number = known(kept) if kept is not None else _lines(spec.source)
        response = assumptions.OWN_ROWS
        if number and spec.source.path and (file := Path(spec.source.path)).is_file():
            tokens = file.stat().st_size / assumptions.BYTES_PER_TOKEN
            response = assumptions.SHARE_OF_A_FILE * (tokens / max(1, number.high))
        return Texts(number or assumptions.UNKNOWN_SET, assumptions.PROMPTS["problems"], response, ("own",))

    def _selected(self, spec: Select | RejectionSampling) -> Texts:
        texts, done = self.responses(spec.completions), measurements.facts(self._store, spec)
        limit = min(spec.completions.sampling.max_tokens, getattr(spec, "max_tokens", None) or math.inf)
        sort = assumptions.prompt_sort(spec.completions.problems.source.ref)
        longest = limit + assumptions.PROMPTS[sort].high
        if "kept" in done:
            return Texts(known(done["kept"]), texts.prompt, known(done["mean_tokens"]), ("measured",), longest)
        response = texts.response
        if isinstance(spec, RejectionSampling):
            share = Span(self.correct_share(spec.completions, spec.by).low, 1)
        else:
            share = known(1) if spec.keep == "all" else self.correct_share(spec.completions, spec.verdicts)
            response = response.at_most(spec.max_tokens or math.inf)
        return Texts(texts.number * share, texts.prompt, response, texts.basis, longest)

    def _mixed(self, spec: Mix, model: Model | None) -> Texts:
        """As many examples as the component that runs out first allows."""
        parts = [(self.data(part.data, model), part.share) for part in spec.parts]
        numbers = [texts.number / share for texts, share in parts]
        number = Span(min(one.low for one in numbers), min(one.high for one in numbers))
        prompt = total(texts.prompt * share for texts, share in parts)
        response = total(texts.response * share for texts, share in parts)
        basis = tuple(dict.fromkeys(word for one, _ in parts for word in one.basis))
        return Texts(number, prompt, response, basis, max(one.longest for one, _ in parts))

    def correct_share(self, responses: Generate, by: str | Verify) -> Span:
        """The share of the responses that is correct, by a grader or by verdicts."""
        verdicts = Verify(problems=responses.problems, completions=responses, by=by) if isinstance(by, str) else by
        done = measurements.facts(self._store, verdicts)
        if done.get("rows"):
            return known(done["verdicts"].get("correct", 0) / done["rows"])
        return assumptions.CORRECT[_sort(_teacher(responses.model))]

    def tried(self, spec: MergeSearch) -> Texts:
        """The responses of all candidates of a search: as long as those of its base or of its reference model."""
        grid = len(dial_policy.grid(spec.ranges, spec.steps))
        axes = sum(isinstance(value, tuple) for value in spec.ranges.values())
        candidates = Span(grid, grid + 2 * axes * spec.refine)
        probe, (short, basis) = self.responses(spec.reference.completions), self.response(spec.base)
        response = Span(min(short.low, probe.response.low), max(short.high, probe.response.high))
        response = response.at_most(spec.reference.completions.sampling.max_tokens)
        return Texts(candidates * probe.number, probe.prompt, response, ("dialled", *basis, *probe.basis))


@cache
def _counted(spec: SftData, base: Source) -> tuple[int, float, float, int] | None:
    """Examples of local rows for a model whose tokenizer is here: how many, mean tokens of a prompt and of a response
    with its EOS, and those of the longest example; None where they cannot be read.
    """
    folder = cached_tokenizer(base)
    if folder is None or spec.source.path is None:
        return None
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        with TemporaryDirectory() as scratch:
            rows = list(completions(spec, table(spec.source, spec.config, spec.split, Path(scratch)), Counter()))
        rows.sort(key=lambda row: len(row.prompt) + len(row.text))
        chosen = [*rows[-LONG:], *rows[:: -(-len(rows) // SAMPLE)]]
        examples = [example(tokenizer, row.prompt, row.target, spec.system, 0)["labels"] for row in chosen]
    except Exception:  # a tokenizer or rows that cannot be read: `micota check` and the run say why
        return None
    sizes = [(len(labels), sum(label != -100 for label in labels)) for labels in examples]
    whole, response = (fmean(column) for column in zip(*sizes[min(LONG, len(rows)) :], strict=True))
    return len(rows), whole - response, response, max(size for size, _ in sizes)


def _teacher(model: Model) -> Model:
    """The model whose manner of answering another has: that of the one it learnt from, at last."""
    while True:
        if isinstance(model, LengthDial | Merge):
            model = model.models[0]
        elif isinstance(model, OnPolicyDistillation):
            model = model.teacher
        elif isinstance(model, Train) and (writer := model.data.components[0].writer):
            model = writer
        else:
            return model


def _sort(model: Model) -> str:
    origin = model.origin
    return assumptions.model_sort(origin.ref) if isinstance(origin, Source) else "lab"


def _lines(source: Source) -> Span | None:
    """Rows of a local JSONL or CSV file, by its lines."""
    path = Path(source.path or "")
    if path.suffix not in (".jsonl", ".csv") or not path.is_file():
        return None
    with open(path, "rb") as file:
        return known(sum(1 for _ in file) - (path.suffix == ".csv"))
