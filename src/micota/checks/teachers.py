"""Teachers of an on-policy distillation: a distribution from weights that are here, over comparable tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from micota.chat import end_id, unread_keywords
from micota.checks.before_merging import tokenizer_source
from micota.checks.finding import Finding
from micota.checks.models import Subject, Use
from micota.checks.rules import check_use
from micota.errors import MicotaError
from micota.specs import OnPolicyDistillation, Source, Spec
from micota.store.resolution import ENDPOINT, cached_tokenizer
from micota.store.task import Task
from micota.training.token_alignment import TokenAlignment

SHOWN = 3  # tokens in a message
PROBE = "12+3 is 15.\n\nSo  we get x = 15"


def inspect_teachers(specs: Iterable[Spec]) -> Iterator[Finding]:
    """What a distillation would refuse or do otherwise, before its models are made: the models that they come from are
    compared."""
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
                    trust = spec.trust_remote_code
                    subjects = (Subject.read(student.ref, first, trust), Subject.read(teacher.ref, second, trust))
                    yield from _other(*subjects, spec.top_k)
        except MicotaError as error:
            name = teacher.ref if teacher else spec.teacher.kind
            yield Finding("teacher", name, error.what, error.why or "", error.fix or "")


def check_distillation(task: Task, tokenizer: Any, base: Path, teacher: Path) -> TokenAlignment | None:
    """Check a model, how it is asked, and its teacher, before a distillation begins. Raises MicotaError; warnings go to
    the log. Returns how the tokens of both are aligned, if the teacher has another tokenizer."""
    spec = task.spec
    assert isinstance(spec, OnPolicyDistillation)
    names = [one.ref if isinstance(one, Source) else one.id for one in (spec.base, spec.teacher)]
    here = Subject.beside(names[0], tokenizer, base)
    there = Subject.read(names[1], teacher, spec.trust_remote_code)
    found = alignment(here, there, spec.top_k)
    check_use(task, here, Use("distillation", spec.prompt, spec.sampling))
    if found:
        unread = unread_keywords(there.tokenizer, spec.prompt.template_kwargs) if there.has_template else ()
        keywords = {name: value for name, value in spec.prompt.template_kwargs.items() if name not in unread}
        check_use(task, there, Use("the teacher of a distillation", spec.prompt.changed(template_kwargs=keywords)))
    return found


def alignment(student: Subject, teacher: Subject, top_k: int | None = None) -> TokenAlignment | None:
    """How the tokens of two models are aligned; None where each token has the same number in both.

    Raises MicotaError if the teacher has no row for a token of the student's, or none of its tokens, or changes the
    texts that it reads; with `top_k`, if they need to be aligned.
    """
    if _vocabulary(student) != _vocabulary(teacher):
        if top_k:
            what = f"top_k keeps a teacher's tokens for a student, and {teacher.name} has another tokenizer"
            raise MicotaError(what, fix=f"leave top_k out, or take a teacher of the family of {student.name}")
        ends = [end_id(one.tokenizer, list(one.eos)) for one in (student, teacher)]
        found = TokenAlignment(student.tokenizer, teacher.tokenizer, (ends[0], ends[1]), student.eos, teacher.context)
        if len(found.shared) > 1:
            _check_reading(found, student, teacher)
            return found
        what = f"the tokenizers of {student.name} and its teacher {teacher.name} have no token in common"
        raise MicotaError(what, why="no two probabilities could be compared", fix=_OTHERWISE)
    if student.rows and teacher.rows and teacher.rows < student.rows:
        what = f"the teacher {teacher.name} has {teacher.rows} rows of embedding, {student.name} has {student.rows}"
        raise MicotaError(
            what, fix=f"micota pad {teacher.tokenizer.name_or_path} OUT --rows {student.rows}, and OUT as teacher"
        )
    return None


def _check_reading(found: TokenAlignment, student: Subject, teacher: Subject) -> None:
    """Raise MicotaError if the teacher's tokenizer writes another text than it reads: lower case, a space before it."""
    there, marks, _ = found.answer(student.ids(PROBE))
    if 0 in marks:
        read, again = student.text(student.ids(PROBE)), teacher.text(there)
        what = f"the tokenizer of the teacher {teacher.name} makes {again!r:.60} of {read!r:.60}"
        raise MicotaError(what, why="behind the first difference no token of an answer would be learnt", fix=_OTHERWISE)


def _vocabulary(subject: Subject) -> dict[str, int]:
    return dict(subject.tokenizer.get_vocab())


def _other(student: Subject, teacher: Subject, top_k: int | None) -> Iterator[Finding]:
    """The warning on a teacher with another tokenizer."""
    if found := alignment(student, teacher, top_k):
        ours, theirs = _vocabulary(student), _vocabulary(teacher)
        odd = sorted(token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token))
        shown = ", ".join(
            f"{token!r} is {ours.get(token, 'missing')} here and {theirs.get(token, 'missing')} there"
            for token in odd[:SHOWN]
        )
        what = f"the tokenizers of {student.name} and its teacher differ in {len(odd)} tokens: {shown}"
        why = f"answers are compared span by span, over the {len(found.shared)} tokens of equal text (GOLD)"
        fix = "for the divergence over the whole vocabulary take a teacher of the student's family"
        yield Finding("teacher", teacher.name, what, why, fix, severity="warning")


_OTHERWISE = "take a teacher of the student's family; of any other train on its chains: {distill: {from: TEACHER, ...}}"
