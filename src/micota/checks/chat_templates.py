"""Mistakes of a chat template alone: it is rendered, and the results are compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from micota.chat import THOUGHT, unread_keywords
from micota.checks.finding import Finding, Severity, beginning, difference, ending, errors
from micota.checks.models import ANSWER, MARKER, PROBLEM, Refused, Subject, closed_thought, without_thought_tags

USER, MODEL = re.compile(r"user|human", re.I), re.compile(r"assistant|model|bot\b|_bot|chatbot", re.I)
NAMELESS = re.compile(r"\b(None|Undefined)\b|\{'role'|<(class|function|built-in|bound) ")
"""How Jinja prints what is no text."""
TEXTS = (
    "What is 1+1?",
    "Let $x=\\frac{1}{2}$, {{y}} and {% z %}.\n\nFind \\boxed{x}: a < b & c > \"d\" 'e'",
    "√2 · 数学 é",
    "3 </think> 4",
    "<think>5</think> 6",
    "7 and " * 8000 + "8",
)
"""Problems that must stand in the prompt as they are."""
ANSWERS = (TEXTS[1], TEXTS[-1])
SYSTEM = "Think in micota-words."
MODES = ("enable_thinking", "thinking", "reasoning_effort")
"""What hybrid templates call their modes."""
DAYS = ("day one", "day two")
RENDERINGS = 6  # a random choice among two shows itself in 31 of 32 cases


def check(subject: Subject) -> Iterator[Finding]:
    """The findings on a template, whatever it is used for; after a rule that finds an error the others are left out."""
    if not subject.has_template:
        yield subject.finding("template-missing")
        return
    try:
        for rule in (_problem, _variation, _markers, _answer, _roles, _generation_prompt):
            findings = list(rule(subject))
            yield from findings
            if errors(findings):
                return
    except Refused as error:
        yield subject.finding("template-raises", error=error)


def check_keywords(subject: Subject) -> Iterator[Finding]:
    """A recipe's keywords are read by the template."""
    for name in unread_keywords(subject.tokenizer, subject.template_kwargs) if subject.has_template else ():
        known = ", ".join(name for name in MODES if not unread_keywords(subject.tokenizer, [name]))
        yield subject.finding("keyword-unread", keyword=name, known=f"write {known}, or " if known else "")


def check_system(subject: Subject, system: str | None = None) -> Iterator[Finding]:
    """The system message of a recipe stands in the prompt; without one, any is at least not lost without a word."""
    try:
        prompt = subject.prompt(TEXTS[0], system or SYSTEM)
    except Refused as error:
        if system:
            yield subject.finding("system-refused", system=repr(system), error=error)
        return
    if (system or SYSTEM).strip() not in prompt:
        evidence = ("system message", beginning(system or SYSTEM)), ("generation prompt", beginning(prompt))
        yield subject.finding("system-lost", *evidence, severity="error" if system else "warning")


def _problem(subject: Subject) -> Iterator[Finding]:
    """A problem stands in the generation prompt as it is, once."""
    for text in TEXTS:
        prompt = subject.prompt(text)
        if text not in prompt:
            evidence = ("problem", beginning(text)), ("generation prompt", beginning(prompt))
            rare = "think>" in text  # few problems hold a tag
            severity: Severity = "warning" if rare else "error"
            if text == TEXTS[0] and _takes_parts(subject):
                yield subject.finding("problem-in-parts", *evidence)
                return
            yield subject.finding("problem-changed", *evidence, by="chat template", severity=severity)
            return
    prompt = subject.prompt(PROBLEM)
    if prompt.count(PROBLEM) > 1:
        yield subject.finding("problem-repeated", ("generation prompt", beginning(prompt)))
    if nameless := NAMELESS.search(prompt):
        around = ("generation prompt", prompt[max(0, nameless.start() - 40) : nameless.end() + 40])
        yield subject.finding("template-prints", around, text=nameless[0])
    back = subject.text(subject.ids(TEXTS[1])).strip()
    if back != TEXTS[1] and back.lower().split() == TEXTS[1].lower().split():  # some know few characters, as the lab's
        pairs = zip(("problem", "tokens"), difference(TEXTS[1], back), strict=True)
        yield subject.finding("problem-changed", *pairs, by="tokenizer", severity="warning")


def _takes_parts(subject: Subject) -> bool:
    """Whether a template reads a message as a list of texts and pictures, which its model's processor makes of it."""
    parts: Any = [{"type": "text", "text": TEXTS[0]}]
    try:
        prompt = subject.conversation(("user", parts), add_generation_prompt=True)
    except Refused:
        return False
    return TEXTS[0] in prompt and "'type'" not in prompt


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
    markers = dict.fromkeys((*MARKER.findall(text), *(THOUGHT if "think>" in text else ())))
    whole = {marker for marker in markers if len(subject.ids(marker)) == 1 and not _is_unknown(subject, marker)}
    ends = MARKER.findall(subject.around_answer[1]) if subject.around_answer else []
    roles = [marker for marker in markers if _is_role(marker) and marker not in ends]
    plain_roles = [] if whole & set(roles) else roles
    for marker in markers:
        if marker not in whole and marker not in plain_roles:
            pieces = subject.ids(marker)
            evidence = ("template", marker), ("tokens", subject.names(pieces))
            if marker not in THOUGHT:
                yield subject.finding("markers", *evidence, marker=marker, number=len(pieces))
            elif whole & set(THOUGHT):  # DeepSeek-V3 has neither tag as a token, and learns both in pieces
                yield subject.finding("markers", *evidence, marker=marker, number=len(pieces), severity="warning")
    yield from _strips(subject, [marker for marker in markers if marker in whole and marker not in THOUGHT])


def _strips(subject: Subject, markers: list[str]) -> Iterator[Finding]:
    """No thought tag takes white space from the text beside it, and no marker if others leave it (Phi-3's all do)."""
    added = subject.tokenizer.added_tokens_decoder.values()
    flags = {str(token): token.lstrip or token.rstrip for token in added}
    own = (subject.tokenizer.bos_token, subject.tokenizer.eos_token)
    leaves = any(not flags.get(marker) for marker in markers if marker not in own)
    for marker in (*THOUGHT, *(markers if leaves else ())):
        if flags.get(marker):
            pieces = subject.text(subject.ids(f"1\n\n{marker}\n\n2"))
            yield subject.finding("markers-strip", ("as tokens", pieces), marker=marker)


def _is_role(text: str) -> bool:
    return bool(USER.search(text) or MODEL.search(text) or "system" in text.lower())


def _is_unknown(subject: Subject, text: str) -> bool:
    unknown = subject.tokenizer.unk_token_id
    return unknown is not None and unknown in subject.ids(text) and text != subject.tokenizer.unk_token


def _answer(subject: Subject) -> Iterator[Finding]:
    """An answer stands in a conversation as it is, once."""
    for text in (ANSWER, *ANSWERS):
        try:
            whole = subject.conversation(("user", PROBLEM), ("assistant", text))
        except Refused:  # a template for generation alone
            return
        if whole.count(text) != 1:
            evidence = ("answer", beginning(text)), ("template", ending(whole))
            yield subject.finding("template-loses-answer", *evidence)
            return


def _roles(subject: Subject) -> Iterator[Finding]:
    """What stands before an answer is not what stands before a problem, and names the model if either names a role."""
    answer = subject.around_answer[0].rpartition(PROBLEM)[2] if subject.around_answer else ""
    problem = subject.between_turns
    exchanged = MODEL.search(problem) and not USER.search(problem) and USER.search(answer) and not MODEL.search(answer)
    if answer and (without_thought_tags(answer) == without_thought_tags(problem) or exchanged):
        how = "an answer as one of the user" if exchanged else "the same before an answer and before a problem"
        yield subject.finding("template-roles", ("before an answer", answer), ("before a problem", problem), how=how)


def _generation_prompt(subject: Subject) -> Iterator[Finding]:
    """The generation prompt is what stands before an answer in a conversation; thought tags may differ."""
    around = subject.around_answer
    if around is None:
        return
    before, prompt = around[0], subject.prompt(PROBLEM)
    first, second = without_thought_tags(before), without_thought_tags(prompt)
    if first == second:
        tail = prompt.rpartition(PROBLEM)[2]
        if tail.strip() and around[1].endswith(tail):
            evidence = ("template", ending(ANSWER + around[1])), ("generation prompt", ending(prompt))
            yield subject.finding("generation-prompt", *evidence, how="stands behind an answer too")
            return
        if closed_thought(prompt) and not subject.template_kwargs:
            yield subject.finding("thought-closed", ("generation prompt", ending(prompt)))
        ends = [text[len(first) :].partition("<")[0] for text in (before, prompt)]  # up to the first tag
        thinks = "think>" in before[len(first) :] + prompt[len(first) :]
        own = thinks and subject.ids(first)[-1] in subject.special  # behind a marker the model writes the line end
        if own or (ends[0].startswith(ends[1]) and ends[0].count("\n") == ends[1].count("\n")):
            return
    elif _is_header(subject, prompt, before.removeprefix(prompt)):
        return
    lacks = before.startswith(prompt.rstrip()) and (first != second or ends[0].startswith(ends[1]))
    how = "lacks what its chat template writes before an answer" if lacks else "is not what stands before an answer"
    pairs = zip(("before an answer", "generation prompt"), difference(before, prompt), strict=True)
    yield subject.finding("generation-prompt", *pairs, how=how, severity="warning" if first == second else "error")


def _is_header(subject: Subject, prompt: str, rest: str) -> bool:
    """Whether what follows a prompt that names the role is the model's own choice up to a marker, such as a channel."""
    role, ids = MARKER.split(prompt)[-1], subject.ids(rest)
    return _is_role(role) and len(ids) > 1 and ids[-1] in subject.special
