r"""The grader of multiple choice: which of the lettered options a response chooses.

A box, `<answer>` or `####` decides; else the last sentence that chooses (`The answer is C`, `I pick (C)`, `Option C is
right`); else a stated answer that is the text of an option; else a line of its own. A letter with the text of another
option, and several letters, choose nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Final

from micota.grading.extract import FinalAnswer, after_thought, final_answer
from micota.grading.semantic import decide
from micota.grading.special import stripped, unwrapped, words_of
from micota.grading.verdict import Grade, Verdict, label

LETTERS: Final = ascii_uppercase
CHOICE_VERSION: Final = 1
"""A part of every digest of verdicts: bumped by hand when a verdict of `choice` could change."""
_LONGEST: Final = 2000
"""Characters of an answer that are read; no quantifier below is unbounded where another could take over its text."""
_NAME = r"(?:(?:final|correct|right|best)\s+){0,3}(?:answer|option|choice|letter|alternative)"
_LETTER = r"[\"'“‘(\[*\s]{0,4}(?:(?:option|choice|letter|answer|alternative)\s)?[\"'“‘(\[*]{0,4}((?-i:[A-Z]))(?![\w'’])"
_AGAIN = re.compile(r"[)\]*.\"'”’\s]{0,4}(?:,|/|&|\band\b|\bor\b)\s*(?:and\s+|or\s+)?" + _LETTER + r"(?!\s+[a-z]{2})")
_ALONE = re.compile(rf"(?:(?:the\s+)?{_NAME}\s?(?:is|:|=)?\s?){{0,3}}" + _LETTER + r"(?P<rest>.*)", re.I | re.S)
_SMALL = re.compile(r"\(?([a-z])\)?")
_BEFORE_TEXT = re.compile(r"[)\]*.:,;=–—\"'”’\s-]{0,9}(?:\b(?:that is|which is|namely|meaning)\b[\s,:]{0,3}){0,3}\(?")
_SEPARATE = re.compile(r"\s*$|[\"'”’*]{0,4}\s?[)\].:,;=–—(-]|\s+(?:that is|which|namely|meaning|because|since)\b")
_IS = r"(?:is|must be|should be|would be|has to be)"
_CHOSEN = (
    re.compile(rf"\b{_NAME}\s*(?:here\s*|to this(?: question)?\s*)?(?:{_IS}|[:=→])" + _LETTER, re.I),
    re.compile(
        r"\b(?:(?:choose|chose|pick|picked|select|selected|opt for|settle on)"
        r"|(?:go|goes|going|went) (?:with|to|for)|(?:think|believe|say|conclude|guess)(?:\s+that)?(?:\s+it(?:'s| is))?)"
        + _LETTER,
        re.I,
    ),
    re.compile(
        rf"(?:\b(?:option|choice|answer|alternative|statement)\s*)?(?<![\w'’])[(\[]?((?-i:[A-Z]))[)\]]?\s+{_IS}\s+"
        r"(?:clearly |therefore |indeed |thus )?(?:the\s+)?(?:only\s+)?(?:correct|right|true|best|answer)\b",
        re.I,
    ),
    re.compile(
        rf"(?:^|[.,;:]\s+)(?:(?:so|thus|hence|therefore|it {_IS}|it's|that {_IS}|that's|leaving|leaves)"
        r"[\s,:]{1,3}){1,4}" + _LETTER + r"[)\]]*\s*[.!]?\s*$",
        re.I | re.M,
    ),
)
_LISTED = re.compile(r"^\W{0,4}([A-Z])\s?[).:\]]", re.M)


def lettered(choices: Sequence[str]) -> str:
    """The options as a problem shows them, a line for each: `(A) 12`."""
    return "\n".join(f"({letter}) {text}" for letter, text in zip(LETTERS, choices, strict=False))


def choice(response: str, gold: Sequence[str], truncated: bool = False) -> Grade | FinalAnswer:
    """The grade of a response; `gold` is the right letter, then the texts of all options in their order.

    An answer that is neither a letter nor the text of an option comes back as it is: whether it means what the right
    option says is for the semantic comparison.

    >>> choice("So the answer is (B).", ["B", "11", "12"]).verdict.value
    'correct'
    """
    right, *choices = gold
    final = final_answer(response, None, truncated)
    chosen, text = _chosen(response, final, choices, truncated)
    if chosen is None:
        return final if final.answer else Grade(Verdict.no_answer, None, final.how)
    known = dict(zip(LETTERS, map(_plain, choices), strict=False))
    if len({known.get(letter) for letter in chosen}) > 1:
        return label(False, text, "several options")
    if not chosen & known.keys():
        return label(False, text, "no such option")
    return label(right in chosen, text, "the right option" if right in chosen else "another option")


def _chosen(response: str, final: FinalAnswer, choices: Sequence[str], truncated: bool) -> tuple[set[str] | None, str]:
    """The letters that a response chooses, None if it names none, and the words that do."""
    if final.answer and final.how in ("boxed", "tagged", "after ####"):
        return _letters(final.answer, choices), final.answer
    spoken = re.sub(r"\*\*|__", "", after_thought(response) or "").strip()
    spoken = re.sub(r"\bi\.\s?e\.,?", "that is", _single_blanks(spoken), flags=re.I)
    if truncated or not spoken:
        return None, ""
    places = [match.start(1) for pattern in _CHOSEN for match in pattern.finditer(spoken)]
    if places:
        words = re.split(r"\n|(?<=[\w)])[.!](?=\s)", spoken[max(places) :], maxsplit=1)[0]
        return _letters(words, choices, sentence=True), words
    if final.answer and (letters := _letters(final.answer, choices)):
        return letters, final.answer
    lines = [line.strip() for line in spoken.splitlines() if line.strip()]
    if len(set(_LISTED.findall(spoken))) > 1 and len(lines) > 1:
        lines = [line for line in lines[-1:] if not _LISTED.match(line)]
    last = [re.split(r"(?<=[\w)])[.!]\s+", line)[-1] for line in lines[-1:]]
    for line in (*lines[:1], *lines[-1:], *last):
        if letters := _letters(line, choices):
            return letters, line
    return None, ""


def _letters(text: str, choices: Sequence[str], sentence: bool = False) -> set[str] | None:
    """The options that a text names by letter or by their words; None if it names none.

    In a `sentence` whose letter is known to be chosen, anything may follow it.
    """
    text = _single_blanks(unwrapped(stripped(text[:_LONGEST]))).strip()
    same = {letter for letter, one in zip(LETTERS, choices, strict=False) if _is(text, one)}
    if same and len(text) > 1:
        return same
    if small := _SMALL.fullmatch(text):
        return same or {small[1].upper()}
    match = _ALONE.fullmatch(text)
    if not match:
        return same or None
    letters, rest = {match[1]}, match["rest"]
    while again := _AGAIN.match(rest):
        letters.add(again[1])
        rest = rest[again.end() :]
    if not (sentence or _SEPARATE.match(rest)):
        return same or None
    behind = _BEFORE_TEXT.sub("", rest, count=1).strip(" )].")
    others = {letter for letter, one in zip(LETTERS, choices, strict=False) if behind and _is(behind, one)}
    return letters if letters & others else letters | others


def _single_blanks(text: str) -> str:
    return re.sub(r"[ \t]+", " ", re.sub(r"\s*\n\s*", "\n", text))


def _is(text: str, option: str) -> bool:
    return _plain(text) == _plain(option) or decide(unwrapped(stripped(text)), unwrapped(stripped(option))) is True


def _plain(text: str) -> str:
    r"""A text without layout, case, articles and blanks; `\dfrac` as `\frac`."""
    return re.sub(r"\s+", "", words_of(text.replace("dfrac", "frac").replace("tfrac", "frac")))
