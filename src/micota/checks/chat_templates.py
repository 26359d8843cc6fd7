"""What can be wrong with a chat template alone: it is rendered, and what comes out is compared."""

from __future__ import annotations

import re
from collections.abc import Iterator

from micota.checks import turns
from micota.checks.finding import Finding, beginning, difference, ending, errors
from micota.checks.subject import Subject

MARKER = re.compile(r"<\|[^\s<>|]{1,40}\|>|<｜[^\s<>｜]{1,40}｜>|</?s>|<(?:bos|eos|start_of_turn|end_of_turn)>")
"""What is meant to be one token where a template writes it."""
ROLE = re.compile(r"user|assistant|system|human|bot|model", re.I)
TEXTS = (
    "What is 1+1?",
    "Let $x=\\frac{1}{2}$, {{y}} and {% z %}.\n\nFind \\boxed{x}: a < b & c > \"d\" 'e'",
    "√2 · 数学 é",
    "3 </think> 4",
    "<think>5</think> 6",
    "7 and " * 2000 + "8",
)
"""Problems that a template must hand on as they are."""
DAYS = ("day one", "day two")
TIMES = 6  # renderings that must be equal: a random choice among two shows itself in 31 of 32 cases


def check(subject: Subject) -> Iterator[Finding]:
    """The findings on a template, whatever it is used for. The first rule that fails in earnest ends it."""
    if not getattr(subject.tokenizer, "chat_template", None):
        yield _missing(subject)
        return
    try:
        for rule in (_loses, _changes, _splits, _unknown, _twice_begun, _generation_prompt):
            found = list(rule(subject))
            yield from found
            if errors(found):
                return
    except turns.Refused as error:
        yield Finding(
            "template",
            subject.name,
            f"its chat template raises an error: {error}",
            "neither generation nor training can ask this model anything",
            "correct chat_template.jinja, or take the one that was published with the model",
        )


def check_system(subject: Subject, system: str) -> Iterator[Finding]:
    """The system message of a recipe comes out of the template."""
    fix = "remove `system`, or put its text into the prompt's template"
    try:
        whole = turns.prompt(subject, TEXTS[0], system)
    except turns.Refused as error:
        why = "the run would end there"
        yield Finding(
            "system", subject.name, f"its chat template refuses the system message {system!r}: {error}", why, fix
        )
        return
    if system.strip() not in whole:
        yield Finding(
            "system",
            subject.name,
            "its chat template leaves the system message out",
            "the model would never read it, and a result would be ascribed to it",
            fix,
            (("system message", beginning(system)), ("generation prompt", beginning(whole))),
        )


def _missing(subject: Subject) -> Finding:
    return Finding(
        "template",
        subject.name,
        f"the tokenizer of {subject.name} has no chat template",
        "generation and training go through the model's chat template",
        "add chat_template.jinja to the folder, or generate with `prompt: {mode: raw}`",
    )


def _loses(subject: Subject) -> Iterator[Finding]:
    """A problem stands in the generation prompt as it is, once."""
    for text in TEXTS:
        whole = turns.prompt(subject, text)
        if text not in whole:
            yield Finding(
                "problem",
                subject.name,
                "its chat template does not hand a problem on as it is",
                "the model would be asked something else than what is graded",
                "write {{ message['content'] }} for the user's turn in chat_template.jinja, without split or replace",
                (("problem", beginning(text)), ("generation prompt", beginning(whole))),
                "warning" if "think>" in text else "error",  # few problems hold a tag
            )
            return
    whole = turns.prompt(subject, turns.PROBLEM)
    if whole.count(turns.PROBLEM) > 1:
        yield Finding(
            "problem",
            subject.name,
            "its chat template writes the problem more than once",
            "the model would be asked something else than what it learns from",
            "write the user's turn once in chat_template.jinja",
            (("generation prompt", beginning(whole)),),
        )


def _changes(subject: Subject) -> Iterator[Finding]:
    """The same problem gives the same prompt, on any day. A macro in front of a template stands for its clock."""
    texts = [turns.prompt(subject, TEXTS[0]) for _ in range(TIMES)]
    texts = texts if len(set(texts)) > 1 else [_on(subject, day) for day in DAYS]
    other = next((text for text in texts if text != texts[0]), None)
    if other is None:
        return
    dated = len(texts) == len(DAYS)
    one, two = difference(texts[0], other)
    yield Finding(
        "changes",
        subject.name,
        f"its chat template writes {'the date' if dated else 'another prompt each time'}",
        "a model trained today and asked tomorrow would read another prompt than the one it learnt",
        "write a constant in its place in chat_template.jinja",
        (("once", one), ("again", two)),
        "warning" if dated else "error",
    )


def _on(subject: Subject, day: str) -> str:
    macro = f"{{%- macro strftime_now(format) -%}}{day}{{%- endmacro -%}}"
    text = macro + subject.tokenizer.get_chat_template()
    return turns.conversation(subject, [("user", TEXTS[0])], add_generation_prompt=True, chat_template=text)


def _splits(subject: Subject) -> Iterator[Finding]:
    """A marker that the template writes is one token.

    Some families write their roles as plain text (`<|user|>` of Zephyr and Tülu): that is taken if all roles are.
    """
    written = turns.prompt(subject, "1") + turns.conversation(subject, [("user", "1"), ("assistant", "2")])
    markers = dict.fromkeys(MARKER.findall(written))
    whole = {marker: len(subject.ids(marker)) == 1 and not _is_unknown(subject, marker) for marker in markers}
    end = turns.answered(subject)
    ends = set(MARKER.findall(end[1])) if end else set()
    roles = [marker for marker in markers if ROLE.search(marker) and marker not in ends]
    textual = not any(whole[marker] for marker in roles)
    for marker in markers:
        if whole[marker] or (textual and marker in roles):
            continue
        pieces = subject.ids(marker)
        yield Finding(
            "markers",
            subject.name,
            f"its chat template writes {marker}, which its tokenizer splits into {len(pieces)} tokens",
            "the model has learnt one token there, or can never be stopped by it",
            f"add {marker} to the tokenizer's special tokens, or take the template that belongs to this tokenizer",
            (("template", marker), ("tokens", subject.names(pieces))),
        )


def _is_unknown(subject: Subject, text: str) -> bool:
    unknown = subject.tokenizer.unk_token_id
    return unknown is not None and unknown in subject.ids(text) and text != subject.tokenizer.unk_token


def _unknown(subject: Subject) -> Iterator[Finding]:
    """What the template writes has no unknown token beyond those of the problem."""
    unknown = subject.tokenizer.unk_token_id
    if unknown is None:
        return
    whole = turns.prompt(subject, turns.PROBLEM)
    pieces = [piece for piece in whole.split(turns.PROBLEM) if piece and unknown in subject.ids(piece)]
    if pieces and subject.tokenizer.unk_token not in whole:
        yield Finding(
            "unknown",
            subject.name,
            "its tokenizer does not know what its chat template writes",
            "the model reads an unknown token in every prompt",
            "take the template that belongs to this tokenizer, or add what is missing to the tokenizer",
            (("template", ending(pieces[0])), ("tokens", subject.names(subject.ids(pieces[0])))),
        )


def _twice_begun(subject: Subject) -> Iterator[Finding]:
    begin = subject.tokenizer.bos_token_id
    ids = subject.ids(turns.prompt(subject, "1"))
    if begin is not None and ids[:2] == [begin, begin]:
        yield Finding(
            "begin",
            subject.name,
            f"its chat template writes {subject.tokenizer.bos_token} twice",
            "no model was trained on a doubled beginning of a sequence",
            "write {{ bos_token }} once in chat_template.jinja",
            (("generation prompt", beginning(turns.prompt(subject, "1"))),),
        )


def _whole(subject: Subject) -> str:
    return turns.conversation(subject, [("user", turns.PROBLEM), ("assistant", turns.ANSWER)])


def _generation_prompt(subject: Subject) -> Iterator[Finding]:
    """What stands before an answer in a conversation is the generation prompt, but for the tags of a thought."""
    try:
        found = turns.answered(subject)
    except turns.Refused:  # a template for generation alone
        return
    if found is None:
        yield Finding(
            "template",
            subject.name,
            "its chat template does not write an answer as it is, once",
            "what ends an answer cannot be told, and trainings through the template would learn something else",
            "write {{ message['content'] }} for the assistant's turn in chat_template.jinja",
            (("answer", turns.ANSWER), ("template", ending(_whole(subject)))),
        )
        return
    before, asked = found[0], turns.prompt(subject, turns.PROBLEM)
    one, two = turns.unthinking(before), turns.unthinking(asked)
    ends = before[len(one) :], asked[len(two) :]
    if one == two and (ends[0] == ends[1] or "think>" in "".join(ends) or "\n" not in "".join(ends)):
        return
    lacks = before.startswith(asked.rstrip())
    what = "lacks what its chat template writes before an answer" if lacks else "is not what stands before an answer"
    shown = zip(("before an answer", "generation prompt"), difference(before, asked), strict=True)
    yield Finding(
        "generation-prompt",
        subject.name,
        f"its generation prompt {what}",
        "the model is asked in another way than it has learnt to answer",
        "let chat_template.jinja write the beginning of the assistant's turn where add_generation_prompt is set",
        tuple(shown),
        "warning" if one == two else "error",
    )
