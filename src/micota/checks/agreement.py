"""Whether a model is trained in the way in which it is asked."""

from __future__ import annotations

from collections.abc import Iterator

from micota.chat import render
from micota.checks import turns
from micota.checks.finding import Finding, beginning, difference
from micota.checks.subject import Subject, Use


def agree(subject: Subject, training: Use, asking: Use) -> Iterator[Finding]:
    """The findings on a model that is trained and then asked: one system message, one way through the template."""
    if asking.prompt.mode != training.prompt.mode:
        yield Finding(
            "mode",
            subject.name,
            f"it is trained through its chat template and asked without it ({asking.where})",
            "the model would be asked with another prompt than it has learnt to answer",
            "remove `mode: raw` there; it is right only where the paper's script is to be repeated",
            _prompts(subject, training, asking),
            "warning",
        )
    elif (training.prompt.system or "") != (asking.prompt.system or ""):
        yield Finding(
            "system",
            subject.name,
            f"it is trained with another system message than it is asked with ({asking.where})",
            "the model would be asked with another prompt than it has learnt to answer",
            f"set `system: {asking.prompt.system!r}` in the training, or the training's in the prompt",
            _prompts(subject, training, asking),
        )


def _prompts(subject: Subject, training: Use, asking: Use) -> tuple[tuple[str, str], ...]:
    """The beginnings of the two prompts, or what the recipe says where they cannot be rendered."""
    try:
        made = [render(subject.tokenizer, turns.PROBLEM, u.prompt.system, u.prompt.mode) for u in (training, asking)]
    except Exception:  # a template that refuses a system message has its own finding
        made = [str(training.prompt.system), str(asking.prompt.system)]
    one, two = difference(*made)
    return ("training", beginning(one)), ("generation", beginning(two))
