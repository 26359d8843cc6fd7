"""The forms of a recipe, such as `{train: {base: ..., data: ...}}`: from their fields to specs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from micota.benchmarks import BENCHMARKS
from micota.errors import suggestion
from micota.lab import designs
from micota.recipe.scope import Scope, Want
from micota.specs import (
    FrozenModel,
    Generate,
    LengthDial,
    Lora,
    Merge,
    Mix,
    MixtureComponent,
    Phase,
    Pretrain,
    Probe,
    Problems,
    Prompt,
    RejectionSampling,
    Sampling,
    Select,
    SftData,
    Shape,
    Spec,
    Target,
    Train,
    Verify,
)
from micota.yaml_tree import Path

V = TypeVar("V", bound=FrozenModel)
ASKING = ("prompt", "sampling", "n", "precision", "trust_remote_code")  # fields of generate that sugar passes on


def problems(scope: Scope, fields: dict[str, Any], path: Path) -> Problems:
    known = Problems.model_fields
    fields = dict(fields)
    if isinstance(fields.get("source"), str):
        fields["source"] = scope.literal(fields["source"], "dataset", (*path, "source"))
    if fields.get("benchmark") in BENCHMARKS:
        b = BENCHMARKS[fields["benchmark"]]
        fields = {"problem": b.problem, "answer": b.answer, **fields}
    elif "benchmark" in fields:
        raise scope.wrong(
            f"unknown benchmark '{fields['benchmark']}'", path, suggestion(str(fields["benchmark"]), BENCHMARKS)
        )
    if isinstance(against := fields.get("against"), list) or fields.get("decontaminate"):
        names = against if isinstance(against, list) else list(BENCHMARKS)
        fields["against"] = [scope.spec(one, "problems", (*path, "against", i)) for i, one in enumerate(names)]
    return scope.build(Problems, fields, known, path)


def rows(scope: Scope, fields: dict[str, Any], path: Path) -> SftData:
    """`{rows: {source: ./mine.jsonl}}`: training data made elsewhere; a bare path as `data` means the same."""
    fields = dict(fields)
    if isinstance(fields.get("source"), str):
        fields["source"] = scope.literal(fields["source"], "dataset", (*path, "source"))
    return scope.build(SftData, fields, SftData.model_fields, path)


def generate(scope: Scope, fields: dict[str, Any], path: Path) -> Generate:
    made = _with(scope, fields, path, model="model", problems="problems")
    made |= _asking(scope, made, path)
    return scope.build(Generate, made, Generate.model_fields, path)


def verify(scope: Scope, fields: dict[str, Any], path: Path) -> Verify:
    """`{verify: {completions: {generate: ...}, by: ...}}`; the problems are those of the completions."""
    fields = dict(fields)
    fields |= _grader(scope, fields, path)
    if isinstance(fields.get("completions"), dict):
        fields["completions"] = scope.form(fields["completions"], (*path, "completions"))
        fields["problems"] = getattr(fields["completions"], "problems", None)
    return scope.build(Verify, fields, Verify.model_fields, path)


def distil(scope: Scope, fields: dict[str, Any], path: Path) -> Select | RejectionSampling:
    """Sugar for select(verify(generate)): a model's verified answers to problems, as training data.

    With `until: verified, at_most: k` each problem is answered until an answer is verified, at most k times.
    """
    known = ["from", "data", *ASKING, "by", "keep", "max_tokens", "duplicates", "until", "at_most"]
    _only(scope, fields, known, path)
    for needed in ("from", "data"):
        if needed not in fields:
            raise scope.wrong(f"'distil' lacks '{needed}'", path, "distil: {from: MODEL, data: PROBLEMS}")
    asked = {name: fields[name] for name in ASKING if name in fields}
    model = scope.spec(fields["from"], "model", (*path, "from"))
    questions = scope.spec(fields["data"], "problems", (*path, "data"))
    assert isinstance(questions, Problems)
    made = {"model": model, "problems": questions, **_asking(scope, asked, path)}
    answers = scope.build(Generate, made, Generate.model_fields, path)
    by = _grader(scope, fields, path)
    if "until" in fields or "at_most" in fields:
        return _redraw(scope, {**fields, **by, "completions": answers}, path)
    graded = scope.build(Verify, {"problems": questions, "completions": answers, **by}, Verify.model_fields, path)
    rest: dict[str, Any] = {name: fields[name] for name in ("keep", "max_tokens", "duplicates") if name in fields}
    return scope.build(Select, {"completions": answers, "verdicts": graded, **rest}, Select.model_fields, path)


def _redraw(scope: Scope, fields: dict[str, Any], path: Path) -> RejectionSampling:
    if fields.get("until") != "verified" or "at_most" not in fields:
        raise scope.wrong("drawing again is said with both", path, "until: verified, at_most: 4")
    for name in ("n", "keep", "max_tokens"):
        if name in fields:
            raise scope.wrong(f"'{name}' does not go with until: verified", (*path, name), f"leave {name} out")
    made = {name: fields[name] for name in RejectionSampling.model_fields if name in fields}
    return scope.build(RejectionSampling, made, RejectionSampling.model_fields, path)


def evaluation(scope: Scope, model: Spec, data: Problems, fields: dict[str, Any], path: Path) -> Verify:
    """A model's answers to a benchmark, verified. A benchmark brings its prompt and stop strings."""
    asked = {name: fields[name] for name in ASKING if name in fields}
    if data.benchmark in BENCHMARKS:
        b = BENCHMARKS[data.benchmark]
        usual = {"stop": list(b.stop), "max_tokens": b.max_tokens}
        asked = {"prompt": b.prompt, **asked, "sampling": {**usual, **asked.get("sampling", {})}}
    made = {"model": model, "problems": data, **_asking(scope, asked, path)}
    answers = scope.build(Generate, made, Generate.model_fields, path)
    by = _grader(scope, fields, path)
    return scope.build(Verify, {"problems": data, "completions": answers, **by}, Verify.model_fields, path)


def pretrain(scope: Scope, fields: dict[str, Any], path: Path) -> Pretrain:
    """`{pretrain: {like: student, seed: 3}}`: a design of the lab under the fields that are given."""
    fields = _with(scope, fields, path, base="model")
    if isinstance(fields.get("shape"), dict):
        fields["shape"] = _value(scope, Shape, fields["shape"], (*path, "shape"))
    if isinstance(phases := fields.get("phases"), list):
        here = (*path, "phases")
        fields["phases"] = [_value(scope, Phase, phase, (*here, i)) for i, phase in enumerate(phases)]
    if "like" in fields:
        like = str(fields.pop("like"))
        if like not in designs.DESIGNS:
            fix = suggestion(like, designs.DESIGNS)
            raise scope.wrong(f"the lab has no design '{like}'", (*path, "like"), fix)
        fields = designs.fields(like, **fields)
    return scope.build(Pretrain, fields, {**Pretrain.model_fields, "like": 0}, path)


def train(scope: Scope, fields: dict[str, Any], path: Path) -> Train:
    made = _with(scope, fields, path, base="model", data="data")
    if isinstance(made.get("lora"), dict):
        made["lora"] = _value(scope, Lora, made["lora"], (*path, "lora"))
    return scope.build(Train, made, Train.model_fields, path)


def merge(scope: Scope, fields: dict[str, Any], path: Path) -> Merge:
    """`weight: 0.6` may stand for `weights: [0.6]`, and `lambda` is written without its underscore."""
    fields = _with(scope, fields, path, base="model")
    if "weight" in fields:
        fields["weights"] = [fields.pop("weight")]
    if "lambda" in fields:
        fields["lambda_"] = fields.pop("lambda")
    fields = _models(scope, fields, path)
    return scope.build(Merge, _floats(fields, "weights"), {**Merge.model_fields, "weight": 0, "lambda": 0}, path)


def mix(scope: Scope, fields: dict[str, Any], path: Path) -> Mix:
    parts = fields.get("parts")
    if not isinstance(parts, list):
        raise scope.wrong("'mix' is a list of parts", path, "mix: [{data: NAME, share: 0.2}, ...]")
    made = []
    for i, part in enumerate(parts):
        here = (*path, i) if "parts" not in path else (*path, "parts", i)
        made.append(
            scope.build(MixtureComponent, _with(scope, part, here, data="data"), MixtureComponent.model_fields, here)
        )
    return scope.build(Mix, {**fields, "parts": made}, Mix.model_fields, path)


def dial(scope: Scope, fields: dict[str, Any], path: Path) -> LengthDial:
    """`weight`, `density` and `lambda` are values or ranges: [low, high]."""
    fields = _models(scope, _with(scope, fields, path, base="model"), path)
    if "lambda" in fields:
        fields["lambda_"] = fields.pop("lambda")
    if isinstance(fields.get("target"), dict):
        here = (*path, "target")
        made = _with(scope, fields["target"], here, of="model")
        fields["target"] = scope.build(Target, made, Target.model_fields, here)
    if isinstance(fields.get("probe"), dict):
        here = (*path, "probe")
        made = _asking(scope, _with(scope, fields["probe"], here, data="problems"), here)
        fields["probe"] = scope.build(Probe, made, Probe.model_fields, here)
    fields = _floats(fields, "weight", "density", "lambda_")
    return scope.build(LengthDial, fields, {**LengthDial.model_fields, "lambda": 0}, path)


FORMS: dict[str, Callable[[Scope, dict[str, Any], Path], Spec]] = {
    "problems": problems,
    "rows": rows,
    "generate": generate,
    "verify": verify,
    "distil": distil,
    "pretrain": pretrain,
    "train": train,
    "merge": merge,
    "mix": mix,
    "dial": dial,
}


def _with(scope: Scope, fields: Any, path: Path, **wants: Want) -> dict[str, Any]:
    """The fields, with the expressions among them turned into specs."""
    if not isinstance(fields, dict):
        raise scope.wrong(f"{fields!r} is no mapping of fields", path)
    made = dict(fields)
    for name, want in wants.items():
        if name in made:
            made[name] = scope.spec(made[name], want, (*path, name))
    return made


def _models(scope: Scope, fields: dict[str, Any], path: Path) -> dict[str, Any]:
    models = fields.get("models")
    if isinstance(models, list):
        fields["models"] = [scope.spec(model, "model", (*path, "models", i)) for i, model in enumerate(models)]
    return fields


def _floats(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    """Whole numbers are weights, densities and lambdas too, alone and in a list."""
    for name in names:
        value = fields.get(name)
        if isinstance(value, list):
            fields[name] = [float(v) if type(v) is int else v for v in value]
        elif type(value) is int:
            fields[name] = float(value)
    return fields


def _asking(scope: Scope, fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """The prompt and the sampling as values; a bare string is the prompt's template."""
    made = dict(fields)
    prompt = made.get("prompt")
    if prompt is not None:
        mapping = {"template": prompt} if isinstance(prompt, str) else prompt
        made["prompt"] = _value(scope, Prompt, mapping, (*path, "prompt"))
    if "sampling" in made:
        made["sampling"] = _value(scope, Sampling, made["sampling"], (*path, "sampling"))
    return made


def _value(scope: Scope, make: type[V], fields: Any, path: Path) -> V:
    if not isinstance(fields, dict):
        raise scope.wrong(f"{fields!r} is no mapping of fields", path)
    return scope.build(make, fields, make.model_fields, path)


def _grader(scope: Scope, fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """The field `by`; of a grader of the user's own also the file that it is in, whose content is identity."""
    by = fields.get("by")
    if isinstance(by, str) and ":" in by:
        return {"by": by, "grader": scope.literal(by, "grader", (*path, "by"))}
    return {"by": by} if "by" in fields else {}


def _only(scope: Scope, fields: dict[str, Any], known: list[str], path: Path) -> None:
    for name in fields:
        if name not in known:
            raise scope.wrong(f"unknown key '{name}'", (*path, name), suggestion(name, known))
