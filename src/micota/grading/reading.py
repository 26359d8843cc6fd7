"""From a written answer to its type, decided by what stands outside all brackets.

A text is split at its separators, each part is a relation, a union, a bracketed group, a matrix or a quantity
with its unit. What none of this reads is a text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from micota.grading import relations
from micota.grading.answers import REALS, Answer, Group, Matrix, Quantity, Relation, Text, Union
from micota.grading.grammar import expression
from micota.grading.notation import has_plain_thousands, respelt, without_thousands
from micota.grading.quantities import quantity, unit_start
from micota.grading.special import special_form, stripped, unwrapped, worded
from micota.grading.tokens import LONGEST, Token, Unreadable, tokenise
from micota.grading.trees import Tree
from micota.grading.vocabulary import HEDGES

_OPEN: Final = frozenset({"(", "[", "{", "{{", r"\lfloor", r"\lceil", r"\langle"})
_CLOSE: Final = frozenset({")", "]", "}", "}}", r"\rfloor", r"\rceil", r"\rangle"})
_SIGNS: Final = frozenset({"=", "<", ">", r"\le", r"\ge", r"\ne", r"\approx", r"\in", r"\equiv"})
_NUMBER_SETS: Final = frozenset({r"\mathbb{Z}", r"\mathbb{N}", r"\mathbb{R}", "R", "Z"})
_MATRIX_ENDS: Final = frozenset(rf"\end:{name}matrix" for name in ("", "p", "b", "B", "small"))
_FUNCTION = re.compile(r"([A-Za-z](?:\^\{-1\})?)\(([A-Za-z])\)")
_WORDED = re.compile(
    r"(?=.*[A-Za-z]{3})(?!.*\b(?:and|or|sin|cos|tan|log|exp|sqrt)\b)(?:[Aa] )?[A-Za-z]{2,}(?: [A-Za-z]{2,})+[.!?]?"
    r"|[Aa]n? [a-z]{2,}"
)
_SENTENCE = re.compile(r"\s*[A-Za-z].*\b(?:is|are|equals|be)\s+(?:equal to\s+)?(\S.*)", re.S)
_MOST_SIGNS: Final = 4
"""At most so many plus-minus signs in one element: each doubles the answers."""


def read(text: str) -> list[Answer]:
    """The readings of an answer, the likeliest first; there are two where a comma has two meanings."""
    text = stripped(text)
    text = stripped(respelt(text)) if len(text) <= LONGEST else text
    special = special_form(unwrapped(text))
    if special is not None:
        return [special]
    readings = [_read(without_thousands(text))] if has_plain_thousands(text) else []
    readings.append(_read(text))
    if isinstance(readings[-1], Text) and (sentence := _SENTENCE.fullmatch(unwrapped(text))):
        readings += [value for value in read(sentence[1]) if not isinstance(value, Text)]
    return readings


def _read(text: str) -> Answer:
    if _WORDED.fullmatch(text):
        return worded(text)
    try:
        return _listed(tokenise(text))
    except (Unreadable, RecursionError):
        return worded(text)


def _listed(tokens: Sequence[Token]) -> Answer:
    parts = [part for part in _split(tokens) if not _is_range(part)] or [tokens]
    if solutions := _solutions(tokens):
        return solutions
    items = [answer for part in parts for answer in _signed(part)]
    either = any(tokens[at].text == "or" for at in _outside(tokens, "sep"))
    if not either and (pieces := relations.punctured(items)):
        return Union(tuple(pieces))
    if not items:
        raise Unreadable("nothing to read")
    return items[0] if len(items) == 1 else Group("", "", tuple(items))


def _is_range(part: Sequence[Token]) -> bool:
    r"""A note such as `k \in \mathbb{Z}` behind an answer."""
    return len(part) == 3 and part[1].text == r"\in" and part[2].text in _NUMBER_SETS


def _solutions(tokens: Sequence[Token]) -> Group | None:
    """The pairs of `p=5, q=2; p=7, q=2`."""
    semicolons = [at for at in _outside(tokens, "sep") if tokens[at].text == ";"]
    rows = [_split(row) for row in _parts(tokens, semicolons)] if semicolons else []
    if len({len(row) for row in rows}) != 1 or len(rows[0]) < 2 or any(len(part) < 3 for row in rows for part in row):
        return None
    if any(part[1].text != "=" for row in rows for part in row):
        return None
    return Group("", "", tuple(Group("(", ")", tuple(map(_element, row))) for row in rows))


def _split(tokens: Sequence[Token]) -> list[Sequence[Token]]:
    """The parts between the separators that stand outside all brackets."""
    parts: list[Sequence[Token]] = []
    start = 0
    for at in [*_outside(tokens, "sep"), len(tokens)]:
        if at > start:
            parts.append(tokens[start:at])
        elif at < len(tokens) and tokens[at].text in {",", ";"}:
            raise Unreadable("an empty place between separators")
        start = at + 1
    return parts


def _outside(tokens: Sequence[Token], kind: str = "", texts: frozenset[str] = frozenset()) -> list[int]:
    depth, places = 0, []
    for at, token in enumerate(tokens):
        if token.text in _OPEN or token.text.startswith(r"\begin:"):
            depth += 1
        elif token.text in _CLOSE or token.text.startswith(r"\end:"):
            depth -= 1
        elif depth == 0 and (token.kind == kind or (token.text in texts and token.kind in {"op", "cmd"})):
            places.append(at)
    return places


def _signed(tokens: Sequence[Token]) -> list[Answer]:
    r"""One element, or one for each choice of its `\pm` signs (`\mp` takes the opposite of the `\pm`)."""
    depth, places = 0, list[int]()
    for at, token in enumerate(tokens):  # a set in braces expands its own elements
        depth += (token.text == "{{") - (token.text == "}}")
        places += [at] if depth == 0 and token.text in {r"\pm", r"\mp"} else []
    if not places:
        return [_element(tokens)]
    linked = any(tokens[at].text == r"\mp" for at in places)
    free = 1 if linked else len(places)
    if free > _MOST_SIGNS:
        raise Unreadable("too many plus-minus signs")
    answers = []
    for choice in itertools.product("+-", repeat=free):
        chosen = list(tokens)
        for place, at in enumerate(places):
            sign = choice[0] if linked else choice[place]
            flipped = "-" if sign == "+" else "+"
            chosen[at] = Token("op", sign if tokens[at].text == r"\pm" else flipped)
        answers.append(_element(chosen))
    return answers


def _element(tokens: Sequence[Token]) -> Answer:
    tokens = _trimmed(tokens)
    signs = _outside(tokens, texts=_SIGNS)
    if signs:
        return _relation(tokens, signs)
    if cups := _outside(tokens, texts=frozenset({r"\cup"})):
        return Union(tuple(_element(part) for part in _parts(tokens, cups)))
    if tokens[0].text == r"\mathbb{R}" and len(tokens) > 3 and tokens[1].text in {r"\setminus", "-"}:
        points = _element(tokens[2:])
        if isinstance(points, Group) and points.opening == "{" and (pieces := relations.pieces(REALS, points.items)):
            return Union(tuple(pieces))
    if (transposed := _transposed(tokens)) is not None:
        return transposed
    return _whole(tokens) or _whole(_bare(tokens)) or _scaled(tokens) or quantity(tokens)


def _whole(tokens: Sequence[Token]) -> Answer | None:
    """What is written with brackets around it, a matrix, a numeral with its base, or the empty set."""
    if not tokens:
        return None
    if tokens[0].text in _OPEN and tokens[-1].text in _CLOSE and _encloses(tokens):
        return _bracketed(tokens)
    if tokens[0].text.startswith(r"\begin:") and tokens[-1].text.startswith(r"\end:"):
        return _matrix(tokens)
    if tokens[-1].kind == "sub":
        digits = "".join(token.text for token in tokens[:-1] if token.text not in {"(", ")"})
        return special_form(f"{digits}_{{{tokens[-1].text}}}") if digits.lstrip("-")[:1].isdecimal() else None
    if any(token.text == ":" for token in tokens):
        return special_form("".join(token.text for token in tokens))
    if len(tokens) == 1:
        return {r"\emptyset": Group("{", "}", ()), r"\mathbb{R}": REALS}.get(tokens[0].text)
    return None


def _bare(tokens: Sequence[Token]) -> Sequence[Token]:
    """Without a unit, a percent or a degree sign behind brackets, where it says nothing."""
    tokens = tokens[tokens[0] == Token("unit", "$") : unit_start(tokens)]
    texts = [token.text for token in tokens]
    while texts and (texts[-1] in {"%", "°"} or texts[-2:] == ["^", r"\circ"] or texts[-3:-1] == ["{", r"\circ"]):
        cut = 1 if texts[-1] in {"%", "°"} else 2 if texts[-1] == r"\circ" else 4
        texts, tokens = texts[:-cut], tokens[:-cut]
    bracketed = bool(tokens) and tokens[0].text in {"(", "[", "{{"} and bool(_outside(tokens[1:-1], "sep"))
    bracketed = bracketed or (bool(tokens) and tokens[-1].text.startswith(r"\end:"))
    single = bool(tokens) and (tokens[-1].kind == "sub" or any(token.text == ":" for token in tokens))
    return tokens if bracketed or single else ()


def _trimmed(tokens: Sequence[Token]) -> Sequence[Token]:
    """Without leading `=`, `about`, `$`-like words, trailing full stops and enclosing braces."""
    while tokens and (tokens[-1].text == "." or (tokens[0].text == "{" and _encloses(tokens))):
        tokens = tokens[:-1] if tokens[-1].text == "." else tokens[1:-1]
    while tokens and (tokens[0].text in {"=", r"\approx", ":"} or tokens[0].text.lower() in HEDGES):
        tokens = tokens[1:]
    if not tokens:
        raise Unreadable("nothing to read")
    return tokens


def _encloses(tokens: Sequence[Token]) -> bool:
    """Whether the bracket that opens first closes last."""
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.text in _OPEN) - (token.text in _CLOSE)
        if depth == 0:
            return at == len(tokens) - 1
    return False


def _parts(tokens: Sequence[Token], places: Sequence[int]) -> list[Sequence[Token]]:
    bounds = [-1, *places, len(tokens)]
    return [tokens[a + 1 : b] for a, b in itertools.pairwise(bounds)]


def _relation(tokens: Sequence[Token], places: Sequence[int]) -> Answer:
    parts, signs = _parts(tokens, places), [tokens[at].text for at in places]
    sides = [_labelled(parts[0]) if signs[0] == "=" else _element(parts[0]), *map(_element, parts[1:])]
    if signs == [r"\in"]:
        return sides[1]
    return Relation(tuple(sides), tuple(signs))


def _labelled(tokens: Sequence[Token]) -> Answer:
    """The left side of an equation; what is no expression there, but without operations, is a label."""
    if function := _FUNCTION.fullmatch("".join(token.text for token in tokens)):
        return Quantity(("fn", "of " + function[1], ("sym", function[2])))
    try:
        return _element(tokens)
    except Unreadable:
        if tokens and tokens[0].text in {r"\lim", r"\sum", r"\int", r"\prod"}:
            return Text("".join(token.text for token in tokens))
        if any(token.text in {"+", "-", "*", "/", "^", r"\frac"} for token in tokens):
            raise
        return Text("".join(token.text for token in tokens))


def _bracketed(tokens: Sequence[Token]) -> Answer:
    opening, closing, inner = tokens[0].text, tokens[-1].text, tokens[1:-1]
    if opening in {r"\lfloor", r"\lceil"}:
        return quantity(tokens)
    opening = {"{{": "{", r"\langle": "("}.get(opening, opening)
    closing = {"}}": "}", r"\rangle": ")"}.get(closing, closing)
    bar = next((at for at in (1, 3) if at < len(inner) and inner[at].text in {"|", ":"}), 0)
    if opening == "{" and bar and inner[0].kind == "sym" and (bar == 1 or _is_range(inner[:3])):
        return _listed(inner[bar + 1 :])  # a set described by a condition
    if opening == "{":
        return Group("{", "}", tuple(a for part in _split(inner) for a in _signed(part)))
    parts = _split(inner)
    if len(parts) == 1 and opening + closing in {"()", "[]"}:
        return _element(inner)
    if len(parts) < 2:
        raise Unreadable("brackets that hold nothing")
    return Group(opening, closing, tuple(_element(part) for part in parts))


def _matrix(tokens: Sequence[Token]) -> Matrix:
    if not tokens[0].text.endswith("matrix") or tokens[0].text.endswith(":vmatrix"):
        raise Unreadable("an environment that is not a matrix")
    inner = tokens[1:-1]
    rows = [row for row in _parts(inner, _outside(inner, texts=frozenset({"\\\\"}))) if row]
    if not rows:
        raise Unreadable("an empty matrix")
    return Matrix(
        tuple(tuple(_element(cell) for cell in _parts(row, _outside(row, texts=frozenset({"&"})))) for row in rows)
    )


def _scaled(tokens: Sequence[Token]) -> Answer | None:
    """A matrix with a factor in front of it."""
    start = next((at for at, token in enumerate(tokens) if token.text.startswith(r"\begin:")), 0)
    if not start or not tokens[-1].text.startswith(r"\end:"):
        return None
    factor = ("num", Fraction(-1)) if [t.text for t in tokens[:start]] == ["-"] else expression(tokens[:start])
    rows = _matrix(tokens[start:]).rows
    return Matrix(tuple(tuple(_times(factor, cell) for cell in row) for row in rows))


def _transposed(tokens: Sequence[Token]) -> Matrix | None:
    """The matrix or vector in front of `^T`."""
    mark = tokens[:-1] if tokens[-1].text == "}" else tokens
    if len(mark) < 3 or mark[-1].text not in {"T", r"\top", r"\intercal"}:
        return None
    before = mark[: -2 if mark is tokens else -3]
    if not before or mark[len(before)].text != "^" or before[-1].text not in {")", "]", *_MATRIX_ENDS}:
        return None
    whole = _whole(before)
    if isinstance(whole, Matrix):
        return Matrix(tuple(zip(*whole.rows, strict=False)))
    return Matrix(tuple((item,) for item in whole.items)) if isinstance(whole, Group) else None


def _times(factor: Tree, cell: Answer) -> Answer:
    if not isinstance(cell, Quantity):
        raise Unreadable("a matrix of no numbers")
    return replace(cell, tree=("mul", factor, cell.tree))
