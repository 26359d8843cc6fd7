"""Mistakes of a recipe before anything is made: its data, and each model that it uses, with all its uses.

A fine-tuned model has the tokenizer and the EOS tokens of its base, a merged one those of the first model that was
merged: that model is checked in its place.
"""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from micota.chat import render
from micota.checks import weights
from micota.checks.before_merging import inspect_merges, tokenizer_source
from micota.checks.finding import Finding, beginning, difference, distinct, errors
from micota.checks.models import PROBLEM, Subject, Use
from micota.checks.rules import check_model
from micota.checks.teachers import inspect_teachers
from micota.data import problem_sets
from micota.errors import MicotaError, suggestion
from micota.grading import Verdict, exact_match
from micota.grading.semantic import gold_text, judge
from micota.pretrained import refuse_adapter
from micota.specs import (
    GRADERS,
    FineTuned,
    Generate,
    LengthDial,
    OnPolicyDistillation,
    Problems,
    SftData,
    Source,
    Spec,
    Train,
    Verify,
    walk,
)
from micota.store.artifacts import Store
from micota.store.resolution import ENDPOINT, cached_tokenizer

MOST_GOLDS = 500
"""So many reference answers of a problem set are checked."""
Inspection = tuple[list[str], list[Finding]]
"""A line for each thing that was checked, and the findings, errors first."""
UNREAD = ": not checked: "
"""What stands between the name of a thing that is not here, in such a line, and why it was not checked."""


def inspect(targets: Iterable[Spec], store: Store | None = None) -> Inspection:
    """Check what the targets need and the store lacks. Raises MicotaError for a mistake of the data."""
    roots = list(targets)
    lines = _probes(roots)
    missing = [spec for spec in walk(*roots) if store is None or not store.manifest(spec)]
    graded = [spec for spec in missing if isinstance(spec, Verify)]
    lines += [_grader_function(one) for spec in missing if (one := getattr(spec, "grader", None))]
    for spec in missing:
        if isinstance(spec, Problems):
            lines += _problem_set(spec, {verify.by for verify in graded if verify.problems == spec})
        if isinstance(spec, SftData):
            lines.append(f"{spec.source.ref}{UNREAD}its rows are read before the training")
    on_models, findings = inspect_models(missing)
    return list(dict.fromkeys(lines + on_models)), findings


def inspect_models(specs: Sequence[Spec]) -> Inspection:
    """Check the models that generate, are trained or merged."""
    lines, findings = _inspect_files(specs)
    findings += distinct([*inspect_merges(specs), *inspect_teachers(specs)])
    if errors(findings):
        return lines, findings
    for model in _models(specs):
        ref = model.source.ref
        folder = None if ref.startswith(ENDPOINT) else cached_tokenizer(model.source)
        if folder is None:
            lines.append(_unread(model.source))
            continue
        subject = Subject.read(ref, folder, model.trust_remote_code)
        here = check_model(subject, model.uses)
        here += [finding for training, use in model.pairs for finding in compare_prompts(subject, training, use)]
        lines.append(f"{ref}: {_summary(here)}, in {len(model.uses)} uses")
        findings += here
    return lines, distinct(findings)


def _inspect_files(specs: Sequence[Spec]) -> Inspection:
    """Check the weights of the models that are read, where they are here, and the modules that get adapters."""
    lines: list[str] = []
    findings: list[Finding] = []
    uses = [(spec, child) for spec in specs if spec.source_type == "model" for child in spec.children]
    models = {one.digest: one for spec, one in uses if isinstance(one, Source) and one != getattr(spec, "grader", 0)}
    trainings = [(tokenizer_source(spec.base), spec.lora) for spec in specs if isinstance(spec, FineTuned)]
    trust = any(getattr(spec, "trust_remote_code", False) for spec in specs)
    for model in models.values():
        if folder := cached_tokenizer(model):
            targets = {target for base, lora in trainings if base == model and lora for target in lora.targets}
            more, here = weights.check(model.ref, folder, targets, trust, needed=model.path is not None)
            lines += more
            findings += here
        else:
            lines.append(_unread(model))
    return lines, findings


def _unread(model: Source) -> str:
    """Why a model was not checked."""
    why = "it is behind a server" if model.ref.startswith(ENDPOINT) else "its tokenizer is not in the local cache"
    return f"{model.ref}{UNREAD}{why}"


def inspect_folder(folder: str) -> Inspection:
    """Check a model folder alone. Raises MicotaError if it is none."""
    refuse_adapter(Path(folder))
    if not (Path(folder) / "tokenizer_config.json").is_file():
        raise MicotaError(f"{folder} has no tokenizer_config.json", fix="name the folder that from_pretrained loads")
    lines, findings = weights.check(folder, Path(folder), needed=False)
    findings = findings or check_model(Subject.read(folder, Path(folder)))
    return [f"{folder}: {_summary(findings)}", *lines], findings


def compare_prompts(subject: Subject, training: Use, generation: Use) -> Iterator[Finding]:
    """The finding on a model that is trained and then generates: with one system message, both through its template,
    and in one mode of that."""
    evidence = list(_prompts(subject, training, generation))
    if generation.prompt.mode != training.prompt.mode:
        yield subject.finding("mode", *evidence, where=generation.where)
    elif (training.prompt.system or "") != (generation.prompt.system or ""):
        system = repr(generation.prompt.system)
        yield subject.finding("system-differs", *evidence, where=generation.where, system=system)
    elif training.prompt.template_kwargs != generation.prompt.template_kwargs and evidence[0][1] != evidence[1][1]:
        yield subject.finding("keywords-differ", *evidence, where=generation.where)


def _prompts(subject: Subject, training: Use, generation: Use) -> Iterator[tuple[str, str]]:
    """The beginnings of the two prompts, or the recipe's system messages where they cannot be rendered."""
    prompts = [use.prompt for use in (training, generation)]
    try:
        texts = [
            render(subject.tokenizer, PROBLEM, prompt.system, prompt.mode, **prompt.template_kwargs)
            for prompt in prompts
        ]
    except Exception:  # a template that refuses a system message has its own finding
        texts = [str(prompt.system) for prompt in prompts]
    return zip(("training", "generation"), map(beginning, difference(*texts)), strict=True)


def _summary(findings: list[Finding]) -> str:
    return (
        f"{len(findings)} finding{'s' * (len(findings) > 1)}"
        if findings
        else "template, EOS tokens and examples are right"
    )


@dataclass
class _Usage:
    """A model made elsewhere, its uses, and the pairs of training and generation whose prompts must agree."""

    source: Source
    trust_remote_code: bool
    uses: list[Use] = field(default_factory=list)
    pairs: list[tuple[Use, Use]] = field(default_factory=list)


def _models(specs: Iterable[Spec]) -> Iterable[_Usage]:
    usages: dict[str, _Usage] = {}
    for spec in specs:
        if not isinstance(spec, Generate | FineTuned):
            continue
        model = spec.model if isinstance(spec, Generate) else spec.base
        source = tokenizer_source(model)
        if source is None:
            continue
        usage, use = usages.setdefault(source.digest, _Usage(source, spec.trust_remote_code)), _use(spec)
        if use not in usage.uses:
            usage.uses.append(use)
        if isinstance(spec, Generate):
            usage.pairs += [(_use(tuned), use) for tuned in (model, *model.parents) if isinstance(tuned, FineTuned)]
    return usages.values()


def _use(spec: Generate | FineTuned) -> Use:
    if isinstance(spec, Train):
        return Use("training", spec.prompt, cutoff=spec.cutoff)
    assert isinstance(spec, Generate | OnPolicyDistillation)
    problems = spec.problems.benchmark or spec.problems.source.ref if spec.problems else "the rows of a distillation"
    return Use(f"answers to {problems}", spec.prompt, spec.sampling)


def _probes(targets: Sequence[Spec]) -> list[str]:
    """A dial tries its candidates on problems that are not evaluated: the choice would flatter the result."""
    sets = [spec.problems for spec in targets if isinstance(spec, Verify)]
    evaluated = [one for one in sets if isinstance(one, Problems)]
    dials = [spec for spec in walk(*targets) if isinstance(spec, LengthDial)]
    for probe in (dial.probe.problems for dial in dials):
        if any(share_rows(probe, problems) for problems in evaluated):
            raise MicotaError(
                f"a dial's probe problems are evaluated too: {probe.source.ref}, split {probe.split}",
                why="weights that were chosen on the evaluation's problems would flatter the result",
                fix="use problems of another split for `probe`, or other rows of it with skip and n",
            )
    return [f"{len(dials)} dials: their probe problems are not evaluated"] if dials and evaluated else []


def share_rows(first: Problems, second: Problems) -> bool:
    """Whether two problem sets take some of the same rows of the same source; seeds only tell the lab's apart."""
    seeds = [p.seed if p.source.ref.startswith("lab:") else 0 for p in (first, second)]
    places = [(p.source.digest, p.config, p.split, seed) for p, seed in zip((first, second), seeds, strict=True)]
    ends = [math.inf if p.n is None else p.skip + p.n for p in (first, second)]
    return places[0] == places[1] and first.skip < ends[1] and second.skip < ends[0]


def _problem_set(spec: Problems, graders: Set[str] = frozenset()) -> list[str]:
    """A local problem set has the named columns, a row, and reference answers that can be met; one of the Hub is
    checked when it is read."""
    ref = spec.source.ref
    if spec.source.path is None and not ref.startswith("lab:"):
        return [f"{ref}{UNREAD}its columns '{spec.problem}' and '{spec.answer}' are looked for when it is read"]
    with contextlib.closing(problem_sets.read(spec)) as rows:
        first = list(islice(rows, MOST_GOLDS))
    if not first:
        raise MicotaError(f"{ref} has no rows", fix="check the file and the split")
    lines = [f"{ref}: a problem is {str(first[0]['problem'])[:60]!r}, its answer {str(first[0]['answer'])[:20]!r}"]
    for by in sorted(graders & GRADERS.keys() - {"choice"}):
        unmet = [(at, row["answer"]) for at, row in enumerate(first, 1) if not _can_be_met(row["answer"], spec, by)]
        if unmet:
            at, gold = unmet[0]
            count = f"{len(unmet)} of the first {len(first)} reference answers can never be met by {by}"
            lines.append(f"warning: {ref}: {count}, such as row {at}: {str(gold)[:60]!r}")
    return lines


def _can_be_met(gold: object, spec: Problems, by: str) -> bool:
    """Whether a response that states the reference answer, and nothing else, would be correct."""
    text = gold_text(gold, spec.benchmark)
    if gold is None or not text.strip():
        return False
    if by == "exact_match":
        response = text if spec.benchmark == "gsm8k" else f"\\boxed{{{text}}}"
        return exact_match(response, gold, spec.benchmark).verdict == Verdict.correct
    return judge(text, text, identical=False).verdict == Verdict.correct


def _grader_function(grader: Source) -> str:
    """A grader of the user's own is defined in its file, which is read and not run."""
    assert grader.path is not None
    name = grader.ref.partition(":")[2]
    try:
        tree = ast.parse(Path(grader.path).read_bytes())
    except (SyntaxError, ValueError) as error:
        raise MicotaError(f"{grader.path} is not Python: {error}", fix="correct the file of the grader") from None
    here = (node for node in ast.walk(tree) if not isinstance(getattr(node, "ctx", None), ast.Load))
    values = (getattr(node, field, None) for node in here for field in ("name", "asname", "id"))
    names = {word for word in values if isinstance(word, str)}
    if name not in names:
        raise MicotaError(f"{grader.path} has no function '{name}'", fix=suggestion(name, names))
    return f"{grader.ref}: its file defines it"
