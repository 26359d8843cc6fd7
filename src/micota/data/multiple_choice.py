"""The options of multiple choice: read from a row, shuffled, and written below the question."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, Final

from micota.errors import MicotaError
from micota.grading.choice import LETTERS, lettered
from micota.specs import Problems

_ABOVE: Final = re.compile(
    r"\b(?:(?:all|none|any|both|neither|either|each|some|one|two)(?: of)?(?: the| these)?"
    r"(?: (?:options|answers|choices|statements|two|three))?|the) (?:above|below|preceding|previous)\b",
    re.I,
)
_OWN: Final = re.compile(r"\(?([A-Z])\s?(?:[):\]]|\.\s)")


def asked(spec: Problems, row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A row's question with its options below it, the letter of the right one, and the options: {problem, answer,
    choices}.

    The order depends on the seed and the question alone; of columns with one option each `All of the above` stays last.
    Raises MicotaError for a row without a right option, and for a shuffle of options that refer to their order.
    """
    question, (texts, labels) = str(row[spec.problem] or "").strip(), _options(spec, row, number)
    right = _right(spec, row[spec.answer], texts, labels, number)
    order = [at for at, text in enumerate(texts) if text]
    if spec.shuffle is not None:
        _check_order(spec, texts, number)
        random.Random(f"{spec.shuffle}\n{question}").shuffle(order)
        order.sort(key=lambda at: bool(_ABOVE.search(texts[at])))
    choices = [texts[at] for at in order]
    problem = f"{question}\n\n{lettered(choices)}" if question else ""
    return {"problem": problem, "answer": LETTERS[order.index(right)], "choices": choices}


def _options(spec: Problems, row: Mapping[str, Any], number: int) -> tuple[list[str], list[str]]:
    """The texts of the options, "" for one that a row leaves out, and the labels of their own, none if it has none."""
    labels: Any = None
    if isinstance(spec.choices, tuple):
        values: Any = [row[name] for name in spec.choices]
    else:
        values = row[str(spec.choices)]
        if isinstance(values, Mapping):  # as in ARC
            values, labels = values.get("text"), values.get("label")
    if not isinstance(values, list) or not sum(map(_is_there, values)) >= 2 or len(values) > len(LETTERS):
        what = f"row {number} of {spec.source.ref} has no list of options in '{spec.choices}': {values!r:.80}"
        raise MicotaError(
            what, fix=f"name the column of lists, or the columns with one option each; 2 to {len(LETTERS)}"
        )
    names = [_name(one) for one in labels or ()]
    if (names and len(names) != len(values)) or len(set(names)) != len(names):
        what = f"row {number} of {spec.source.ref} has no label of its own for each option: {labels!r:.80}"
        raise MicotaError(what, fix="mend the row, or give the options as a list of texts")
    return [str(value).strip() if _is_there(value) else "" for value in values], names


def _is_there(value: Any) -> bool:
    return value is not None and bool(str(value).strip())


def _name(value: Any) -> str:
    return str(value).strip("(). ").upper()


def _check_order(spec: Problems, texts: list[str], number: int) -> None:
    """Raise MicotaError if options refer to their order: to those above, to letters, or each to its own letter."""
    one = rf"\(?\b[A-{LETTERS[len(texts) - 1]}]\b\)?"
    others = re.compile(
        rf"{one}\s*(?:,|&|(?:and|or|nor)\b)\s*{one}|{one}\s+only\b|\b(?i:options?|choices?|answers?|only|except)\s+{one}"
    )
    lead = [text for at, text in enumerate(texts) if (own := _OWN.match(text)) and own[1] == LETTERS[at]]
    above = [text for text in texts if _ABOVE.search(text)] if isinstance(spec.choices, str) else []
    found = [*above, *filter(others.search, texts), *(lead if len(lead) > 1 else [])]
    if found:
        what = f"an option of row {number} of {spec.source.ref} refers to the order of the options: {found[0]!r:.60}"
        raise MicotaError(what, where="shuffle", fix="leave `shuffle` out for this set, or leave such rows out of it")


def _right(spec: Problems, answer: Any, texts: list[str], labels: list[str], number: int) -> int:
    """The number of the right option: by its label, else by its text, its letter, or its number from 0."""
    text = "" if answer is None else str(answer).strip()
    if labels and (name := _name(text)) in labels and texts[labels.index(name)]:
        return labels.index(name)
    places = [at for at, one in enumerate(texts) if one and one == text]
    is_number = isinstance(answer, int) and not isinstance(answer, bool)
    place = answer if is_number else LETTERS.find(_name(text)) if len(_name(text)) == 1 else -1
    named = [place] if not labels and 0 <= place < len(texts) and texts[place] else []
    if places and named and named[0] not in places:
        what, fix = "is one option's letter or number and another's text", "write letters, and options in words"
    elif not places and not named:
        what, fix = "is neither a letter, a number nor the text of an option", "mend the row, or name another column"
    else:
        return (places or named)[0]
    raise MicotaError(f"the answer of row {number} of {spec.source.ref}, {answer!r:.40}, {what}", fix=fix)
