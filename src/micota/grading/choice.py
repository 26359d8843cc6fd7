r"""The grader of multiple choice: which of the lettered options a response chooses.

A box, `<answer>` or `####` decides; else the last plain statement (`The answer is C`, `Option C is right`, at the end
`Therefore, C`); else `I pick (C)` at the end; else a line of its own. What is denied, supposed or said of others is no
statement. A letter with the text of another option, and several letters, choose nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase
from typing import Final

from micota.grading.extract import FinalAnswer, after_thought, behind_box, final_answer
from micota.grading.semantic import decide
from micota.grading.special import stripped, unwrapped, words_of
from micota.grading.verdict import Grade, Verdict, label

LETTERS: Final = ascii_uppercase
CHOICE_VERSION: Final = 3
"""A part of every digest of verdicts: bumped by hand when a verdict of `choice` could change."""
_LONGEST: Final = 2000
"""Characters of an answer that are read; no quantifier below is unbounded where another could take over its text."""
_MOST_WRAPPINGS: Final = 4
_MOST: Final = 30
"""Statements of one kind that are looked at, the last."""
_GOOD = r"(?:final|correct|right|best)"
_KIND = r"(?:option|choice|letter|alternative)"
_NAME = rf"(?:(?:{_GOOD}\s+){{0,3}}answer|(?:{_GOOD}\s+){{1,3}}{_KIND}|(?:(?:my|the)\s+)?{_KIND})"
_NO_ARTICLE = r"(?!(?<=[AI])\s+(?!(?:is|because|since|and|or|as|which|plus|but|not|here)\b)[a-z])"
_LETTER = rf"[\"'“‘(\[*\s]{{0,4}}(?:(?:{_KIND}|answer)\s)?[\"'“‘(\[*]{{0,4}}((?-i:[A-Z]))(?![\w'’])(?-i:{_NO_ARTICLE})"
_AGAIN = re.compile(
    r"[)\]*\"'”’\s]{0,4}(?:[,;/&+(–—]\s{0,3}|[)\]\s]\s?(?=[(\[A-Z])"
    r"|\.\s?(?=\(?[A-Z]\W{0,3}$)|\s?(?=\b(?:and|or|as well|plus|also|along|together)\b))(?:(?:and|or"
    r"|as well as|plus|also|maybe|perhaps|possibly"
    r"|no|wait|actually|rather|probably|even|along with|together with|then)\b[\s,(]{1,3}){0,4}"
    + _LETTER
    + r"(?!\s+[a-z]{2})"
)
_ALONE = re.compile(rf"(?:(?:the\s+)?{_NAME}\s?(?:is|:|=)?\s?){{0,3}}" + _LETTER + r"(?P<rest>.*)", re.I | re.S)
_SMALL = re.compile(rf"(?:{_KIND}\s)?" r"\(?([a-z])\)?(?P<rest>$|(?<=\))\s?\S.*)", re.S)
_BEHIND = re.compile(
    rf"(?:[\s(]{_KIND}\s\(?|\()\s?(?P<marked>[A-Z])\)?[\s.)]{{0,4}}$|[\s:=](?P<bare>(?-i:[A-Z]))[\s.)]{{0,4}}$", re.I
)
_LINK = re.compile(r"[,;(]|\s(?:which|so|that|is|or|hence|thus|corresponding|corresponds|matching|labell?ed|namely)\b")
_NO_WORD_A = re.compile(r"(?<!\w)A(?!\w)(?!\s+[a-z])")
_BEFORE_TEXT = re.compile(r"[)\]*.:,;=–—\"'”’\s-]{0,9}(?:\b(?:that is|which is|namely|meaning)\b[\s,:]{0,3}){0,3}\(?")
_REASON = r"(?:because|since|as|not|here|rather than|instead of)\b"
_SEPARATE = re.compile(
    r"\s*$|[\"'”’*]{0,4}\s?[)\].:,;(–—]|\s[=-]\s|\s+(?:that is|which|namely|meaning|but|and|or)\b|\s+" + _REASON
)
_ENDED = re.compile(rf"[)\]*.,\"'”’\s]{{0,6}}(?:$|(?<=[,\s]){_REASON})")
_WRONG = (
    r"(?:incorrect|wrong|false|unlikely|impossible|eliminated|excluded|rejected|ruled out|not (?:quite|right|correct))"
)
_REFUSED = re.compile(
    r"[)\]*\"'”’\s]{0,4}(?:[,:;(–—-]\s{0,2})?(?:(?:which|that|it)\s)?"
    rf"(?:(?:is|was|seems|looks|would be|must be|can be)\s(?:\w+ly\s)?(?:not\b|{_WRONG})|(?:\w+ly\s)?{_WRONG}"
    r"|(?:is|was|does|do|ca|can|could|would)(?:n['’]t|not)\b|(?:does|can|could|would|must) not\b)",
    re.I,
)
_ENDS = re.compile(r"^\s?(?:\$\$?|\\[)\]])")
"""What ends the formula that a box stands in."""
_DENIED = re.compile(
    r"\bnot\b|n['’]t\b|\bcannot\b|\b(?:never|neither|nor|wrong|incorrect|false|unlikely|worst|least|(?:next|second).best|if"
    r"|unless|whether|suppose|supposing|assume|assuming|might|may|could|I (?:doubt|thought)|deny|students|people|others"
    r"|someone|many|some (?!thought)|tempting|common|says?|claims?|(?<!I )thinks?)\b",
    re.I,
)
_CLAUSE = re.compile(r"[.!?;:\n]|,|\b(?:so|but|because|since|hence|thus|therefore|then|and)\b", re.I)
_IS = r"(?:is|must be|should be|would be|will be|has to be)"
_STATED = re.compile(rf"\b{_NAME}\s{{0,3}}(?:(?:here|to this(?: question)?)\s{{0,3}})?(?:{_IS}\b|[:=→])\s{{0,3}}", re.I)
_RIGHT = re.compile(
    rf"(?:\b(?:{_KIND}|answer)\s)?(?<![\w'’])[(\[]?((?-i:[A-Z]))[)\]]?\s{_IS}\s"
    r"(?:clearly |therefore |indeed |thus |also )?"
    r"(?:the\s)?(?:only\s)?(?:(?:correct|right|best)(?:\s(?:answer|option|choice|one))?|answer)"
    r"(?=\s?(?:[.,;:!)]|$)|\s(?:because|since|as|here|and|but|while|too|also)\b)",
    re.I | re.M,
)
_SO = re.compile(
    rf"(?:^|[.,;:]\s+)(?:(?:so|thus|hence|therefore|it {_IS}|it's|leaving|(?:that )?leaves)[\s,:]{{1,3}}){{1,4}}(?="
    + _LETTER
    + r"[)\]]{0,2}\s?[.!]?\s?\Z)",
    re.I | re.M,
)
_PICKED = re.compile(
    r"\bI(?:['’](?:d|ll)|\s(?:would|will|therefore|thus)){0,3}\s(?:choose|chose|pick|picked|select|selected|opt for"
    r"|settle on|go (?:with|for)|went (?:with|for)|(?:think|believe|say|conclude)(?: that)? (?:it is|it's)"
    r"|(?:think|believe|say|conclude)(?: that)? the answer is)\s"
)
_SENTENCE_END = re.compile(r"\n|(?<![^\w][A-Z])(?<=[\w)])[.!?](?=\s|$)")
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
        return final if final.answer and text is not None else Grade(Verdict.no_answer, None, final.how)
    known = dict(zip(LETTERS, map(_raw, choices), strict=False))
    if len({known.get(letter) for letter in chosen}) > 1:
        return label(False, text, "several options")
    if not chosen & known.keys():
        return label(False, text, "no such option")
    return label(right in chosen, text, "the right option" if right in chosen else "another option")


def _chosen(
    response: str, final: FinalAnswer, choices: Sequence[str], truncated: bool
) -> tuple[set[str] | None, str | None]:
    """The letters that a response chooses, None if it names none, and the words that do; no words if it denies them."""
    refused = final.how == "boxed" and _REFUSED.match(_ENDS.sub("", behind_box(response)))
    if final.answer and final.how in ("boxed", "tagged", "after ####") and not refused:
        return _letters(final.answer, choices), final.answer
    spoken = re.sub(r"\*\*|__", "", after_thought(response) or "").strip()
    spoken = re.sub(r"\bi\.\s?e\.,?", "that is", _single_blanks(spoken), flags=re.I)
    if truncated or not spoken:
        return None, ""
    for words in _statements(spoken):
        if letters := _letters(words, choices):
            return letters, words
    at = spoken.rfind(final.answer) if final.answer else -1
    denied = refused or (at >= 0 and (_is_denied(spoken, at) or _sentence(spoken, at).endswith("?")))
    if final.answer and not denied and (letters := _letters(final.answer, choices)):
        return letters, final.answer
    lines = [line.strip() for line in spoken.splitlines() if line.strip()]
    if len(set(_LISTED.findall(spoken))) > 1 and len(lines) > 1:
        lines = [line for line in lines[-1:] if not _LISTED.match(line)]
    last = [re.split(r"(?<=[\w)])[.!]\s+", line)[-1] for line in lines[-1:]]
    for line in (*lines[:1], *lines[-1:], *last):
        if letters := _letters(line, choices, alone=True):
            return letters, line
    return None, None if denied else ""


def _statements(spoken: str) -> list[str]:
    """What a response states as its answer: the last plain statement, then what it picks in its last sentence."""
    rights = [one for one in [*_RIGHT.finditer(spoken)][-_MOST:] if not _is_denied(spoken, one.start(1))]
    said = [one.end() for one in [*_STATED.finditer(spoken)][-_MOST:]]
    said = [at for at in said if not _is_denied(spoken, at) and not _sentence(spoken, at).endswith("?")]
    for so in _SO.finditer(spoken):
        if not said or re.search(r"[.!?](?:\s|$)|\n", spoken[said[-1] : so.start() + 2]):  # else it is a part of that
            said.append(so.end())
    words = []
    for at in sorted([*said, *(one.start(1) for one in rights[-1:])], reverse=True):
        if rights and at == rights[-1].start(1):
            words.append(", ".join(dict.fromkeys(one[1] for one in rights)))
        elif not _REFUSED.match(sentence := _sentence(spoken, at), 1):
            words.append(sentence)
    for one in list(_PICKED.finditer(spoken))[-1:]:
        rest = _sentence(spoken, one.end())
        if not _is_denied(spoken, one.start()) and not spoken[one.end() + len(rest) :].strip(" .!\n"):
            words.append(rest)
    return words


def _sentence(spoken: str, at: int) -> str:
    """The sentence from a place on, with its question mark."""
    end = _SENTENCE_END.search(spoken, at, at + _LONGEST)
    return spoken[at : end.start() + (end[0] == "?")] if end else spoken[at : at + _LONGEST]


def _is_denied(spoken: str, at: int) -> bool:
    """Whether the words of the clause before a place deny or suppose what follows, or tell what others say."""
    before = _CLAUSE.split(spoken[max(0, at - 200) : at].rstrip(" :=→\n"))[-1]
    return bool(_DENIED.search(before))


def _letters(text: str, choices: Sequence[str], alone: bool = False) -> set[str] | None:
    """The options that a text names by letter or by their words; None if it names none.

    `alone` is a line that nothing announces as the answer: nothing but an option's text or a reason may follow.
    """
    text = _single_blanks(_unwrapped(text[:_LONGEST])).strip()
    same = _same(text, choices)
    if same and not (len(text) == 1 and text in LETTERS[: len(choices)]):
        return same
    if small := _SMALL.fullmatch(text):
        letters, rest = {small[1].upper()}, small["rest"]
    elif match := _ALONE.fullmatch(text):
        letters, rest = {match[1]}, match["rest"]
    else:
        return _behind(text, choices)
    behind = _BEFORE_TEXT.sub("", rest, count=1).strip(" )].")
    others = _same(behind, choices) or _same(rest.strip(" )].:,"), choices)
    if others and not _AGAIN.match(rest):
        return letters if letters & others else letters | others
    while again := _AGAIN.match(rest):
        letters.add(again[1])
        rest = rest[again.end() :]
    if _REFUSED.match(rest) or not (_ENDED if alone else _SEPARATE).match(rest):
        return None
    named = [{one} if one in LETTERS[: len(choices)] else _same(one, choices) or {one} for one in letters]
    return set().union(*named)


def _behind(text: str, choices: Sequence[str]) -> set[str] | None:
    """The options that the text of one with a letter behind it names: `10, which is option B`."""
    match = _BEHIND.search(text)
    if not match:
        return None
    head, letter = text[: match.start()].strip(" ,;:=–—-("), (match["marked"] or match["bare"]).upper()
    texts = _same(head, choices) or _same(_LINK.split(head, maxsplit=1)[0], choices)
    return ({letter} if letter in texts else {letter} | texts) if texts else None


def _single_blanks(text: str) -> str:
    return re.sub(r"[ \t]+", " ", re.sub(r"\s*\n\s*", "\n", text))


def _same(text: str, choices: Sequence[str]) -> set[str]:
    """The options that a text is: letter for letter if there is one, else without blanks, else without case and marks.

    Several, where the loosest reading cannot tell them apart.
    """
    if not text.strip():
        return set()
    for form in (_raw, _tight, _plain):
        if same := {letter for letter, one in zip(LETTERS, choices, strict=False) if form(text) == form(one) != ""}:
            return same
    bare = _raw(text)
    return {letter for letter, one in zip(LETTERS, choices, strict=False) if decide(bare, _raw(one)) is True}


def _unwrapped(text: str) -> str:
    for _ in range(_MOST_WRAPPINGS):
        before, text = text, unwrapped(stripped(text))
        if text == before:
            break
    return text


def _raw(text: str) -> str:
    """A text with single blanks and without what encloses it."""
    return " ".join(_unwrapped(text).split())


def _tight(text: str) -> str:
    r"""A text without blanks, `\dfrac` as `\frac`."""
    return re.sub(r"\s+", "", _raw(text).replace("dfrac", "frac").replace("tfrac", "frac"))


def _plain(text: str) -> str:
    """A text without layout, case, articles and blanks; a capital A is an article only before a word."""
    text = _NO_WORD_A.sub("letterA", text)
    return re.sub(r"\s+", "", words_of(_tight(text) if "\\" in text else text))
