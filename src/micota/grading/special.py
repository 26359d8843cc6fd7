"""Answers that are read as a whole: words, a time of day, a date, a ratio, a numeral in a stated base."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from micota.grading.answers import REALS, Answer, Clock, Group, Numeral, Quantity, Ratio, Text
from micota.grading.vocabulary import EVERYTHING, NOTHING, NUMBERS, PARTS, SCALES

_MOST_WRAPPINGS: Final = 8
_WRAPPED = re.compile(
    r"\\(?:text|mbox|textbf|textit|textrm|textnormal|mathrm|mathbf|textsf|texttt|boxed|fbox)\s*\{([^{}]*)\}"
)
_LAYOUT = re.compile(r"\\[!,;: ]|\$|~|\\left|\\right|\\quad|\\displaystyle")
_MATHS = re.compile(r"\\[a-zA-Z]|[=<>^_\[+*/]|\d\s*[(\[]|[a-z]\(")
_CLOCK = re.compile(r"(\d{1,2})(?:\s*:\s*(\d\d))?(?:\s*:\s*(\d\d))?\s*([ap])\.?\s?m\b\.?", re.I | re.A)
_MONTH = (
    "jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    "|nov(?:ember)?|dec(?:ember)?"
)
_DAY, _YEAR = r"(\d{1,2})(?:st|nd|rd|th)?", r"(?:\s*,?\s+(\d{4}))?"
_DATE = re.compile(
    rf"{_DAY}\s+(?:of\s+)?({_MONTH})\b\.?{_YEAR}|({_MONTH})\b\.?\s+(?:the\s+)?{_DAY}{_YEAR}", re.I | re.A
)
_RATIO = re.compile(r"\s*\d+(?:\.\d+)?(?:(?:\s*:\s*|\s+to\s+)\d+(?:\.\d+)?)+\s*", re.A)
_NUMERAL = re.compile(r"\s*(-?[0-9A-Z]+(?:\.[0-9A-Z]+)?)\s*_\s*(?:\{\s*(\d\d?|[a-z]{3,8})\s*\}|(\d))\s*", re.A)


def stripped(text: str) -> str:
    """The answer without what encloses or ends it: blanks, dollar signs, a full stop, outer braces."""
    text = text.strip()
    for _ in range(_MOST_WRAPPINGS):
        before = text
        if not text.endswith("..."):
            text = text.removesuffix("\\\\").rstrip(" \t\n.,;:")
        text = text.strip('$ \t\n*`"“”')
        if text.startswith("{") and text.endswith("}") and _closes_last(text):
            text = text[1:-1]
        if text.endswith("\\"):
            return text + " "
        if text == before:
            break
    return text


def unwrapped(text: str) -> str:
    r"""The text without `\text{...}` around its parts and without layout commands."""
    return _LAYOUT.sub("", _WRAPPED.sub(r"\1", text))


def _closes_last(text: str) -> bool:
    depth = 0
    for at, char in enumerate(text):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if depth == 0:
            return at == len(text) - 1
    return False


def words_of(text: str) -> str:
    """A text as lower-case words with single blanks, articles and punctuation dropped."""
    text = _LAYOUT.sub(" ", _WRAPPED.sub(r" \1 ", text))
    every = re.sub(r"[.,;:!?\"'()\\{}\[\]]+", " ", text).split()
    every = [word if word in {"E", "I"} else word.lower() for word in every]  # `e` and `i` are numbers
    words = [word for word in every if word not in {"the", "a", "an", "only"}]
    # `(A) D` names two letters
    return " ".join(words if any(len(word) > 1 for word in words) else every)


def special_form(plain: str) -> Answer | None:
    """Forms that are read as a whole: a time of day, a date, a ratio, a numeral with its base."""
    if match := _CLOCK.fullmatch(plain.strip()):
        parts = tuple(int(part or 0) for part in match.groups()[:3])
        return Clock(parts, match[4].lower())
    if match := _DATE.fullmatch(plain.strip()):
        day, month, year, *turned = match.groups()
        month, day, year = (month, day, year) if day else turned
        return Text(" ".join(filter(None, (str(int(day)), month[:3].lower(), year))))
    if _RATIO.fullmatch(plain):
        return Ratio(tuple(Fraction(part.strip()) for part in re.split(":|to", plain)))
    if match := _NUMERAL.fullmatch(plain):
        base = match[2] or match[match.lastindex or 2]
        if base.isdecimal() or base in NUMBERS:
            return Numeral(match[1].lstrip("0") or "0", int(NUMBERS.get(base) or base))
    return None


def worded(text: str) -> Answer:
    """A text that no rule of the grammar reads; some words have a meaning of their own."""
    words = words_of(text)
    if (number := _number(words)) is not None:
        return Quantity(("num", number))
    if words in NOTHING:
        return Group("{", "}", ())
    if EVERYTHING.fullmatch(words):
        return REALS
    plain = unwrapped(text)
    if _MATHS.search(plain):  # brackets and signs matter, blanks do not
        return Text(re.sub(r"\\[dtc]frac", r"\\frac", "".join(plain.split())))
    return Text(words)


def _number(words: str) -> Fraction | None:
    """The value of a number in words: `twenty-one`, `two hundred`, `half`, `three quarters`."""
    total = current = Fraction(0)
    *before, last = words.replace("-", " ").split() or [""]
    part = PARTS.get(last.removesuffix("s"))
    if part and not before:
        return Fraction(1, part) if last in {"half", "quarter"} else None
    for word in before if part else [*before, last]:
        if word in SCALES:
            current = (current or Fraction(1)) * SCALES[word]
            total, current = (total + current, Fraction(0)) if SCALES[word] > 100 else (total, current)
        elif word in NUMBERS and (
            not current % 100 or (current % 100 >= 20 and not current % 10 and NUMBERS[word] < 10)
        ):
            current += NUMBERS[word]
        else:
            return None
    return (total + current) / (part or 1)
