r"""The semantic grader: whether the final answer has the value of the reference answer.

    extract    find the final answer in the response
    decide     fast exact rules for equal strings and plain numbers, which settle almost all real answers
    reading    read both as a number, interval, tuple, set, equation, ...
    compare    decide by type; letters stand for numbers, units are converted

A value too large to compute, or a text beyond all limits, is `unverifiable` unless both are one string.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from micota.grading.answers import Answer, Quantity, Text
from micota.grading.compare import restates, same
from micota.grading.exact import gold_string
from micota.grading.extract import NOTHING_STATED, FinalAnswer, final_answer
from micota.grading.reading import read
from micota.grading.special import stripped, unwrapped
from micota.grading.tokens import LONGEST
from micota.grading.trees import Beyond
from micota.grading.verdict import Grade, Verdict

SEMANTIC_VERSION: Final = 1
"""A part of every digest of verdicts: bumped by hand when all verdicts must be given again."""
SEMANTIC_REVISION: Final = 4
"""A fact of verdicts, bumped by hand when some of `semantic` change: older ones stay, and a run says so."""
FAILED: Final = "the scorer failed"
"""How the reason begins where a mistake of ours, not the answer, kept the verdict open."""
_LONGEST_NUMBER: Final = 60
_LONGEST_ALONE: Final = 200
_WORD = re.compile(r"(?<![\\{a-zA-Z])[A-Za-z]{3,}")
_SOLUTION = re.compile(r"\\boxed|\\fbox|</|\b(?:answer|result)\s*(?:is|:)", re.I)
_FRACTION = r"\\[dt]?frac\s*\{(\d{1,15})\}\s*\{(\d{1,15})\}"
_NUMBER = re.compile(
    rf"(-?)\s*(?:(\d{{1,3}}(?:(?:,|\{{,\}}|,\\!\s*)\d{{3}}){{1,4}}|\d{{0,18}}\.\d{{1,12}}|\d{{1,18}})"
    rf"(?:/(\d{{1,15}}))?|(\d{{1,9}})?\s*{_FRACTION})",
    re.A,
)
_GROUPING = re.compile(r"[^\d.]")
_JOINED = re.compile(r",|\\text\s*\{[\s,]*(?:and|or)\s*\}|\b(?:and|or)\b")
_CHOICE = re.compile(
    r"\s*(?:(?i:option|choice)\s+\(?([A-J])\)?|\(?([A-J])\)?\s*[).:]\s*(?![,;&/]|(?:and|or)\b|\(?[A-J]\))(\S.*))",
    re.S,
)
"""`(C) 12` or `Option C`: the letter of a choice, and what it stands for."""


def semantic(response: str, gold: object, benchmark: str | None = None, truncated: bool = False) -> Grade:
    r"""Grade by meaning. The gold is that of the benchmark's row, or a bare answer without one.

    >>> semantic(r"So it is $\boxed{x = 0.5}$.", r"\frac{1}{2}").verdict.value
    'correct'
    """
    quick = quick_grade(response, gold, benchmark, truncated)
    return quick if isinstance(quick, Grade) else settled(judge(quick.answer or "", gold_text(gold, benchmark)), quick)


def quick_grade(
    response: str, gold: object, benchmark: str | None = None, truncated: bool = False
) -> Grade | FinalAnswer:
    """The grade if extraction and the fast rules settle it, otherwise the answer that `judge` must compare."""
    final = final_answer(response, benchmark, truncated)
    if final.how == NOTHING_STATED and len(response) <= _LONGEST_ALONE and "\n" not in response.strip():
        how = NOTHING_STATED if _WORD.search(response) else "the whole response"
        final = FinalAnswer(response.strip(), how)  # it may be nothing but the answer
    if not final.answer:
        return Grade(Verdict.no_answer, None, final.how)
    decided = decide(final.answer, gold_text(gold, benchmark))
    if decided is None:
        return final
    verdict = Verdict.correct if decided else Verdict.wrong
    return settled(Grade(verdict, final.answer, "the same" if decided else "another number"), final)


def settled(grade: Grade, final: FinalAnswer) -> Grade:
    """The grade of an answer; a response of words that is not the gold has stated no answer."""
    if final.how == NOTHING_STATED and grade.verdict != Verdict.correct:
        return Grade(Verdict.no_answer, None, NOTHING_STATED)
    return grade


def gold_text(gold: object, benchmark: str | None = None) -> str:
    """The gold's final answer: a list's elements joined, what follows `####`, or what a solution ends in."""
    if isinstance(gold, (list, tuple)) and len(gold) > 1:
        return ", ".join(map(str, gold))
    text = gold_string(gold)
    if "####" in text:
        return text.rpartition("####")[2].strip()
    if benchmark is not None or not _SOLUTION.search(text):
        return text
    return final_answer(text).answer or text.rpartition("</think>")[2].strip() or text


def judge(answer: str, gold: str, identical: bool = True) -> Grade:
    """Compare two written answers by type; `identical=False` switches off the rule that equal strings agree."""
    if identical and answer.strip() == gold.strip():
        return Grade(Verdict.correct, answer, "the same")
    if max(len(answer), len(gold)) > LONGEST:
        return Grade(Verdict.unverifiable, answer[:LONGEST], f"longer than {LONGEST} characters")
    try:
        return _compared(answer, gold)
    except (Beyond, RecursionError) as error:
        return Grade(Verdict.unverifiable, answer, f"cannot be computed: {error}")
    except Exception as error:  # a model's text must not end a run; the tests look for this reason
        return Grade(Verdict.unverifiable, answer, f"{FAILED}: {type(error).__name__}: {error}")


def judged(answer: str, gold: str) -> tuple[str, str | None, str]:
    """The grade of `judge` as its verdict, answer and reason: this runs in a process of its own."""
    grade = judge(answer, gold)
    return grade.verdict, grade.answer, grade.reason


def _compared(answer: str, gold: str) -> Grade:
    golds, answers = read(gold), read(answer)
    if any(same(ours, theirs) for ours in golds for theirs in answers):
        return Grade(Verdict.correct, answer, "means the same")
    return _unlike(answer, golds, answers)


def _unlike(answer: str, golds: Sequence[Answer], answers: Sequence[Answer]) -> Grade:
    """The grade where no reading agrees: a named choice, a restatement, or wrong."""
    if (choice := _CHOICE.fullmatch(unwrapped(stripped(answer)))) and _chosen(choice, golds):
        return Grade(Verdict.correct, answer, "the same choice")
    spellings = {part.strip() for part in _JOINED.split(answer)}
    if len(spellings) > 1 and any(restates(ours, theirs) for ours in golds for theirs in answers):
        return Grade(Verdict.correct, answer, "means the same, stated more than once")
    return Grade(Verdict.wrong, answer, "another meaning")


def _chosen(choice: re.Match[str], golds: Sequence[Answer]) -> bool:
    """Whether the gold is the letter of a choice or, where that is no letter, the value behind it."""
    letter = read(choice[1] or choice[2])[0]
    if any(isinstance(gold, (Text, Quantity)) and same(gold, letter) for gold in golds):
        return True
    letters = [
        gold for gold in golds if isinstance(gold, Text) or (isinstance(gold, Quantity) and gold.tree[0] == "sym")
    ]
    values = [gold for gold in golds if gold not in letters]
    return any(same(gold, value) for gold in values for value in read(choice[3] or ""))


def _plain_number(text: str) -> tuple[Fraction, bool] | None:
    """The value of a plain number and whether a comma in it could also separate two numbers."""
    if len(text) > _LONGEST_NUMBER:
        return None
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, decimal, below, whole, top, bottom = match.groups()
    if decimal is not None:
        value = Fraction(_GROUPING.sub("", decimal))
        if below is not None:
            if not int(below) or "," in decimal or "." in decimal:
                return None
            value /= int(below)
    else:
        if not int(bottom) or (whole and not 0 < int(top) < int(bottom)) or whole == "0":
            return None
        value = int(whole or 0) + Fraction(int(top), int(bottom))
    return (-value if sign else value), "," in text


def decide(answer: str, gold: str) -> bool | None:
    """True or False if the fast rules settle it, None if they do not."""
    left, right = _bare(answer), _bare(gold)
    if left == right and left:
        return True
    ours, theirs = _plain_number(left), _plain_number(right)
    if ours is None or theirs is None or ours[1] or theirs[1]:
        return None
    return True if ours[0] == theirs[0] else _differ(ours[0], theirs[0])


def _bare(text: str) -> str:
    return text.strip().rstrip(".").strip("$").strip()


def _differ(left: Fraction, right: Fraction) -> bool | None:
    """A long decimal may stand for a fraction, which `compare` decides."""
    return None if max(left.denominator, right.denominator) > 10**6 else False
