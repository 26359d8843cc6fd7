"""What generation stops at, against what the template writes behind an answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from micota.checks import turns
from micota.checks.finding import Finding
from micota.checks.subject import Subject, Use

FIX = "write its id into eos_token_id of generation_config.json"


def check(subject: Subject, uses: Sequence[Use]) -> Iterator[Finding]:
    if not subject.eos:
        yield Finding(
            "end",
            subject.name,
            "it has no end token",
            "its generation would never stop before the limit",
            "set eos_token_id in generation_config.json",
        )
        return
    raw = bool(uses) and all(use.prompt.mode == "raw" for use in uses)
    found = None if raw else _after(subject)
    yield from _strange(subject, found[1] if found else [])
    if found is None or not found[1]:
        yield from _disagree(subject)
    elif found[1][0] not in subject.eos and not _stopped_by(subject, found[1][0], uses):
        yield _never_stops(subject, *found)


def _after(subject: Subject) -> tuple[str, list[int]] | None:
    """What the template writes behind an answer, and the markers in it; None where there is no such template."""
    if not getattr(subject.tokenizer, "chat_template", None):
        return None
    try:
        found = turns.answered(subject)
    except turns.Refused:
        return None
    if found is None:
        return None
    ids = subject.ids(found[1])
    return found[1], [one for one in ids if one in subject.special or one in subject.eos]


def _stopped_by(subject: Subject, end: int, uses: Sequence[Use]) -> bool:
    """Whether everything that asks the model names its end as a stop string: engines stop at such a token."""
    asked = [use.sampling.stop for use in uses if use.sampling]
    name = subject.names([end])
    return bool(asked) and len(asked) == len(uses) and all(name in stops for stops in asked)


def _never_stops(subject: Subject, after: str, markers: list[int]) -> Finding:
    return Finding(
        "end",
        subject.name,
        f"generation does not stop at {subject.names(markers[:1])}, which its chat template writes behind an answer",
        "the model would go on behind its answer until the limit",
        f"{FIX}: {markers[0]} beside {list(subject.eos)}",
        (("template", after), ("generation", subject.names(subject.eos))),
    )


def _strange(subject: Subject, written: list[int]) -> Iterator[Finding]:
    """An end token is in the vocabulary, and is no piece of a word."""
    size = len(subject.tokenizer)
    for one in subject.eos:
        if one >= size:
            what = f"its end token {one} is not in its tokenizer, which has {size} tokens"
        elif one not in subject.special and one not in written:
            what = f"its end token {one} is the ordinary token {subject.names([one])!r}"
        else:
            continue
        yield Finding(
            "end",
            subject.name,
            what,
            "generation would stop in the middle of a text, or never",
            "correct eos_token_id in generation_config.json",
            (("tokenizer", str(subject.tokenizer.eos_token)), ("generation", subject.names(subject.eos))),
        )


def _disagree(subject: Subject) -> Iterator[Finding]:
    """Where the template shows no end, the tokenizer's own is the only sign of what the model has learnt."""
    own = subject.tokenizer.eos_token_id
    if own is not None and own not in subject.eos:
        yield Finding(
            "end",
            subject.name,
            f"generation does not stop at {subject.tokenizer.eos_token}, the end token of its tokenizer",
            "the model may go on behind its answer until the limit",
            f"{FIX}: {own} beside {list(subject.eos)}",
            (("tokenizer", str(subject.tokenizer.eos_token)), ("generation", subject.names(subject.eos))),
            "warning",
        )
