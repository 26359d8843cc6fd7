"""The calls that build specs: `train(base, data, lr=1e-5)`. Recipes are another spelling of the same calls.

Models and data may be given as specs or as words: a Hub id, a path, `lab:NAME`, a benchmark's name. Every mistake is a
MicotaError that names the field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from micota.benchmarks import BENCHMARKS, PAPER
from micota.errors import suggestion
from micota.lab import designs
from micota.recipe.inquiry_constructors import PromptLike, asked, inquired, judge
from micota.recipe.merge_constructors import ModelLike, ProblemsLike, dial, interpolate, listed, merge
from micota.recipe.signature import FieldError, build, constructor
from micota.recipe.words import as_data, as_grader, as_model, as_problems, as_source, benchmark_problems
from micota.specs import (
    REWRITE,
    Bpc,
    Data,
    Generate,
    Judge,
    Mix,
    MixtureComponent,
    OnPolicyDistillation,
    Pretrain,
    Problems,
    RejectionSampling,
    Rewrite,
    Sampling,
    Scoring,
    Select,
    SelectBy,
    SftData,
    Source,
    Train,
    Verify,
)

DataLike = Data | str | Path
Grader = str | Source | Judge | Callable[..., Any]


@constructor(Problems)
def problems(source: Source | str | Path, **fields: Any) -> Problems:
    """A problem set with reference answers, from a Hub id, a JSONL, CSV or Parquet file, or a world (`lab:dates`).

    `benchmark` names the benchmark whose columns and rules of extraction hold. With `decontaminate` and no `against`,
    the set is compared with the paper's five benchmarks.

    >>> math = problems("hiyouga/math12k", split="train")
    """
    if (name := fields.get("benchmark")) is not None:
        if str(name) not in BENCHMARKS:
            raise FieldError(f"unknown benchmark '{name}'", ("benchmark",), suggestion(str(name), BENCHMARKS))
        fields = {**BENCHMARKS[name].columns, **fields}
    if fields.get("decontaminate") and "against" not in fields:
        fields["against"] = [benchmark_problems(name) for name in PAPER]
    elif fields.get("against") is not None:
        fields["against"] = [as_problems(one) for one in listed(fields["against"], "problem sets")]
    return build(Problems, source=as_source(source, "dataset"), **fields)


@constructor(SftData)
def rows(source: Source | str | Path, **fields: Any) -> SftData:
    """Training data made elsewhere: chats, prompts and responses, or instructions, one in each row.

    >>> mine = rows("./mine.jsonl", prompt="question", response="solution")
    """
    return build(SftData, source=as_source(source, "dataset"), **fields)


@constructor(Generate, hidden=("unless",))
def generate(model: ModelLike, problems: ProblemsLike, **fields: Any) -> Generate:
    """A model's answers to problems."""
    return build(Generate, model=as_model(model), problems=as_problems(problems), **fields)


@constructor(Verify, hidden=("problems", "grader", "judged"))
def verify(completions: Generate, by: Grader = "semantic") -> Verify:
    """A verdict on each answer: correct, wrong, no_answer or unverifiable.

    `by` is semantic, exact_match, choice (for problems with `choices`), a model that judges (`{judge: {model: NAME}}`),
    or a grader of your own: `package.module:function`, in Python the function itself.
    """
    problems = getattr(completions, "problems", None)
    if isinstance(by, Judge):
        settings = {name: getattr(by, name) for name in ("sampling", "precision", "trust_remote_code")}
        replies = inquired(completions, completions.problems, by.model, by.prompt, settings, "answer")
        return build(Verify, completions=completions, problems=problems, by="judge", judged=replies)
    return build(Verify, completions=completions, problems=problems, **as_grader(by))


@constructor(Generate, Select, RejectionSampling, hidden=("unless", "completions", "verdicts", "grader", "at_most"))
def distill(
    model: ModelLike,
    problems: ProblemsLike,
    by: Grader = "semantic",
    until: Annotated[Literal["verified"] | None, Field(description="sample again until an answer is verified")] = None,
    at_most: int | None = None,
    **fields: Any,
) -> Select | RejectionSampling:
    """A model's verified answers to problems, as training data: generate, verify, and select the correct ones.

    With `until` set to verified and `at_most` to 4, each problem is sampled until an answer is verified, at most four
    times.

    >>> long = distill("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", math, sampling={"max_tokens": 16_000})
    """
    sampled = {name: value for name, value in fields.items() if name in Generate.model_fields}
    selected = {name: value for name, value in fields.items() if name not in sampled}
    answers = generate(model, problems, **sampled)
    if until is None and at_most is None:
        return build(Select, completions=answers, verdicts=verify(answers, by), **selected)
    if isinstance(by, Judge):
        raise FieldError("until: verified does not take a judge", ("by",), "semantic, or leave `until` out")
    if until != "verified" or at_most is None:
        raise FieldError("rejection sampling needs both fields", ("until",), "until: verified, at_most: 4")
    for name in ("n", "keep", "max_tokens"):
        if name in fields:
            raise FieldError(f"'{name}' does not go with until: verified", (name,), f"leave {name} out")
    return build(RejectionSampling, completions=answers, at_most=at_most, **as_grader(by), **selected)


@constructor(Generate, Rewrite, hidden=("unless", "problems", "inquiry", "rewritten"))
def rewrite(
    data: DataLike,
    model: ModelLike,
    by: Annotated[Grader, Field(description="what decides whether a rewritten chain is still correct")] = "semantic",
    prompt: PromptLike = REWRITE,
    **fields: Any,
) -> Rewrite:
    """Verified chains as a model writes them again, with the chains' prompts; those that are still correct are kept.

    `prompt` is what that model reads, with {problem} and {response} in it; by default it asks for a shorter solution.

    >>> brief = rewrite(long, "Qwen/Qwen2.5-14B-Instruct", sampling={"max_tokens": 4_000})
    """
    chains = as_data(data)
    if not isinstance(chains, Select | RejectionSampling):
        raise FieldError("only chains with reference answers can be rewritten", ("data",), "give a `distill`")
    answers = inquired(chains, chains.completions.problems, model, asked(prompt, REWRITE), fields)
    correct = build(Select, completions=answers, verdicts=verify(answers, by))
    return build(Rewrite, data=chains, inquiry=answers.problems, rewritten=correct)


@constructor(Mix)
def mix(*parts: MixtureComponent | Mapping[str, Any] | tuple[DataLike, float], **fields: Any) -> Mix:
    """Data sets mixed by share of examples; the shares make 1.

    >>> mix_long = mix((long, 0.2), (short, 0.8))
    """
    given: Sequence[Any] = parts or listed(fields.pop("parts", ()), "parts")
    return build(Mix, parts=[_component(part) for part in given], **fields)


def _component(part: Any) -> Any:
    if isinstance(part, tuple) and len(part) == 2:
        part = {"data": part[0], "share": part[1]}
    return {**part, "data": as_data(part["data"])} if isinstance(part, dict) and "data" in part else part


@constructor(SelectBy, Bpc, hidden=("measure", "rsr", "gradient"))
def select(data: DataLike, model: ModelLike, **fields: Any) -> SelectBy:
    """The responses of a data set that a measure under a model prefers, such as `by: rsr`, `keep: 0.5`: the half with
    the lowest rank-surprisal ratio.

    >>> near = select(long, "Qwen/Qwen2.5-1.5B-Instruct", by="rsr", keep=0.5)
    """
    scoring = {name: fields.pop(name) for name in Scoring.model_fields if name in fields}
    return build(SelectBy, measure=measure(model, data, rsr=True, **scoring), **fields)


@constructor(Pretrain)
def pretrain(
    like: Annotated[str | None, Field(description="the lab's design to begin with: teacher, ta, student, ...")] = None,
    **fields: Any,
) -> Pretrain:
    """A model of the lab from fresh weights; `like` names a design (teacher, ta, student, ...) to begin with.

    >>> student = pretrain("student", seed=3)
    """
    if "base" in fields:
        fields["base"] = as_model(fields["base"])
    if like is not None:
        if str(like) not in designs.DESIGNS:
            raise FieldError(f"the lab has no design '{like}'", ("like",), suggestion(str(like), designs.DESIGNS))
        fields = designs.fields(like, **fields)
    return build(Pretrain, **fields)


@constructor(Train)
def train(base: ModelLike, data: DataLike, **fields: Any) -> Train:
    """A model fine-tuned on the responses of a data set: plain SFT, of all parameters or of adapters (`lora`).

    >>> strong = train("Qwen/Qwen2.5-1.5B-Instruct", long, epochs=3, lr=2e-5)
    """
    return build(Train, base=as_model(base), data=as_data(data), **fields)


@constructor(OnPolicyDistillation)
def opd(
    base: ModelLike,
    teacher: ModelLike,
    problems: ProblemsLike | None = None,
    data: DataLike | None = None,
    **fields: Any,
) -> OnPolicyDistillation:
    """A model that answers problems, and at each token of its answers learns the distribution of a teacher.

    `base` is usually a model that was fine-tuned on chains already. With `data` and `on_policy: 0` the responses of
    training data stand in the place of its own answers.

    >>> sharper = opd(strong, ta_mid, math, steps=200, max_tokens=4_000)
    """
    asked, rows = None if problems is None else as_problems(problems), None if data is None else as_data(data)
    models = {"base": as_model(base), "teacher": as_model(teacher)}
    return build(OnPolicyDistillation, **models, problems=asked, data=rows, **fields)


@constructor(Bpc)
def measure(model: ModelLike, data: DataLike, **fields: Any) -> Bpc:
    """Bits per character of a data set's responses under a model (Eq. 3 of the paper), and measures of learnability."""
    return build(Bpc, model=as_model(model), data=as_data(data), **fields)


@constructor(Generate, hidden=("unless",))
def evaluation(model: ModelLike, problems: ProblemsLike, by: Grader = "semantic", **fields: Any) -> Verify:
    """A model's answers to a problem set, verified. A benchmark brings its prompt, stop strings and limit, as far as
    `prompt` and `sampling` do not state them."""
    asked = as_problems(problems)
    if (b := BENCHMARKS.get(asked.benchmark or "")) is not None:
        usual = {"stop": list(b.stop), "max_tokens": b.max_tokens}
        sampling = fields.get("sampling", {})
        sampling = sampling.stated if isinstance(sampling, Sampling) else sampling
        if isinstance(sampling, Mapping):
            sampling = {**usual, **sampling}
        prompt = fields.get("prompt", {})
        prompt = {"template": b.prompt, **prompt} if isinstance(prompt, Mapping) else prompt
        fields = {**fields, "prompt": prompt, "sampling": sampling}
    return verify(generate(model, asked, **fields), by)


FORMS: dict[str, Callable[..., Any]] = {
    "problems": problems,
    "rows": rows,
    "generate": generate,
    "verify": verify,
    "judge": judge,
    "distill": distill,
    "pretrain": pretrain,
    "train": train,
    "opd": opd,
    "merge": merge,
    "interpolate": interpolate,
    "rewrite": rewrite,
    "mix": mix,
    "select": select,
    "dial": dial,
}
"""The forms of a recipe, `{KIND: {...}}`, with the calls that they spell."""
ALIASES = {"distill": {"from": "model", "data": "problems"}}
"""What recipes call a parameter, where that differs."""
