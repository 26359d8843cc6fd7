"""Template, end-of-sequence, context and packing mistakes of models, examples and recipes, before anything is made.

The checks render, tokenize and compare; they know no model by name and read no weights.

    subject = checks.Subject.of("mine", tokenizer, generation_config, config)
    for finding in checks.check_model(subject) + checks.check_examples(subject, rows):
        print(finding)
"""

from micota.checks.examples import Example
from micota.checks.finding import Finding, errors, raise_first
from micota.checks.models import Subject, Use
from micota.checks.rules import check_batch, check_examples, check_model, check_packed_batch, check_training
from micota.checks.teachers import check_distillation

__all__ = [
    "Example",
    "Finding",
    "Subject",
    "Use",
    "check_batch",
    "check_distillation",
    "check_examples",
    "check_model",
    "check_packed_batch",
    "check_training",
    "errors",
    "raise_first",
]
