r"""Equations and inequalities: what they define, what interval they describe, when two are the same.

`x = 5` defines a name, `0.56 = 56\%` states one number twice, `x + y = 3` is an equation proper, and
`-1 < x \le 4` is the interval `(-1, 4]`. Two equations are the same if one is a constant multiple of the
other; two inequalities if that constant is positive and the strictness agrees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Final

from micota.grading.answers import REALS, Answer, Group, Quantity, Relation, Text, Union
from micota.grading.numeric import numeric
from micota.grading.trees import INFINITY, MINUS_ONE, Beyond, Tree, Undefined, functions, letters
from micota.grading.values import proportion

Same = Callable[[Answer, Answer], bool]
_EQUAL: Final = frozenset({"=", r"\approx", r"\equiv"})
_LESS: Final = frozenset({"<", r"\le"})
_MORE: Final = frozenset({">", r"\ge"})
_FLIPPED: Final = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", "=": "=", r"\ne": r"\ne"}


def same_relation(gold: Answer, answer: Answer, same: Same) -> bool:
    """Whether two answers agree of which at least one is an equation or an inequality."""
    if isinstance(gold, Relation) and isinstance(answer, Relation):
        return _same_pair(gold, answer, same)
    if isinstance(gold, Relation):
        return any(same(reading, answer) for reading in _readings(gold))
    assert isinstance(answer, Relation)
    if not _is_consistent(answer, same):
        return False
    return any(same(gold, reading) for reading in _readings(answer)[-1:] or _asked(gold, answer))


def _readings(relation: Relation) -> list[Answer]:
    """What a relation says without its name: its value, or its interval."""
    intervals = as_intervals(relation)
    if intervals != [relation]:
        return [intervals[0] if len(intervals) == 1 else Union(tuple(intervals))]
    if not set(relation.signs) <= _EQUAL:
        return []
    if name_of(relation):
        return [value_of(relation)]
    if all(_is_plain(side) for side in relation.sides):
        return [*relation.sides, value_of(relation)]
    return []


def _asked(gold: Answer, answer: Relation) -> list[Answer]:
    """The number in `m + n = 8`: an answer that repeats the expression, in several letters, that was asked for."""
    first, *rest = answer.sides
    number = isinstance(gold, Quantity) and _is_plain(gold) and all(map(_is_plain, rest))
    if not number or not isinstance(first, Quantity) or not set(answer.signs) <= _EQUAL:
        return []
    names = letters(first.tree)
    sought = first.tree[0] in {"fn", "div"} or not names <= set("xyz")  # `x + y = 1` is a line
    return [value_of(answer)] if sought and (len(names) > 1 or first.tree[0] == "fn") else []


def _is_plain(side: Answer) -> bool:
    return isinstance(side, Quantity) and not letters(side.tree) and not _of_unknown(side.tree)


def _of_unknown(tree: Tree) -> bool:
    return any(name.startswith("of ") for name in functions(tree))


def _is_consistent(relation: Relation, same: Same) -> bool:
    """A chain of `=` between plain numbers must be true: `2 + 2 = 5` is no way to write 5."""
    for left, sign, right in zip(relation.sides, relation.signs, relation.sides[1:], strict=False):
        if sign == "=" and _is_plain(left) and _is_plain(right) and not same(left, right):
            return False
    return True


def name_of(relation: Relation) -> str:
    """The name that the relation defines (`x`, `f(x)`, `AB`), or an empty string."""
    first = relation.sides[0]
    if not set(relation.signs) <= _EQUAL:
        return ""
    if isinstance(first, Text):
        return first.words
    if isinstance(first, Group) and all(_is_variable(item) for item in first.items):
        return "".join(str(item) for item in first.items)
    return _name(first.tree) if isinstance(first, Quantity) and not first.unit else ""


def _name(tree: Tree) -> str:
    if tree[0] == "sym":
        return str(tree[1]).split("_")[0]
    if tree[0] == "fn" and str(tree[1]).startswith("of ") and tree[2][0] in {"sym", "num"}:
        return f"{tree[1]} {tree[2][1]}"
    if tree[0] == "fn" and tree[1] == "abs":  # a distance: `|AB| = 5`
        return name if (name := _name(tree[2])).isupper() else ""
    if tree[0] == "mul":
        parts = [_name(part) for part in tree[1:]]
        labels = [part.split("_")[0].strip("'") for part in parts]
        angled = labels[0] in {r"\angle", r"\triangle"}
        if labels[0] == r"\Delta":
            return "".join(parts)
        return "".join(parts) if all(label.isupper() for label in labels[angled:]) else ""
    return ""


def names_of(items: Sequence[Answer]) -> list[str] | None:
    """The names that a list defines, if all its items define one and the names differ; otherwise None."""
    names = [name_of(item) if isinstance(item, Relation) else "" for item in items]
    return names if all(names) and len(set(names)) == len(names) > 1 else None


def value_of(relation: Relation) -> Answer:
    r"""The value that a named chain ends in; what follows a `\approx` only repeats it."""
    first = 0 if _is_plain(relation.sides[0]) else 1
    if r"\approx" in relation.signs[first:]:
        return relation.sides[relation.signs.index(r"\approx", first)]
    return relation.sides[-1]


def as_intervals(relation: Relation) -> list[Answer]:
    r"""The interval of `a < x \le b`, `x > a`, or the two of `x \ne a`; the relation itself if there is none."""
    sides, signs = list(relation.sides), list(relation.signs)
    if len(sides) == 2 and _is_plain(sides[0]) and not _is_plain(sides[1]):
        sides, signs = sides[::-1], [_FLIPPED.get(signs[0], signs[0])]
    if len(sides) == 2 and _is_plain(sides[1]) and _is_variable(sides[0]):
        return _half_line(relation, signs[0], sides[1])
    if len(sides) == 3 and _is_plain(sides[0]) and _is_plain(sides[2]) and not _is_plain(sides[1]):
        if set(signs) <= _MORE:
            sides, signs = sides[::-1], [_FLIPPED[sign] for sign in signs[::-1]]
        if set(signs) <= _LESS:
            opening, closing = "(["[signs[0] == r"\le"], ")]"[signs[1] == r"\le"]
            return [Group(opening, closing, (sides[0], sides[2]))]
    return [relation]


def punctured(items: Sequence[Answer]) -> list[Answer]:
    r"""The pieces of an interval without some points, `0 < x < 2, x \ne 1`; none of any other list."""
    if len(items) < 2 or not all(isinstance(item, Relation) and len(_letters_of(item)) == 1 for item in items):
        return []
    given = [item for item in items if isinstance(item, Relation)]
    points = [item.sides[1] for item in given if item.signs == (r"\ne",) and _is_variable(item.sides[0])]
    whole = [interval for item in given if r"\ne" not in item.signs for interval in as_intervals(item)] or [REALS]
    one_letter = len(set[str]().union(*map(_letters_of, given))) == 1
    fits = len(whole) == 1 and isinstance(whole[0], Group) and one_letter and points
    return pieces(whole[0], points) if fits and isinstance(whole[0], Group) else []


def pieces(interval: Group, points: Sequence[Answer]) -> list[Answer]:
    """The open intervals that are left of an interval without some points in it; none if they cannot be ordered."""
    trees = [point.tree for point in points if isinstance(point, Quantity) and _is_plain(point)]
    try:
        trees.sort(key=lambda tree: numeric(tree, {}, 30).real)
    except (Undefined, Beyond):
        return []
    if len(trees) < len(points):
        return []
    ends = [interval.items[0], *map(Quantity, trees), interval.items[1]]
    opening, closing = [interval.opening, *"(" * len(trees)], [*")" * len(trees), interval.closing]
    return [Group(*parts[:2], parts[2:]) for parts in zip(opening, closing, ends, ends[1:], strict=False)]


def _is_variable(side: Answer) -> bool:
    return isinstance(side, Quantity) and (side.tree[0] == "sym" or str(side.tree[1]).startswith("of "))


def _half_line(relation: Relation, sign: str, end: Answer) -> list[Answer]:
    low, high = Quantity(("mul", MINUS_ONE, INFINITY)), Quantity(INFINITY)
    if sign in _LESS:
        return [Group("(", "]" if sign == r"\le" else ")", (low, end))]
    if sign in _MORE:
        return [Group("[" if sign == r"\ge" else "(", ")", (end, high))]
    if sign == r"\ne":
        return [Group("(", ")", (low, end)), Group("(", ")", (end, high))]
    return [relation]


def _same_pair(gold: Relation, answer: Relation, same: Same) -> bool:
    intervals = as_intervals(gold), as_intervals(answer)
    if intervals[0] != [gold] and intervals[1] != [answer]:
        return _letters_of(gold) == _letters_of(answer) and same(*(Union(tuple(part)) for part in intervals))
    name = name_of(gold)
    if name and _names(answer, name) and _is_consistent(answer, same):
        if same(value_of(gold), value_of(answer)):
            return True
    elif not name and all(map(_is_plain, (*gold.sides, *answer.sides))):
        return _is_consistent(answer, same) and same(gold.sides[-1], answer.sides[-1])
    return _proportional(gold, answer, same)


def _same_name(gold: str, answer: str) -> bool:
    """Case says nothing, and `y = 2x` may stand for `f(x) = 2x`."""
    names = {gold.lower(), answer.lower()}
    return len(names) == 1 or ("y" in names and any(name.startswith("of ") for name in names))


def _names(answer: Relation, name: str) -> bool:
    """Whether the chain defines that name, be it as `x = 5` or within `n = x = 5`."""
    if not name_of(answer):
        return False
    chains = [replace(answer, sides=answer.sides[at:], signs=answer.signs[at:]) for at in range(len(answer.signs))]
    return any(_same_name(name, name_of(chain)) for chain in chains)


def _letters_of(relation: Relation) -> set[str]:
    return set[str]().union(*(letters(side.tree) for side in relation.sides if isinstance(side, Quantity)))


def _proportional(gold: Relation, answer: Relation, same: Same) -> bool:
    left, right = _difference(gold), _difference(answer)
    if left is None or right is None or left[1] != right[1]:
        return len(gold.sides) > 2 and _same_chain(gold, answer, same)
    try:
        factor = proportion(left[0], right[0])
    except Beyond:
        return left == right
    return factor is not None and (left[1] == "=" or factor > 0)


def _difference(relation: Relation) -> tuple[Tree, str] | None:
    """The tree that is zero, positive or at least zero, and which of the three."""
    if len(relation.sides) != 2:
        return None
    left, right = relation.sides
    if not isinstance(left, Quantity) or not isinstance(right, Quantity):
        return None
    sign = relation.signs[0]
    if sign in _MORE:
        left, right, sign = right, left, _FLIPPED[sign]
    if sign not in {"=", "<", r"\le", r"\ne"}:
        return None
    return ("add", right.tree, ("mul", MINUS_ONE, left.tree), ("num", Fraction(0))), sign


def _same_chain(gold: Relation, answer: Relation, same: Same) -> bool:
    return answer.signs == gold.signs and all(map(same, gold.sides, answer.sides))
