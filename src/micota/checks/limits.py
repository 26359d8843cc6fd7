"""Numbers that must fit: tokens to rows of the embedding, lengths to positions; and stop strings to answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from micota.chat import THOUGHT
from micota.checks.finding import Finding, beginning
from micota.checks.subject import Subject, Use

THINKING = (
    "<think>\nOkay, the problem is to add: 1+1. First, let me see. Problem: is it 2?\n\n"
    "Q: yes. Wait, so x = 2.\n</think>"
)
PLAIN = "\n\nWe add the numbers: $1 + 1 = 2$.\n\n**Final Answer:** the sum is \\(\\boxed{2}\\)."


def rows(subject: Subject, ids: Iterable[int]) -> Iterator[Finding]:
    """Every token has a row in the embedding; `ids` are tokens that are sure to be used."""
    if subject.rows is None:
        return
    own = (subject.tokenizer.pad_token_id, subject.tokenizer.bos_token_id, subject.tokenizer.eos_token_id)
    tags = [one for tag in THOUGHT for one in subject.ids(tag)]
    size = len(subject.tokenizer)
    ends = [one for one in subject.eos if one < size]
    used = {one for one in (*own, *ends, *tags, *ids) if one is not None}
    beyond = sorted(one for one in used if one >= subject.rows)
    if beyond or size > subject.rows:
        names = subject.names((beyond or range(subject.rows, size))[:4])
        yield Finding(
            "rows",
            subject.name,
            f"its tokenizer has {size} tokens, its embedding {subject.rows} rows: none for {names}",
            "such a token ends the run with an index error, or on a GPU with an assertion that says nothing",
            "take the tokenizer that belongs to these weights, or resize the embedding to it",
            severity="error" if beyond else "warning",
        )


def context(subject: Subject, use: Use) -> Iterator[Finding]:
    """What is asked for or kept fits into the positions of the model."""
    wanted, name = (use.sampling.max_tokens, "max_tokens") if use.sampling else (use.cutoff or 0, "cutoff")
    if subject.context is not None and wanted > subject.context:
        yield Finding(
            "context",
            subject.name,
            f"{name} is {wanted}, but the model has {subject.context} positions ({use.where})",
            "longer responses would be cut" if use.sampling else "longer examples would train positions it has not",
            f"lower {name} to {subject.context}, or raise max_position_embeddings where the model allows it",
            severity="warning",
        )


def stops(subject: Subject, use: Use) -> Iterator[Finding]:
    """No stop string ends a plain answer, or a thought; each can be seen."""
    if use.sampling is None or not use.sampling.stop:
        return
    probe = THINKING + PLAIN
    place = use.sampling.stop_place(probe, "")
    if place is not None:
        within = place < len(THINKING)
        first = min(use.sampling.stop, key=lambda stop: (probe.find(stop) != place, stop))
        yield Finding(
            "stop",
            subject.name,
            f"the stop string {first!r} ends {'a thought' if within else 'an answer'} ({use.where})",
            "what it cuts is graded as if the model had said no more",
            "remove stop_in_thought, or the stop string" if within else "take a stop string that no answer holds",
            (("response", beginning(probe[max(0, place - 40) :])), ("what is left", probe[:place][-60:])),
            "warning" if within else "error",
        )
    for tag in THOUGHT:
        if any(tag in stop for stop in use.sampling.stop):
            yield Finding(
                "stop",
                subject.name,
                f"the stop string {tag!r} is the tag of a thought ({use.where})",
                "it could only end an answer before it has begun",
                "remove it: a thought is told from its answer without stop strings",
                severity="warning",
            )
    yield from _unseen(subject, use.where, use.sampling.stop)


def _unseen(subject: Subject, where: str, stops: Sequence[str]) -> Iterator[Finding]:
    """A decoded text shows no special token; engines stop at one that is a whole stop string."""
    if any(stop in subject.hidden for stop in stops):
        return
    for stop in stops:
        inside = [token for token in subject.hidden if token in stop]
        if inside:
            yield Finding(
                "stop",
                subject.name,
                f"the stop string {stop!r} can never be seen ({where})",
                f"{inside[0]} is a special token, which a decoded text does not show",
                f"write {inside[0]!r} alone: generation then stops at the token",
                severity="warning",
            )
