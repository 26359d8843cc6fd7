"""The rules together: on a model as it is used, on a batch, and on a training that is about to begin."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from micota.chat import end_id, example
from micota.checks import chat_templates as templates
from micota.checks import endings, limits, packing, stopping, turns
from micota.checks import training_examples as examples
from micota.checks.example import Example, plain
from micota.checks.example import example as example_of
from micota.checks.finding import Finding, errors, raise_first
from micota.checks.subject import Subject, Use, beside
from micota.specs import Prompt, Source, Train
from micota.store.task import Task

PROBLEM = "What is $1+1$?\nPlease reason step by step, and put your final answer within \\boxed{}."
MARKED = re.compile(r"{%-?\s*generation\s*-?%}")
RESPONSE = limits.THINKING + limits.PLAIN


def look(subject: Subject, uses: Sequence[Use] = ()) -> list[Finding]:
    """The findings on a model as it is used; without uses, on asking and training it through its chat template."""
    found: list[Finding] = []
    chat = not uses or any(use.prompt.mode == "chat" for use in uses)
    if chat:
        found += templates.check(subject)
        for system in dict.fromkeys(use.prompt.system for use in uses if use.prompt.mode == "chat"):
            found += templates.check_system(subject, system) if system and not errors(found) else ()
    found += stopping.check(subject, uses)
    made = None if errors(found) or not chat else _own(subject, uses)
    found += limits.rows(subject, made.ids if made else ())
    for use in uses:
        found += [*limits.context(subject, use), *limits.stops(subject, use)]
    if made and not errors(found):
        found += [one for one in examples.check(subject, [made], _system(uses)) if one.check != "unknown"]
        found += _marked(subject)
    return once(found)


def _marked(subject: Subject) -> list[Finding]:
    """A template that marks what is learnt marks the end token with it, and nothing behind."""
    if not MARKED.search(subject.tokenizer.get_chat_template()):
        return []
    asked = [{"role": "user", "content": PROBLEM}, {"role": "assistant", "content": RESPONSE}]
    made = subject.tokenizer.apply_chat_template(asked, return_dict=True, return_assistant_tokens_mask=True)
    one = example_of({"input_ids": made["input_ids"], "assistant_masks": made["assistant_masks"]})
    found = endings.check(subject, one, None, deep=False) if one.end else ()
    return [replace(one, severity="warning", what=f"by its template's {{% generation %}}, {one.what}") for one in found]


def once(found: Iterable[Finding]) -> list[Finding]:
    """Each finding once, errors first."""
    seen = {(one.check, one.model, one.what): one for one in found}
    return sorted(seen.values(), key=lambda one: one.severity)


def look_at_examples(
    subject: Subject,
    rows: Iterable[Mapping[str, Any] | Example],
    system: str | None = None,
    cutoff: int | None = None,
) -> list[Finding]:
    """The findings on training examples: rows of `input_ids` and `labels`, or of a mask that says what is learnt.

    A row that gives its `prompt` (the user's turn) and `response` as texts is compared with them. One with
    `position_ids` or TRL's `seq_lengths` is a row of packed examples.
    """
    alone: list[Example] = []
    found: list[Finding] = []
    for row in rows:
        if isinstance(row, Example) or all(row.get(name) is None for name in ("position_ids", "seq_lengths")):
            alone.append(example_of(row))
            continue
        lengths = [plain(row["seq_lengths"])] if row.get("seq_lengths") is not None else None
        alone += packing.pieces(subject, row, lengths)
        found += packing.check(subject, row, lengths) if row.get("position_ids") is not None else []
    return once([*found, *examples.check(subject, alone, system, cutoff)])


def look_at_batch(
    subject: Subject,
    batch: Mapping[str, Any],
    lengths: Sequence[Sequence[int]] | None = None,
    system: str | None = None,
) -> list[Finding]:
    """The findings on a batch of packed examples, and on each of them; `lengths` are those of each row's examples."""
    found = packing.check(subject, batch, lengths)
    apart = [one for one in packing.pieces(subject, batch, lengths) if one.ids]
    return once([*found, *examples.check(subject, apart, system)])


def before_training(task: Task, tokenizer: Any, base: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Look at the model and at the examples that it is about to learn. Raises MicotaError; warnings go to the log."""
    spec = task.spec
    assert isinstance(spec, Train)
    subject = _trained(spec, tokenizer, base)
    use = Use("training", Prompt(system=spec.system), cutoff=spec.cutoff)
    found = [*look(subject, [use]), *examples.check(subject, rows, spec.system, spec.cutoff)]
    raise_first(found)
    if found and os.environ.get("RANK", "0") == "0":
        with open(task.work / "log.txt", "a", encoding="utf-8") as log:
            log.writelines(f"{one}\n" for one in once(found))


def before_sharing_rows(task: Task, tokenizer: Any, base: Path, batch: Mapping[str, Any]) -> None:
    """Look at a batch, as the trainer's collator makes it, whose examples share a row. Raises MicotaError."""
    spec = task.spec
    assert isinstance(spec, Train)
    raise_first(look_at_batch(_trained(spec, tokenizer, base), batch, system=spec.system))


def _trained(spec: Train, tokenizer: Any, base: Path) -> Subject:
    name = spec.base.ref if isinstance(spec.base, Source) else f"{spec.base.kind} {spec.base.digest}"
    return beside(name, tokenizer, base)


def _system(uses: Sequence[Use]) -> str | None:
    """The system message of the training among the uses."""
    return next((use.prompt.system for use in uses if use.cutoff), None)


def _own(subject: Subject, uses: Sequence[Use]) -> Example | None:
    """The example that a training of ours would make of a problem and a thought with its answer."""
    try:
        end = end_id(subject.tokenizer, list(subject.eos))
        made = example(subject.tokenizer, PROBLEM, RESPONSE, _system(uses), end)
    except Exception as error:
        raise turns.Refused(str(error)) from error
    unknown = subject.tokenizer.unk_token_id in made["input_ids"]
    return Example(made["input_ids"], made["labels"], PROBLEM, None if unknown else RESPONSE)
