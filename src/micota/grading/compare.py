r"""Whether two answers have the same value, type by type.

The gold decides how strict to be. An interval's brackets must match; a bare list is compared as a multiset, a
set in braces without repeats, a union as its parts in any order; a tuple keeps its order. A
name that is only a label is dropped (`x = 5` is 5, `f(x) = 2x` is `2x`), but a list is never one of its
elements and two equations must be multiples of each other. `Beyond` from below means that the values are too
large to be computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from micota.grading import relations
from micota.grading.answers import Answer, Clock, Group, Matrix, Numeral, Quantity, Ratio, Relation, Text, Union
from micota.grading.quantities import same_quantity, spelling
from micota.grading.values import equal

MOST_ITEMS = 100
"""Longer collections are not compared."""


def same(gold: Answer, answer: Answer) -> bool:
    """Whether `answer` means `gold`. Raises Beyond where that cannot be computed."""
    gold, answer = _unwrapped(gold), _unwrapped(answer)
    if isinstance(gold, Quantity) and isinstance(answer, Quantity):
        return same_quantity(gold, answer)
    if isinstance(gold, Relation) or isinstance(answer, Relation):
        return relations.same_relation(gold, answer, same)
    if isinstance(gold, Union) or isinstance(answer, Union):
        return _matched(_parts(gold), _parts(answer))
    if isinstance(gold, Group) and isinstance(answer, Group):
        return _same_group(gold, answer)
    if isinstance(gold, Matrix) or isinstance(answer, Matrix):
        return _same_matrix(gold, answer)
    if isinstance(gold, Text) + isinstance(answer, Text) and not isinstance(gold, Numeral) | isinstance(
        answer, Numeral
    ):
        return spelling(gold) == spelling(answer) != ""
    return _same_special(gold, answer)


def restates(gold: Answer, answer: Answer) -> bool:
    r"""Whether the answer is a bare list that only repeats the gold: `1\frac{1}{2} \text{ or } 1.5`."""
    if not isinstance(answer, Group) or answer.opening or isinstance(gold, Group):
        return False
    return len(answer.items) <= MOST_ITEMS and all(same(gold, item) for item in answer.items)


def _unwrapped(answer: Answer) -> Answer:
    """A set of one element is that element."""
    while isinstance(answer, Group) and answer.opening == "{" and len(answer.items) == 1:
        answer = answer.items[0]
    return answer


def _same_special(gold: Answer, answer: Answer) -> bool:
    match gold, answer:
        case Numeral(), Numeral():
            return gold == answer
        case (Numeral(digits=digits), Quantity(tree=tree, unit="", percent=False)) | (
            Quantity(tree=tree, unit="", percent=False),
            Numeral(digits=digits),
        ) if tree[0] != "deg":
            return digits.replace(".", "", 1).lstrip("-").isdigit() and equal(tree, ("num", Fraction(digits)))
        case (Numeral(digits=digits), Text(words=words)) | (Text(words=words), Numeral(digits=digits)):
            return digits.lower() == words.lower()
        case Clock(), Clock():
            return gold == answer
        case (Clock() as clock, Ratio(parts=others)) | (Ratio(parts=others), Clock() as clock):
            return (*others, 0, 0)[:3] == _in_day(clock)
        case Ratio(parts=left), Ratio(parts=right):
            return left == right
        case (Ratio(parts=(top, bottom)), Quantity() as value) | (Quantity() as value, Ratio(parts=(top, bottom))):
            return bool(bottom) and same_quantity(Quantity(("num", top / bottom)), value)
    return False


def _in_day(clock: Clock) -> tuple[int, ...]:
    return (clock.parts[0] % 12 + 12 * (clock.half == "p"), *clock.parts[1:])


def _parts(answer: Answer) -> list[Answer]:
    """The parts of a union; a bare list of intervals counts as their union."""
    if isinstance(answer, Union):
        return [inner for part in answer.parts for inner in _parts(part)]
    if isinstance(answer, Group) and answer.opening == "":
        return [inner for item in answer.items for inner in _parts(item)]
    return [answer]


def _same_group(gold: Group, answer: Group) -> bool:
    if _is_ordered(gold) and _is_ordered(answer):
        return _same_tuple(gold, answer)
    if _is_ordered(gold) or _is_ordered(answer):
        pair, other = (gold, answer) if _is_ordered(gold) else (answer, gold)
        one_name = relations.names_of(other.items) is None and any(isinstance(i, Relation) for i in other.items)
        plain = (pair.opening, pair.closing, other.opening) == ("(", ")", "") and not one_name
        if pair is answer and len(pair.items) == 2 and relations.names_of(gold.items) is None:
            return False  # two values are no point and no interval
        return plain and _in_order(gold, answer)
    left, right = gold.items, answer.items
    if "{" in (gold.opening, answer.opening) and max(len(left), len(right)) <= MOST_ITEMS:
        left, right = _distinct(left), _distinct(right)
    return _matched(left, right)


def _is_ordered(group: Group) -> bool:
    return group.opening in {"(", "["}


def _same_tuple(gold: Group, answer: Group) -> bool:
    brackets = (gold.opening, gold.closing) == (answer.opening, answer.closing)
    return (brackets or len(gold.items) != 2) and _in_order(gold, answer)


def _in_order(gold: Group, answer: Group) -> bool:
    if len(gold.items) != len(answer.items) or len(gold.items) > MOST_ITEMS:
        return False
    return any(
        all(map(same, _values(left), _values(right))) for left in _orders(gold.items) for right in _orders(answer.items)
    )


def _orders(items: Sequence[Answer]) -> list[Sequence[Answer]]:
    """The order as written and, where the items define names, that of the names (for x, y, z only that)."""
    names = relations.names_of(items)
    if names is None:
        return [items]
    by_name = [item for _, item in sorted(zip(names, items, strict=True), key=lambda pair: pair[0])]
    return [by_name] if set(names) <= set("xyz") else [items, by_name]


def _values(items: Sequence[Answer]) -> list[Answer]:
    return [relations.value_of(item) if isinstance(item, Relation) else item for item in items]


def _distinct(items: Sequence[Answer]) -> tuple[Answer, ...]:
    distinct: list[Answer] = []
    for item in items:
        if not any(same(other, item) for other in distinct):
            distinct.append(item)
    return tuple(distinct)


def _matched(left: Sequence[Answer], right: Sequence[Answer]) -> bool:
    """Whether the two are one multiset. Meaning the same is transitive, so the first match will do."""
    if len(left) != len(right) or len(left) > MOST_ITEMS:
        return False
    remaining = list(right)
    for item in left:
        at = next((at for at, other in enumerate(remaining) if same(item, other)), None)
        if at is None:
            return False
        del remaining[at]
    return True


def _same_matrix(gold: Answer, answer: Answer) -> bool:
    if isinstance(gold, Matrix) and isinstance(answer, Matrix):
        return [len(row) for row in gold.rows] == [len(row) for row in answer.rows] and all(
            same(a, b)
            for left, right in zip(gold.rows, answer.rows, strict=True)
            for a, b in zip(left, right, strict=True)
        )
    vector, other = (gold, answer) if isinstance(gold, Matrix) else (answer, gold)
    if isinstance(other, Group) and all(isinstance(row, Group) and row.opening == "[" for row in other.items):
        return _same_matrix(vector, Matrix(tuple(row.items for row in other.items if isinstance(row, Group))))
    assert isinstance(vector, Matrix)
    closed = isinstance(other, Group) and other.opening + other.closing in {"()", "[]"}
    if not isinstance(other, Group) or not closed or 1 not in {len(vector.rows), len(vector.rows[0])}:
        return False
    flat = [cell for row in vector.rows for cell in row]
    return len(flat) == len(other.items) and all(map(same, flat, other.items))
