"""The length dial: a merge whose settings are searched on probe problems."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NoReturn

from pydantic import Field, model_validator

from micota.errors import MicotaError
from micota.merging import Rescale
from micota.merging.settings import AVERAGING, THINNING, SearchedMethod
from micota.specs import dial_policy
from micota.specs.chains import Generate, Precision, Verify
from micota.specs.fine_tuning import Bpc, By, Scoring, check_measured
from micota.specs.merges import Merge, check_thinning
from micota.specs.sampling import Prompt, PromptField, Sampling, SamplingField
from micota.specs.sources import Problems, Subset
from micota.specs.spec import Choice, Data, FrozenModel, Model, Spec

Range = float | Annotated[tuple[float, float], Field(strict=False)]
"""A value, or the two ends between which the best one is searched."""
MISSED = 0.1
"""A chosen merge whose share of the length is farther than this from the target is warned of."""
MEASURED = {"bpc": "bits_per_character", "rsr": "rank_surprisal_ratio", "local": "local_log_probability",
            "beyond": "beyond_context", "gradient": "gradient_agreement"}  # fmt: skip
"""The facts of a `bpc` artifact that are measures of learnability."""
MAX_CANDIDATES = 64
"""Of a grid: a finer one is cheaper as rounds of refinement."""


class Learner(Scoring):
    """A student, and the measure under it by which the candidate with the most learnable chains is found."""

    student: Model = Field(description="the model that is to learn from the merged one, before its training")
    by: By = "rsr"

    @model_validator(mode="after")
    def _is_measured(self) -> Learner:
        check_measured(self.by, self)
        return self

    def measure(self, chains: Data) -> Bpc:
        """The measures of chains under the student."""
        fields = {name: getattr(self, name) for name in Scoring.model_fields}
        return Bpc(**{**fields, "rsr": True}, model=self.student, data=chains)

    def value(self, facts: Mapping[str, Any]) -> float:
        """The measure out of the facts of `measure`, as a number of which the lowest is preferred."""
        if self.by == "tokens":
            return float(facts["tokens"] / facts["rows"])
        return float(facts[MEASURED[self.by]]) * (-1 if self.by == "local" else 1)


class Target(FrozenModel):
    """The length to search for: a share of another model's mean response, tokens, or what a student learns best from.

    `of` is also whose accuracy the candidates may lose `max_loss` of.
    """

    length: float | None = Field(None, gt=0, description="share of the mean response length of the model `of`")
    tokens: float | None = Field(None, gt=0, description="mean tokens of a response, in place of a share")
    rank: Annotated[Learner | None, Field(strict=False)] = Field(
        None,
        description="in place of a length, the candidate whose verified chains a student should learn best from, by a "
        "measure; the first round decides",
    )
    of: Model = Field(description="the model whose length and accuracy the candidates are compared with")

    @model_validator(mode="after")
    def _is_one(self) -> Target:
        if sum(one is not None for one in (self.length, self.tokens, self.rank)) != 1:
            raise ValueError("give the target as `length`, a share, or as `tokens`, or as `rank`")
        return self


class Probe(FrozenModel):
    """The problems on which merge candidates are tried, and how: never those of the evaluation."""

    data: Problems = Field(description="the problem set")
    n: int = Field(200, ge=1, description="how many of its problems, from the first")
    prompt: PromptField = Field(Prompt(), description="the user message; a string is its template")
    sampling: SamplingField = Field(Sampling(), description="temperature, length and stop strings")
    precision: Precision = Field("bfloat16", description="the precision of the weights")
    by: Literal["exact_match", "semantic"] = Field("semantic", description="the grader")

    @model_validator(mode="before")
    @classmethod
    def _problems_are_a_probe(cls, data: Any) -> Any:
        if isinstance(data, Subset):
            return {"data": data.data, "n": data.n}
        return {"data": data} if isinstance(data, Problems) else data

    @property
    def problems(self) -> Problems:
        """The first n of the probe problems."""
        return self.data.take(self.n).problems

    def grade(self, model: Model) -> Verify:
        """A model's answers to the probe problems, verified."""
        answers = Generate(
            model=model, problems=self.problems, prompt=self.prompt, sampling=self.sampling, precision=self.precision
        )
        return Verify(problems=self.problems, completions=answers, by=self.by)


class MergeSearchFields(Spec):
    """What a search and its dial share: a merge with some settings left open, and how they are tried.

    A weight is given to every model. The first round tries `steps` values along every range (all combinations); each of
    `refine` further rounds tries, along every range, the values half way from the best candidate to its neighbours. The
    search ends early when a candidate that loses at most `max_loss` is as near to the target as `dial_policy.CLOSE`.
    """

    base: Model = Field(description="the pre-fine-tuning checkpoint")
    models: Annotated[tuple[Model, ...], Field(strict=False, min_length=1, description="the fine-tuned models")]
    method: SearchedMethod = Field(description="how the models are merged")
    weight: Range = Field(description="the weight of every model: a value, or a range to search")
    density: Range = Field(
        1.0, description="share of the entries of a task vector that is kept: a value, or a range to search"
    )
    lambda_: Range = Field(
        1.0, alias="lambda", description="factor of the merged task vector: a value, or a range to search"
    )
    rescale: Rescale | None = Field(None, description="how kept entries are rescaled; DARE and TIES need it")
    seed: int = Field(0, description="the random seed of DARE's masks")
    steps: int = Field(7, ge=2, description="values along each range in the first round, both ends included")
    refine: int = Field(2, ge=0, description="rounds of refinement after the first")
    max_loss: float = Field(
        0.02, ge=0, description="how much accuracy a candidate may lose against the model `of` of the target"
    )

    @model_validator(mode="after")
    def _is_a_search(self) -> MergeSearchFields:
        ranges = self.ranges
        if not any(isinstance(value, tuple) for value in ranges.values()):
            raise ValueError("give at least one of weight, density and lambda as a range: [low, high]")
        for name, value in ranges.items():
            if isinstance(value, tuple) and not value[0] < value[1]:
                raise ValueError(f"the range of {name} ends before it begins: {list(value)}")
        if any(not 0 < end <= 1 for end in dial_policy.ends(self.density)):
            raise ValueError("density is a share: greater than 0, at most 1")
        check_thinning(self.method, dial_policy.ends(self.density)[0], self.rescale)
        idle = {name for name in ranges if name == "lambda" and self.method in AVERAGING}
        idle |= {"weight"} if self.method in ("linear", "ties") else set()
        if all(name in idle for name, value in ranges.items() if isinstance(value, tuple)):
            raise ValueError(
                f"all candidates would be one merge: {self.method} divides by the sum of the weights, which are equal;"
                " search lambda or density with ties, or the weight with task_arithmetic or dare_ties"
            )
        if (count := len(dial_policy.grid(ranges, self.steps))) > MAX_CANDIDATES:
            raise ValueError(
                f"the first round has {count} candidates, at most {MAX_CANDIDATES} are tried: lower `steps`"
            )
        return self

    @property
    def ranges(self) -> dict[str, float | tuple[float, float]]:
        """The value or the range of each setting that a search may vary."""
        return {"weight": self.weight, "density": self.density, "lambda": self.lambda_}

    def candidate(self, setting: Mapping[str, float]) -> Merge:
        """The merge with a setting's weight, density and lambda."""
        return Merge(
            base=self.base,
            models=self.models,
            method=self.method,
            weights=(setting["weight"],) * len(self.models),
            density=setting["density"],
            lambda_=setting["lambda"],
            rescale=self.rescale if self.method in THINNING else None,
            seed=self.seed,
        )


class MergeSearch(MergeSearchFields):
    """Merge candidates, made in memory from one reading of the models, and tried until the policy is satisfied.

    `reference` says by which problems, how they are asked and how answers are graded; its model is what lengths and
    losses are measured against.
    """

    kind: ClassVar[str] = "search"
    problems: Problems = Field(description="the probe problems")
    reference: Verify = Field(description="the reference model's verdicts on them")
    length: float | None = Field(None, description="target: share of the reference's mean length")
    tokens: float | None = Field(None, description="target: mean tokens")

    @property
    def stage_kinds(self) -> tuple[str, ...]:
        """A search generates: where nothing is said of it, it runs where generation does."""
        return ("search", "generate")


class CandidateChains(Data):
    """The verified answers of one candidate of a search to its probe problems, as training data."""

    kind: ClassVar[str] = "candidate"
    search: MergeSearch = Field(description="the search")
    number: int = Field(ge=0, description="which candidate of its first round, in the order of trying")

    @property
    def stage_kinds(self) -> tuple[str, ...]:
        """A selection, as that of verified answers."""
        return ("select",)


class LengthDial(MergeSearchFields, Model):
    """The merge whose responses have the wanted length, found by trying settings on probe problems.

    Among the candidates that lose at most `max_loss` accuracy against `target.of`, the one whose mean length is nearest
    to the target. If none qualifies that is an error, unless `fallback: nearest` takes the nearest of all.
    """

    kind: ClassVar[str] = "dial"
    VERSION: ClassVar[int] = 2
    target: Annotated[Target, Field(strict=False)] = Field(description="the wanted length")
    probe: Annotated[Probe, Field(strict=False)] = Field(description="the problems on which candidates are tried")
    fallback: Literal["nearest"] | None = Field(
        None, description="nearest: if every candidate loses too much accuracy, take the one nearest in length"
    )

    @property
    def parents(self) -> tuple[Model, ...]:
        """The base, then the models."""
        return (self.base, *self.models)

    @property
    def stage_kinds(self) -> tuple[str, ...]:
        """Those of its search: the dial itself only chooses."""
        return self.search.stage_kinds

    @property
    def search(self) -> MergeSearch:
        """The trials that the choice is made from."""
        shared = {name: getattr(self, name) for name in MergeSearchFields.model_fields}
        shared |= {"refine": 0} if self.target.rank else {}
        reference = self.probe.grade(self.target.of)
        return MergeSearch(**shared, problems=self.probe.problems, reference=reference,
                      length=self.target.length, tokens=self.target.tokens)  # fmt: skip

    def warning(self, facts: Mapping[str, Any]) -> str | None:
        """A chosen merge whose length is far from the target."""
        chosen = next((row for row in facts["dial"] if dial_policy.same_setting(row, facts["chosen"])), None)
        if chosen is None or abs(chosen["share"] - facts["target"]) <= MISSED:
            return None
        text = f"{chosen['share']:.2f} of the length, the target is {facts['target']:.2f}"
        return f"the chosen merge ({dial_policy.setting_text(chosen)}) has {text}; widen the ranges or raise max_loss"

    def next(self, results: Mapping[str, Mapping[str, Any]]) -> tuple[Spec, ...] | Choice | None:
        """The search, of a `rank` what its candidates' chains measure, and from the results the chosen merge."""
        search = self.search
        if search.digest not in results:
            return (search,)
        facts = results[search.digest]
        rows, target, fallback = facts["dial"], facts["target"], self.fallback == "nearest"
        if learner := self.target.rank:
            fit = [row for row in dial_policy.fitting(rows, self.max_loss, fallback) if row["accuracy"] > 0]
            asked = tuple(learner.measure(CandidateChains(search=search, number=rows.index(row))) for row in fit)
            if not fit or not all(one.digest in results for one in asked):
                return asked or _none_is_right(len(rows))
            values = [learner.value(results[one.digest]) for one in asked]
            best, fits = dial_policy.preferred(fit, values, self.max_loss)
            target = best["share"]
            rows = [*(row for row in rows if row not in fit),
                    *({**row, "measure": value} for row, value in zip(fit, values, strict=True))]  # fmt: skip
        else:
            best, fits = dial_policy.nearest(rows, target, self.max_loss, fallback)
        why = f"{dial_policy.setting_text(best)}: {best['share']:.2f} of the length, loss {best['loss']:.3f}"
        seen = {"dial": rows, "reference": facts["reference"], "target": target}
        chosen = {name: best[name] for name in dial_policy.SETTINGS}
        return Choice(self.candidate(best), why if fits else why + " (fallback)",
                      seen | {"chosen": chosen, "fallback": not fits})  # fmt: skip


def _none_is_right(tried: int) -> NoReturn:
    what = f"none of {tried} candidates answers a probe problem correctly, so a student has nothing to learn from"
    raise MicotaError(what, fix="widen weight, density or lambda, or give the probe more problems")
