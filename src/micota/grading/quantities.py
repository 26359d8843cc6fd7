r"""Numbers and expressions with what stands around them: units, percent, degrees, scale words, long decimals."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from micota.grading.answers import Answer, Group, Quantity, Text
from micota.grading.grammar import expression
from micota.grading.numeric import Inexact, exact, numeric
from micota.grading.special import worded
from micota.grading.tokens import Token
from micota.grading.trees import (
    Tree,
    Undefined,
    common_logarithms,
    constants,
    functions,
    has_degrees,
    in_radians,
    letters,
    renamed,
)
from micota.grading.units import Unit, is_unit, read_unit
from micota.grading.values import equal
from micota.grading.vocabulary import IDLE, PERCENT, SCALES

_DEGREES: Final = frozenset({"degree", "degrees", "deg"})
_RADIANS: Final = frozenset({"radian", "radians", "rad"})
_UNIT_POWER = re.compile(r"\s*\^\s*\{?\s*(-?)\s*(\d)\s*\}?", re.A)
_BRACED_POWER = re.compile(r"\^ \{ (?:- )?\d \}$", re.A)
LONG_DECIMAL: Final = 10
"""A decimal of at least so many places may stand for the number that it rounds or cuts."""
_COUNTERS: Final = frozenset("klmn")
_ANGLE: Final = Unit("angle^1", Fraction(1))
_HUNDRED: Final[Tree] = ("num", Fraction(100))


def quantity(tokens: Sequence[Token]) -> Answer:
    """A number or an expression with its unit, or words. Raises Unreadable if the tokens are neither."""
    if all(token.kind in {"word", "unit"} or token.text in {"(", ")", "-", "'"} for token in tokens) and any(
        token.kind == "word" for token in tokens
    ):
        return worded(" ".join(token.text for token in tokens))
    tokens, dollars = _without_dollar(tokens)
    start = unit_start(tokens)
    tokens, unit = tokens[:start], tokens[start:]
    percent = bool(tokens) and tokens[-1].text == "%"
    while tokens and tokens[-1].text == "%":
        tokens = tokens[:-1]
    tree = expression(tokens)
    if unit and unit[0].text.lower() in SCALES:
        tree = ("mul", tree, ("num", Fraction(SCALES[unit[0].text.lower()])))
        unit = unit[1:]
    phrase, words = _phrase([token.text for token in unit])
    return _with_unit(tree, "$" if dollars else phrase, words, percent)


def _phrase(words: Sequence[str]) -> tuple[str, frozenset[str]]:
    """The unit that the words begin with (all of them if none is known), and what of the rest tells things apart."""
    for end in range(len(words), 0, -1):
        phrase = _UNIT_POWER.sub(r"^\1\2", " ".join(words[:end]))
        if phrase.lower() in _DEGREES | _RADIANS | PERCENT or read_unit(phrase):
            return phrase, _telling(words[end:])
    return " ".join(words), _telling(words)


def _telling(words: Sequence[str]) -> frozenset[str]:
    low = (word.lower().rstrip(".") for word in words if word[0].isalpha())
    telling = (word for word in low if word not in IDLE and not is_unit(word))
    return frozenset(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in telling)


def _with_unit(tree: Tree, phrase: str, words: frozenset[str], percent: bool) -> Quantity:
    if phrase.lower() in _DEGREES:
        tree, phrase = ("deg", tree), ""
    elif phrase.lower() in _RADIANS:
        tree, phrase = ("deg", ("div", ("mul", tree, ("num", Fraction(180))), ("const", "pi"))), ""
    return Quantity(tree, phrase, percent or phrase.lower() in PERCENT, words)


def _without_dollar(tokens: Sequence[Token]) -> tuple[Sequence[Token], bool]:
    for at in (0, 1):
        if at < len(tokens) and tokens[at] == Token("unit", "$"):
            return [*tokens[:at], *tokens[at + 1 :]], True
    return tokens, False


def unit_start(tokens: Sequence[Token]) -> int:
    """Where the trailing words and units begin; `cm^2` and `m/s` belong to them."""
    start = at = len(tokens)
    while at > 0:
        token = tokens[at - 1]
        if token.text == "}" and (power := _BRACED_POWER.search(" ".join(t.text for t in tokens[max(at - 5, 0) : at]))):
            at -= power[0].count(" ")
        elif token.kind == "unit" or (token.kind == "word" and not token.text.isupper()):
            start = at - 1
        elif not (token.text in {"^", "/", ".", "*", "-"} or (token.kind == "num" and tokens[at - 2].text == "^")):
            break
        at -= 1
    return start


def same_quantity(gold: Quantity, answer: Quantity) -> bool:
    """Whether the values agree, once units are converted and a percent sign is read either way."""
    left, right = _converted(gold, answer)
    if left is None or right is None or (gold.words - answer.words and answer.words - gold.words):
        return False  # another measure, or other words behind the number
    if gold.percent == answer.percent:
        return _same_value(left, right)
    if gold.percent:
        return _same_value(left, right) or _same_value(("div", left, _HUNDRED), right)
    return _same_value(left, ("div", right, _HUNDRED)) or (_same_value(left, right) and _may_be_percent(left))


def _may_be_percent(tree: Tree) -> bool:
    """A plain gold of 1 or more may count percent; `0.5` is no `0.5%`."""
    value = _exactly(tree)
    return value is None or abs(value) >= 1


def _converted(gold: Quantity, answer: Quantity) -> tuple[Tree | None, Tree | None]:
    ours, theirs = _measure(gold), _measure(answer)
    if ours is None or theirs is None:
        return gold.tree, answer.tree
    if ours.dimension != theirs.dimension:
        bare_degrees = {ours.dimension, theirs.dimension} <= {"angle^1", "temperature^1", "temperature2^1"}
        return (gold.tree, answer.tree) if bare_degrees and _ANGLE in (ours, theirs) else (None, None)
    return ("mul", gold.tree, ("num", ours.factor)), ("mul", answer.tree, ("num", theirs.factor))


def _measure(quantity: Quantity) -> Unit | None:
    """The unit that is stated, if it is a known one; a degree or a percent sign states one too."""
    if quantity.percent:
        return Unit("share", Fraction(1))
    if quantity.tree[0] == "deg":
        return _ANGLE
    return read_unit(quantity.unit)


def _same_value(gold: Tree, answer: Tree) -> bool:
    if equal(gold, _same_counter(gold, answer)):
        return True
    if has_degrees(gold) != has_degrees(answer):
        return equal(in_radians(gold), in_radians(answer))
    if "log" in functions(gold) | functions(answer) and equal(common_logarithms(gold), common_logarithms(answer)):
        return True
    return _rounds_to(gold, answer) or _rounds_to(answer, gold)


def _same_counter(gold: Tree, answer: Tree) -> Tree:
    """In a family of angles the letter that counts is free: `2 n pi` is `2 k pi`."""
    ours, theirs = letters(gold), letters(answer)
    counting = len(ours) == len(theirs) == 1 and (ours | theirs) <= _COUNTERS
    if not counting or "pi" not in constants(gold) & constants(answer):
        return answer
    return renamed(answer, theirs.pop(), ours.pop())


def _exactly(tree: Tree) -> Fraction | None:
    try:
        return exact(tree)
    except (Inexact, Undefined):
        return None


def _rounds_to(tree: Tree, written: Tree) -> bool:
    """Whether a value that is no decimal, rounded or cut to the places of a long decimal, is that decimal."""
    scientific = written[0] == "mul" and written[1][0] == "num" and written[2][:2] == ("pow", ("num", Fraction(10)))
    decimal = _exactly(written) if scientific or written[0] == "num" else None
    if decimal is None or (places := _places(decimal)) < LONG_DECIMAL or letters(tree):
        return False
    if (ours := _exactly(tree)) is not None and (ours.denominator == 1 or _places(ours)):
        return False
    try:
        value = numeric(tree, {}, 50 + places)
    except (Undefined, ZeroDivisionError):
        return False
    ulp = Fraction(1, 10**places)
    if abs(decimal) < ulp * 10 ** (LONG_DECIMAL - 1) or value.imag:
        return False
    return bool(abs(value - decimal.numerator / (value * 0 + decimal.denominator)) < float(ulp))


def _places(value: Fraction) -> int:
    """The decimal places of a terminating decimal; 0 for a whole number or for one that does not end."""
    rest, twos, fives = value.denominator, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    return max(twos, fives) if rest == 1 else 0


def spelling(answer: Answer) -> str:
    """How an answer reads as a word: text as it is, a product of letters as those letters in order."""
    if isinstance(answer, Text):
        return answer.words
    if isinstance(answer, Quantity) and not answer.unit:
        word = _letters_in_order(answer.tree)
        return word if word in {"E", "I"} else word.lower()
    if isinstance(answer, Group) and answer.opening in {"", "{"}:
        parts = [spelling(item) for item in answer.items]
        return " ".join(parts) if all(parts) else ""
    return ""


def _letters_in_order(tree: Tree) -> str:
    if tree[0] == "sym" and len(tree[1]) == 1:
        return str(tree[1])
    if tree[0] == "const" and len(tree[1]) == 1:
        return str(tree[1])
    if tree[0] == "mul":
        parts = [_letters_in_order(part) for part in tree[1:]]
        return "".join(parts) if all(parts) else ""
    return ""
