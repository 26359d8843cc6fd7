"""All rules together: on a model and its uses, on examples, on a batch, and on a training that is about to begin."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from micota.atomic import files_only
from micota.chat import end_id, example
from micota.checks import chat_templates, limits, packing, training_examples
from micota.checks.examples import Example, integers
from micota.checks.finding import Finding, distinct, errors, raise_first
from micota.checks.models import Refused, Subject, Use
from micota.specs import Source, Train
from micota.store.task import Task

PROBLEM = "What is $1+1$?\nPlease reason step by step, and put your final answer within \\boxed{}."
RESPONSE = limits.THINKING + limits.PLAIN
Row = Mapping[str, Any]


def check_model(subject: Subject, uses: Sequence[Use] = ()) -> list[Finding]:
    """The findings on a model and its uses; without uses, on generation and training through its chat template."""
    modes: list[Row] = [use.prompt.template_kwargs for use in uses] or [subject.template_kwargs]
    findings: list[Finding] = []
    for mode in [mode for at, mode in enumerate(modes) if mode not in modes[:at]]:
        alike = [use for use in uses if use.prompt.template_kwargs == mode]
        findings += _check_mode(subject.asked_with(mode), alike)
    return distinct(findings)


def _check_mode(subject: Subject, uses: Sequence[Use]) -> list[Finding]:
    """The findings on a model whose uses have the same keywords of its chat template."""
    findings: list[Finding] = []
    through_template = not uses or any(use.prompt.mode == "chat" for use in uses)
    if through_template:
        findings += [*chat_templates.check(subject), *chat_templates.check_keywords(subject)]
        systems = dict.fromkeys(use.prompt.system for use in uses if use.prompt.mode == "chat" and use.prompt.system)
        for system in systems if uses else (None,):
            findings += chat_templates.check_system(subject, system) if not errors(findings) else ()
    findings += [*limits.eos(subject, uses), *limits.thought_tags(subject)]
    own = _own_example(subject, uses) if through_template and not errors(findings) else None
    findings += limits.rows(subject, own.ids if own else ())
    for use in uses:
        findings += [*limits.context(subject, use), *limits.stop_strings(subject, use)]
    if own and not errors(findings):
        on_own = training_examples.check(subject, [own], _system(uses))
        findings += [finding for finding in on_own if finding.rule != "unknown"]
    return findings


def check_examples(
    subject: Subject, rows: Iterable[Row | Example], system: str | None = None, cutoff: int | None = None
) -> list[Finding]:
    """The findings on training examples: rows of `input_ids` and `labels`, or of a mask of what is in the loss.

    If a row has its `response` as text, the loss is compared with it. A row with `position_ids` or TRL's `seq_lengths`
    is one of packed examples.
    """
    alone: list[Example] = []
    findings: list[Finding] = []
    for row in rows:
        if isinstance(row, Example) or all(row.get(name) is None for name in ("position_ids", "seq_lengths")):
            alone.append(Example.of(row))
            continue
        lengths = [integers(row["seq_lengths"])] if row.get("seq_lengths") is not None else None
        alone += packing.examples(subject, row, lengths)
        findings += packing.check(subject, row, lengths) if row.get("position_ids") is not None else []
    return distinct([*findings, *training_examples.check(subject, alone, system, cutoff)])


def check_batch(
    subject: Subject, batch: Row, lengths: packing.Lengths | None = None, system: str | None = None
) -> list[Finding]:
    """The findings on a batch of packed examples, and on each of them; `lengths` are those of each row's examples."""
    examples = packing.examples(subject, batch, lengths)
    return distinct([*packing.check(subject, batch, lengths), *training_examples.check(subject, examples, system)])


def check_training(task: Task, tokenizer: Any, base: Path, rows: Sequence[Row]) -> None:
    """Check a model and the examples that it is about to learn. Raises MicotaError; warnings go to the log."""
    spec, subject = _trained(task, tokenizer, base)
    use = Use("training", spec.prompt, cutoff=spec.cutoff)
    on_examples = training_examples.check(subject, rows, spec.system, spec.cutoff)
    _report(task, [*check_model(subject, [use]), *on_examples])


def check_use(task: Task, subject: Subject, use: Use) -> None:
    """Check a model that a stage is about to ask. Raises MicotaError; warnings go to the log."""
    _report(task, check_model(subject.asked_with(use.prompt.template_kwargs), [use]))


def _report(task: Task, findings: list[Finding]) -> None:
    raise_first(findings)
    if findings and os.environ.get("RANK", "0") == "0":
        with open(task.work / "log.txt", "a", encoding="utf-8", opener=files_only) as log:
            log.writelines(f"{finding}\n" for finding in distinct(findings))


def check_packed_batch(task: Task, tokenizer: Any, base: Path, batch: Row) -> None:
    """Check a batch of the trainer's collator whose examples share a row. Raises MicotaError."""
    spec, subject = _trained(task, tokenizer, base)
    raise_first(check_batch(subject, batch, system=spec.system))


def _trained(task: Task, tokenizer: Any, base: Path) -> tuple[Train, Subject]:
    spec = task.spec
    assert isinstance(spec, Train)
    name = spec.base.ref if isinstance(spec.base, Source) else f"{spec.base.kind} {spec.base.digest}"
    return spec, Subject.beside(name, tokenizer, base).asked_with(spec.template_kwargs)


def _system(uses: Sequence[Use]) -> str | None:
    """The system message of the training among the uses."""
    return next((use.prompt.system for use in uses if use.cutoff), None)


def _own_example(subject: Subject, uses: Sequence[Use]) -> Example:
    """The example that micota's training would make of a problem, a thought and its answer; behind a prompt that has
    closed the thought, of the answer."""
    system, end = _system(uses), end_id(subject.tokenizer, list(subject.eos))
    response = limits.PLAIN.strip() if subject.answers_at_once(subject.prompt(PROBLEM, system)) else RESPONSE
    try:
        row = example(subject.tokenizer, PROBLEM, response, system, end, **subject.template_kwargs)
    except Exception as error:
        raise Refused(str(error)) from error
    unknown = subject.tokenizer.unk_token_id in row["input_ids"]
    return Example(row["input_ids"], row["labels"], None if unknown else response)
