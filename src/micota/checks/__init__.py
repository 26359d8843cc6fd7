"""The linter: a model's template, end tokens and limits, and the examples it is trained on, before anything is made.

It judges by what comes out, token by token, and knows no model by name. Weights are never read.

    subject = lint.of("mine", tokenizer, generation_config, config)
    for finding in lint.look(subject) + lint.look_at_examples(subject, rows):
        print(finding)
"""

from __future__ import annotations

from micota.checks.agreement import agree
from micota.checks.example import Example
from micota.checks.finding import Finding, errors, raise_first
from micota.checks.rules import before_sharing_rows, before_training, look, look_at_batch, look_at_examples
from micota.checks.subject import Subject, Use, of, read

__all__ = [
    "Example",
    "Finding",
    "Subject",
    "Use",
    "agree",
    "before_sharing_rows",
    "before_training",
    "errors",
    "look",
    "look_at_batch",
    "look_at_examples",
    "of",
    "raise_first",
    "read",
]
