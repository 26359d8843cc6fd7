"""Reading an answer: which type it is, decided by what stands outside all brackets.

A text is split at its separators, each part is a relation, a union, a bracketed group, a matrix or a quantity
with its unit. What none of this reads is a text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from micota.scoring.answers import REALS, Answer, Group, Matrix, Quantity, Relation, Text, Union
from micota.scoring.grammar import expression
from micota.scoring.special import special_form, stripped, unwrapped, worded
from micota.scoring.tokens import Token, Unreadable, has_plain_thousands, tokenise
from micota.scoring.trees import INFINITY, MINUS_ONE
from micota.scoring.values import ordered
from micota.scoring.vocabulary import HEDGES, SCALES

_OPEN: Final = frozenset({"(", "[", "{", "{{", r"\lfloor", r"\lceil", r"\langle"})
_CLOSE: Final = frozenset({")", "]", "}", "}}", r"\rfloor", r"\rceil", r"\rangle"})
_SIGNS: Final = frozenset({"=", "<", ">", r"\le", r"\ge", r"\ne", r"\approx", r"\in", r"\equiv"})
_MOST_SIGNS: Final = 4
"""At most so many plus-minus signs in one element: each doubles the answers."""
_DEGREES: Final = frozenset({"degree", "degrees", "deg"})
_UNIT_POWER = re.compile(r"\s*\^\s*\{?\s*(\d)\s*\}?", re.A)


def read(text: str) -> list[Answer]:
    """The readings of an answer, the likeliest first; there are two where a comma has two meanings."""
    text = stripped(text)
    special = special_form(unwrapped(text))
    if special is not None:
        return [special]
    readings = [_read(text, thousands=True)] if has_plain_thousands(text) else []
    return [*readings, _read(text, thousands=False)]


def _read(text: str, thousands: bool) -> Answer:
    try:
        return _listed(tokenise(text, thousands))
    except (Unreadable, RecursionError):
        return worded(text)


def _listed(tokens: Sequence[Token]) -> Answer:
    parts = [part for part in _split(tokens) if not _is_range(part)] or [tokens]
    items = [answer for part in parts for answer in _signed(part)]
    if not items:
        raise Unreadable("nothing to read")
    return items[0] if len(items) == 1 else Group("", "", tuple(items))


def _is_range(part: Sequence[Token]) -> bool:
    r"""A note such as `k \in \mathbb{Z}` behind an answer."""
    return len(part) == 3 and part[1].text == r"\in" and part[2].text in {r"\mathbb{Z}", r"\mathbb{N}"}


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
    depth, found = 0, []
    for at, token in enumerate(tokens):
        if token.text in _OPEN or token.text.startswith(r"\begin:"):
            depth += 1
        elif token.text in _CLOSE or token.text.startswith(r"\end:"):
            depth -= 1
        elif depth == 0 and (token.kind == kind or (token.text in texts and token.kind in {"op", "cmd"})):
            found.append(at)
    return found


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
    if minus := _outside(tokens, texts=frozenset({r"\setminus", r"\backslash"})):
        return _without(*(_element(part) for part in _parts(tokens, minus)))
    return _whole(tokens) or _whole(_bare(tokens)) or _quantity(tokens)


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
    tokens = tokens[tokens[0] == Token("unit", "$") : _unit_start(tokens)]
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
    if signs == ["="] and _is_letter(sides[1]) and not _is_letter(sides[0]):
        sides.reverse()
    return Relation(tuple(sides), tuple(signs))


def _labelled(tokens: Sequence[Token]) -> Answer:
    """The left side of an equation; what is no expression there, but without operations, is a label."""
    try:
        return _element(tokens)
    except Unreadable:
        if any(token.text in {"+", "-", "*", "/", "^", r"\frac"} for token in tokens):
            raise
        return Text("".join(token.text for token in tokens))


def _is_letter(side: Answer) -> bool:
    return isinstance(side, Quantity) and side.tree[0] == "sym"


def _without(whole: Answer, *removed: Answer) -> Answer:
    r"""`\mathbb{R} \setminus \{a, b\}` as the union of the open intervals between."""
    if whole != REALS or len(removed) != 1 or not isinstance(removed[0], Group):
        raise Unreadable("a difference of sets")
    if not all(isinstance(item, Quantity) for item in removed[0].items):
        raise Unreadable("a difference of sets")
    points = ordered([item.tree for item in removed[0].items if isinstance(item, Quantity)])
    ends = [("mul", MINUS_ONE, INFINITY), *points, INFINITY]
    return Union(tuple(Group("(", ")", (Quantity(a), Quantity(b))) for a, b in itertools.pairwise(ends)))


def _bracketed(tokens: Sequence[Token]) -> Answer:
    opening, closing, inner = tokens[0].text, tokens[-1].text, tokens[1:-1]
    if opening in {r"\lfloor", r"\lceil"}:
        return _quantity(tokens)
    opening = {"{{": "{", r"\langle": "("}.get(opening, opening)
    closing = {"}}": "}", r"\rangle": ")"}.get(closing, closing)
    if opening == "{" and len(inner) > 2 and inner[0].kind == "sym" and inner[1].text in {"|", ":"}:
        return _listed(inner[2:])  # a set described by a condition
    if opening == "{":
        return Group("{", "}", tuple(a for part in _split(inner) for a in _signed(part)))
    parts = _split(inner)
    if len(parts) == 1 and opening + closing in {"()", "[]"}:
        return _element(inner)
    if len(parts) < 2:
        raise Unreadable("brackets that hold nothing")
    return Group(opening, closing, tuple(_element(part) for part in parts))


def _matrix(tokens: Sequence[Token]) -> Answer:
    if not tokens[0].text.endswith("matrix") or tokens[0].text.endswith(":vmatrix"):
        raise Unreadable("an environment that is not a matrix")
    inner = tokens[1:-1]
    rows = _parts(inner, _outside(inner, texts=frozenset({"\\\\"})))
    rows = [row for row in rows if row]
    if not rows:
        raise Unreadable("an empty matrix")
    return Matrix(
        tuple(tuple(_element(cell) for cell in _parts(row, _outside(row, texts=frozenset({"&"})))) for row in rows)
    )


def _quantity(tokens: Sequence[Token]) -> Answer:
    if all(token.kind in {"word", "unit"} or token.text in {"(", ")", "-", "'"} for token in tokens) and any(
        token.kind == "word" for token in tokens
    ):
        return worded(" ".join(token.text for token in tokens))
    tokens, dollars = _without_dollar(tokens)
    start = _unit_start(tokens)
    tokens, unit = tokens[:start], tokens[start:]
    percent = bool(tokens) and tokens[-1].text == "%"
    while tokens and tokens[-1].text == "%":
        tokens = tokens[:-1]
    tree = expression(tokens)
    if unit and unit[0].text.lower() in SCALES:
        tree = ("mul", tree, ("num", Fraction(SCALES[unit[0].text.lower()])))
        unit = unit[1:]
    phrase = "$" if dollars else _UNIT_POWER.sub(r"^\1", " ".join(t.text for t in unit))
    if phrase.lower() in _DEGREES:
        tree, phrase = ("deg", tree), ""
    return Quantity(tree, phrase, percent or phrase in {"percent", "per cent"})


def _without_dollar(tokens: Sequence[Token]) -> tuple[Sequence[Token], bool]:
    for at in (0, 1):
        if at < len(tokens) and tokens[at] == Token("unit", "$"):
            return [*tokens[:at], *tokens[at + 1 :]], True
    return tokens, False


def _unit_start(tokens: Sequence[Token]) -> int:
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
