"""Teachers of an on-policy distillation: a distribution over the student's own tokens, from weights that are here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from micota.checks.before_merging import tokenizer_source
from micota.checks.finding import Finding
from micota.checks.models import Subject, Use
from micota.checks.rules import check_use
from micota.errors import MicotaError
from micota.specs import OnPolicyDistillation, Source, Spec
from micota.store.resolution import ENDPOINT, cached_tokenizer
from micota.store.task import Task

SHOWN = 3  # tokens in a message


def inspect_teachers(specs: Iterable[Spec]) -> Iterator[Finding]:
    """What a distillation would refuse, before its models are made: the models that they come from are compared."""
    for spec in specs:
        if not isinstance(spec, OnPolicyDistillation):
            continue
        teacher, student = tokenizer_source(spec.teacher), tokenizer_source(spec.base)
        try:
            if teacher and teacher.ref.startswith(ENDPOINT):
                why = "a server answers with text and a few log-probabilities; the loss needs the whole distribution"
                raise MicotaError("a teacher behind a server cannot be distilled on-policy", why=why, fix=_OTHERWISE)
            if teacher and student and teacher != student:
                first, second = cached_tokenizer(student), cached_tokenizer(teacher)
                if first and second:
                    _compare(student.ref, first, teacher.ref, second, spec.trust_remote_code)
        except MicotaError as error:
            name = teacher.ref if teacher else spec.teacher.kind
            yield Finding("teacher", name, error.what, error.why or "", error.fix or "")


def check_distillation(task: Task, tokenizer: Any, base: Path, teacher: Path) -> None:
    """Check a model, how it is asked, and its teacher's vocabulary, before a distillation begins. Raises MicotaError;
    warnings go to the log."""
    spec = task.spec
    assert isinstance(spec, OnPolicyDistillation)
    names = [one.ref if isinstance(one, Source) else one.id for one in (spec.base, spec.teacher)]
    _compare(names[0], base, names[1], teacher, spec.trust_remote_code)
    check_use(task, Subject.beside(names[0], tokenizer, base), Use("distillation", spec.prompt, spec.sampling))


def _compare(student: str, folder: Path, teacher: str, other: Path, trust: bool) -> None:
    """Raise MicotaError unless every token has the same number in both vocabularies, and the teacher a row for it."""
    here, there = (Subject.read(name, path, trust) for name, path in ((student, folder), (teacher, other)))
    ours, theirs = (dict(subject.tokenizer.get_vocab()) for subject in (here, there))
    if odd := sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)):
        shown = ", ".join(f"{token!r} is {ours.get(token)} here and {theirs.get(token)} there" for token in odd[:SHOWN])
        what = f"the tokenizers of {student} and its teacher {teacher} differ in {len(odd)} tokens: {shown}"
        why = "the divergence compares two distributions over the same tokens"
        raise MicotaError(what, why=why, fix=_OTHERWISE)
    if here.rows and there.rows and there.rows < here.rows:
        what = f"the teacher {teacher} has {there.rows} rows of embedding, {student} has {here.rows}"
        raise MicotaError(what, fix=f"micota pad {other} OUT --rows {here.rows}, and OUT as teacher")


_OTHERWISE = "take a teacher of the student's family; of any other train on its chains: {distill: {from: TEACHER, ...}}"
