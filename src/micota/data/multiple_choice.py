"""The options of multiple choice: read from a row, shuffled, and written below the question."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from micota.errors import MicotaError
from micota.grading.choice import LETTERS, lettered
from micota.specs import Problems


def asked(spec: Problems, row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A row's question with its options below it, the letter of the right one, and the options: {problem, answer,
    choices}.

    The order depends on the seed and the question alone. Raises MicotaError for a row without a right option.
    """
    question, texts = str(row[spec.problem] or "").strip(), _options(spec, row, number)
    right = _right(spec, row[spec.answer], texts, number)
    order = [at for at, text in enumerate(texts) if text]
    if spec.shuffle is not None:
        random.Random(f"{spec.shuffle}\n{question}").shuffle(order)
    choices = [texts[at] for at in order]
    problem = f"{question}\n\n{lettered(choices)}" if question else ""
    return {"problem": problem, "answer": LETTERS[order.index(right)], "choices": choices}


def _options(spec: Problems, row: Mapping[str, Any], number: int) -> list[str]:
    """The texts of the options, "" for one that a row leaves out."""
    if isinstance(spec.choices, tuple):
        values: Any = [row[name] for name in spec.choices]
    else:
        values = row[str(spec.choices)]
        values = values.get("text") if isinstance(values, Mapping) else values  # as in ARC
    if not isinstance(values, list) or not sum(map(_is_there, values)) >= 2 or len(values) > len(LETTERS):
        what = f"row {number} of {spec.source.ref} has no list of options in '{spec.choices}': {values!r:.80}"
        raise MicotaError(
            what, fix=f"name the column of lists, or the columns with one option each; 2 to {len(LETTERS)}"
        )
    return [str(value).strip() if _is_there(value) else "" for value in values]


def _is_there(value: Any) -> bool:
    return value is not None and bool(str(value).strip())


def _right(spec: Problems, answer: Any, texts: list[str], number: int) -> int:
    """The number of the right option: by its text, its letter, or its number from 0."""
    text = str(answer).strip()
    places = [at for at, one in enumerate(texts) if one and one == text]
    letter, is_number = text.strip("(). ").upper(), isinstance(answer, int) and not isinstance(answer, bool)
    place = answer if is_number else LETTERS.find(letter) if len(letter) == 1 else -1
    named = [place] if 0 <= place < len(texts) and texts[place] else []
    if places and named and named[0] not in places:
        what, fix = "is one option's letter or number and another's text", "write letters, and options in words"
    elif not places and not named:
        what, fix = "is neither a letter, a number nor the text of an option", "mend the row, or name another column"
    else:
        return (places or named)[0]
    raise MicotaError(f"the answer of row {number} of {spec.source.ref}, {answer!r:.40}, {what}", fix=fix)
