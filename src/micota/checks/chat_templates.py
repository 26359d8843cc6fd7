"""Mistakes of a chat template alone: it is rendered, and the results are compared."""

from __future__ import annotations

import re
from collections.abc import Iterator

from micota.checks.finding import Finding, beginning, difference, ending, errors
from micota.checks.models import ANSWER, PROBLEM, Refused, Subject, closed_thought, without_thought_tags

MARKER = re.compile(r"<\|[^\s<>|]{1,40}\|>|<｜[^\s<>｜]{1,40}｜>|</?s>|<(?:bos|eos|start_of_turn|end_of_turn)>")
"""What should be one token where a template writes it."""
ROLE = re.compile(r"user|assistant|system|human|bot|model", re.I)
TEXTS = (
    "What is 1+1?",
    "Let $x=\\frac{1}{2}$, {{y}} and {% z %}.\n\nFind \\boxed{x}: a < b & c > \"d\" 'e'",
    "√2 · 数学 é",
    "3 </think> 4",
    "<think>5</think> 6",
    "7 and " * 2000 + "8",
)
"""Problems that must stand in the prompt as they are."""
DAYS = ("day one", "day two")
RENDERINGS = 6  # a random choice among two shows itself in 31 of 32 cases


def check(subject: Subject) -> Iterator[Finding]:
    """The findings on a template, whatever it is used for; after a rule that finds an error the others are left out."""
    if not subject.has_template:
        yield subject.finding("template-missing")
        return
    try:
        for rule in (_problem, _variation, _markers, _generation_prompt):
            findings = list(rule(subject))
            yield from findings
            if errors(findings):
                return
    except Refused as error:
        yield subject.finding("template-raises", error=error)


def check_system(subject: Subject, system: str) -> Iterator[Finding]:
    """The system message of a recipe stands in the prompt."""
    try:
        prompt = subject.prompt(TEXTS[0], system)
    except Refused as error:
        yield subject.finding("system-refused", system=repr(system), error=error)
        return
    if system.strip() not in prompt:
        evidence = ("system message", beginning(system)), ("generation prompt", beginning(prompt))
        yield subject.finding("system-lost", *evidence)


def _problem(subject: Subject) -> Iterator[Finding]:
    """A problem stands in the generation prompt as it is, once."""
    for text in TEXTS:
        prompt = subject.prompt(text)
        if text not in prompt:
            evidence = ("problem", beginning(text)), ("generation prompt", beginning(prompt))
            rare = "think>" in text  # few problems hold a tag
            yield subject.finding("problem-changed", *evidence, severity="warning" if rare else "error")
            return
    prompt = subject.prompt(PROBLEM)
    if prompt.count(PROBLEM) > 1:
        yield subject.finding("problem-repeated", ("generation prompt", beginning(prompt)))


def _variation(subject: Subject) -> Iterator[Finding]:
    """The same problem gives the same prompt, on any day."""
    prompts = [subject.prompt(TEXTS[0]) for _ in range(RENDERINGS)]
    dated = len(set(prompts)) == 1
    if dated:
        prompts = [_on(subject, day) for day in DAYS]
    other = next((prompt for prompt in prompts if prompt != prompts[0]), None)
    if other is not None:
        evidence = zip(("once", "again"), difference(prompts[0], other), strict=True)
        varying = "the date" if dated else "another prompt each time"
        yield subject.finding("changes", *evidence, varying=varying, severity="warning" if dated else "error")


def _on(subject: Subject, day: str) -> str:
    """The prompt on a day: a macro in front of the template replaces its clock."""
    macro = f"{{%- macro strftime_now(format) -%}}{day}{{%- endmacro -%}}"
    template = macro + subject.tokenizer.get_chat_template()
    return subject.conversation(("user", TEXTS[0]), add_generation_prompt=True, chat_template=template)


def _markers(subject: Subject) -> Iterator[Finding]:
    """A marker that the template writes is one token.

    Some families write their roles as plain text (`<|user|>` of Zephyr and Tülu): that is right if all roles are.
    """
    text = subject.prompt("1") + subject.conversation(("user", "1"), ("assistant", "2"))
    markers = dict.fromkeys(MARKER.findall(text))
    whole = {marker for marker in markers if len(subject.ids(marker)) == 1 and not _is_unknown(subject, marker)}
    around = subject.around_answer()
    ends = MARKER.findall(around[1]) if around else []
    roles = [marker for marker in markers if ROLE.search(marker) and marker not in ends]
    plain_roles = [] if whole & set(roles) else roles
    for marker in markers:
        if marker not in whole and marker not in plain_roles:
            pieces = subject.ids(marker)
            evidence = ("template", marker), ("tokens", subject.names(pieces))
            yield subject.finding("markers", *evidence, marker=marker, number=len(pieces))


def _is_unknown(subject: Subject, text: str) -> bool:
    unknown = subject.tokenizer.unk_token_id
    return unknown is not None and unknown in subject.ids(text) and text != subject.tokenizer.unk_token


def _generation_prompt(subject: Subject) -> Iterator[Finding]:
    """The generation prompt is what stands before an answer in a conversation; thought tags may differ."""
    try:
        around = subject.around_answer()
    except Refused:  # a template for generation alone
        return
    if around is None:
        whole = subject.conversation(("user", PROBLEM), ("assistant", ANSWER))
        yield subject.finding("template-loses-answer", ("answer", ANSWER), ("template", ending(whole)))
        return
    before, prompt = around[0], subject.prompt(PROBLEM)
    first, second = without_thought_tags(before), without_thought_tags(prompt)
    if first == second:
        if closed_thought(prompt):
            yield subject.finding("thought-closed", ("generation prompt", ending(prompt)))
        ends = [text[len(first) :].partition("<")[0] for text in (before, prompt)]  # up to the first tag
        thinks = "think>" in before[len(first) :] + prompt[len(first) :]
        own = thinks and subject.ids(first)[-1] in subject.special  # behind a marker the model writes the line end
        if own or ends[0].count("\n") == ends[1].count("\n"):
            return
    elif _is_header(subject, prompt, before.removeprefix(prompt)):
        return
    lacks = before.startswith(prompt.rstrip())
    how = "lacks what its chat template writes before an answer" if lacks else "is not what stands before an answer"
    evidence = zip(("before an answer", "generation prompt"), difference(before, prompt), strict=True)
    yield subject.finding("generation-prompt", *evidence, how=how, severity="warning" if first == second else "error")


def _is_header(subject: Subject, prompt: str, rest: str) -> bool:
    """Whether what follows a prompt that names the role is the model's own choice up to a marker, such as a channel."""
    role, ids = MARKER.split(prompt)[-1], subject.ids(rest)
    return bool(ROLE.search(role)) and len(ids) > 1 and ids[-1] in subject.special
