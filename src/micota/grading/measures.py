r"""Numbers and expressions with the words and units around them, as tokens.

`5 feet 6 inches` and `4 hours 30 minutes` are one quantity in the smaller unit; degrees and radians are part
of the value; the scale words (`3.5 million`) are multiplied out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from micota.grading.answers import Answer, Quantity
from micota.grading.grammar import expression
from micota.grading.special import worded
from micota.grading.tokens import Token
from micota.grading.trees import Tree
from micota.grading.vocabulary import SCALES

_DEGREES: Final = frozenset({"degree", "degrees", "deg"})
_UNIT_POWER = re.compile(r"\s*\^\s*\{?\s*(\d)\s*\}?", re.A)


def quantity(tokens: Sequence[Token]) -> Answer:
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
    phrase = "$" if dollars else _UNIT_POWER.sub(r"^\1", " ".join(t.text for t in unit))
    return _with_unit(tree, phrase, percent)


def _with_unit(tree: Tree, phrase: str, percent: bool) -> Quantity:
    if phrase.lower() in _DEGREES:
        tree, phrase = ("deg", tree), ""
    return Quantity(tree, phrase, percent or phrase in {"percent", "per cent"})


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
        if token.text == "}" and [t.text for t in tokens[max(at - 4, 0) : at - 2]] == ["^", "{"]:
            at -= 3
        elif token.kind == "unit" or (token.kind == "word" and not token.text.isupper()):
            start = at - 1
        elif not (token.text in {"^", "/", ".", "*", "-"} or (token.kind == "num" and tokens[at - 2].text == "^")):
            break
        at -= 1
    return start
