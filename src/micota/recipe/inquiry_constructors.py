"""The calls that ask a model about responses: the texts that it reads, and judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from micota.recipe.merge_constructors import ModelLike
from micota.recipe.signature import build, constructor
from micota.recipe.words import as_model
from micota.specs import JUDGE, Generate, Inquiry, Judge, ProblemSet, Prompt, Spec

PromptLike = Prompt | str | Mapping[str, Any]


@constructor(Judge)
def judge(model: ModelLike, prompt: PromptLike = JUDGE, **fields: Any) -> Judge:
    """A grader that is a model, for `by`: it reads question, reference answer and answer, and ends with a verdict.

    >>> arbiter = judge("Qwen/Qwen2.5-72B-Instruct", sampling={"max_tokens": 1_000})
    """
    return build(Judge, model=as_model(model), prompt=asked(prompt, JUDGE), **fields)


def asked(prompt: PromptLike, usual: str) -> Prompt:
    """What a model is asked: a prompt, with the usual template where it has none."""
    if isinstance(prompt, Prompt):
        return prompt
    return build(Prompt, **({"template": prompt} if isinstance(prompt, str) else {"template": usual, **prompt}))


def inquired(
    responses: Spec,
    problems: ProblemSet,
    model: ModelLike,
    prompt: Prompt,
    fields: dict[str, Any],
    part: str = "response",
) -> Generate:
    """A model's answers to a text about each response."""
    inquiry = build(Inquiry, responses=responses, problems=problems, template=prompt.template, part=part)
    message = prompt.changed(template="{problem}")
    return build(Generate, model=as_model(model), problems=inquiry, prompt=message, **fields)
