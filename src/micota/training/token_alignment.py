"""One answer in the tokens of two tokenizers: where tokens of both end together, and which tokens both have.

Places are counted in decoded characters, so tokens of any two alphabets can be compared; a token that ends within a
character ends nowhere, as in GOLD's alignment of spans (trl.experimental.gold, which counts bytes).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from typing import Any

from micota.chat import opened_thought, render
from micota.errors import MicotaError
from micota.specs import Prompt

INSIDE, LAST = 1, 2
"""What a token is to its span: one of the tokens before the last, or the last; 0 for a token of no span."""
ANCHOR, PART = "a", "\ufffd"


@dataclass(frozen=True)
class TokenAlignment:
    """A student's tokenizer and a teacher's, with the tokens that end an answer of each."""

    student: Any
    teacher: Any
    ends: tuple[int, int]
    """The tokens that stand for the end of an answer in both."""
    eos: tuple[int, ...]
    """All tokens that end an answer of the student."""
    context: int | None = None
    """The tokens that the teacher reads; None: no limit known."""

    @cached_property
    def shared(self) -> list[tuple[int, int]]:
        """The ids of the tokens of equal text, the student's and the teacher's, and of the two that end an answer."""
        pairs = shared_tokens(self.student, self.teacher)
        return sorted([*((a, b) for a, b in pairs if a != self.ends[0] and b != self.ends[1]), self.ends])

    def prompt(self, text: str, prompt: Prompt) -> list[int]:
        """What the teacher reads before an answer: its own template's prompt, in a thought where the student's is."""
        settings = (text, prompt.system, prompt.mode)
        here, there = (render(one, *settings, **prompt.template_kwargs) for one in (self.student, self.teacher))
        there = there.removesuffix(opened_thought(there)) + opened_thought(here)
        return list(self.teacher(there, add_special_tokens=prompt.mode == "raw")["input_ids"])

    def answer(self, ids: Sequence[int], before: int = 0) -> tuple[list[int], list[int], list[int]]:
        """The teacher's tokens of a student's answer, and what each token of both is to its span.

        Behind `before` tokens of a prompt and the answer the teacher's context ends: what is beyond it has no span.
        """
        ended = bool(ids) and ids[-1] in self.eos
        text, ours = token_ends(self.student, ids[:-1] if ended else ids)
        there = list(self.teacher(text, add_special_tokens=False)["input_ids"])
        room = len(there) + 1 if self.context is None else max(0, self.context - before)
        again, theirs = token_ends(self.teacher, there[:room])
        pairs = enumerate(zip(text, again, strict=False))  # a tokenizer may normalize what it reads
        equal = next((place for place, (a, b) in pairs if a != b), min(len(text), len(again)))
        common = {end for end in ours if end and end <= equal}.intersection(theirs)
        marks, others = _marks(ours, common), _marks(theirs, common)
        if ended and len(there) < room:
            return [*there, self.ends[1]], [*marks, LAST], [*others, LAST]
        return there[:room], [*marks, *([0] * ended)], others


def token_ends(tokenizer: Any, ids: Sequence[int]) -> tuple[str, list[int | None]]:
    """The text of tokens up to its last whole character, and where in it each token ends; None within a character."""
    from tokenizers.decoders import DecodeStream

    stream, pieces, length = DecodeStream(skip_special_tokens=False), [], 0
    ends: list[int | None] = []
    for token in ids:
        piece = stream.step(tokenizer.backend_tokenizer, token) or ""
        pieces.append(piece)
        length += len(piece)
        ends.append(length if piece else None)
    return "".join(pieces), ends


def _marks(ends: Sequence[int | None], common: Set[int]) -> list[int]:
    last = max((place for place, end in enumerate(ends) if end in common), default=-1)
    return [LAST if end in common else INSIDE if place < last else 0 for place, end in enumerate(ends)]


def shared_tokens(first: Any, second: Any) -> list[tuple[int, int]]:
    """The ids of the tokens of equal text in two vocabularies; parts of characters are equal if they are written so.

    Raises MicotaError for a tokenizer whose tokens cannot be decoded one by one.
    """
    here, there = _texts(first), _texts(second)
    return sorted((here[text], there[text]) for text in here.keys() & there.keys())


def _texts(tokenizer: Any) -> dict[str, int]:
    """Each token's text behind other text, with its id."""
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    if decoder is None:
        what = f"the tokenizer of {tokenizer.name_or_path} cannot be aligned with another"
        raise MicotaError(what, why="it has no tokenizer.json with a decoder", fix="take a model with a fast tokenizer")
    texts = {}
    for token, number in sorted(tokenizer.get_vocab().items(), key=itemgetter(1)):  # a letter comes behind its byte
        text = decoder.decode([ANCHOR, token]).removeprefix(ANCHOR)
        texts[f"{PART}{token}" if PART in text else text] = number
    return texts
