r"""Sets of real numbers: unions, intersections and differences of intervals and of single points.

The ends of all parts, in rising order, cut the line into cells: gaps (even numbers) and the ends themselves
(odd numbers). A set is the cells that it covers, so that the algebra of sets is that of Python.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from micota.grading.answers import Answer, Group, Quantity, Union
from micota.grading.trees import INFINITY, MINUS_ONE, Beyond, Tree, Undefined, letters
from micota.grading.values import equal, ordered

MOST_SPANS: Final = 20
"""Sets of more parts are not computed."""
_LOWEST: Final[Tree] = ("mul", MINUS_ONE, INFINITY)
_NOTHING: Final = Group("{", "}", ())


class NotReal(Exception):
    """No set of real numbers with ends that can be put in order."""


class _Span(NamedTuple):
    low: Tree
    high: Tree
    has_low: bool
    has_high: bool


def same_set(left: Sequence[Answer], right: Sequence[Answer]) -> bool:
    """Whether two unions cover the same real numbers, however they are cut into parts."""
    try:
        ours, theirs = _cells([Union(tuple(left)), Union(tuple(right))])[0]
    except NotReal:
        return False
    return ours == theirs


def intersection(parts: Sequence[Answer]) -> Answer:
    """What all parts have in common. Raises NotReal."""
    covered, ends = _cells(parts)
    return _written(frozenset.intersection(*covered), ends)


def difference(whole: Answer, removed: Answer) -> Answer:
    """The first set without the second. Raises NotReal."""
    (ours, theirs), ends = _cells([whole, removed])
    return _written(ours - theirs, ends)


def covers_all(parts: Sequence[Answer]) -> bool:
    """Whether the parts together are the whole line."""
    try:
        (covered,), ends = _cells([Union(tuple(parts))])
    except NotReal:
        return False
    return len(covered) == 2 * len(ends) + 1


def _cells(sets: Sequence[Answer]) -> tuple[list[frozenset[int]], list[Tree]]:
    spans = [list(_spans(part)) for part in sets]
    if sum(map(len, spans)) > MOST_SPANS:
        raise NotReal
    try:
        ends = ordered([end for part in spans for span in part for end in span[:2] if not _is_endless(end)])
        return [frozenset(cell for span in part for cell in _range(span, ends)) for part in spans], ends
    except (Beyond, Undefined, ZeroDivisionError):
        raise NotReal from None


def _spans(answer: Answer) -> Iterable[_Span]:
    match answer:
        case Union(parts=parts):
            return [span for part in parts for span in _spans(part)]
        case Quantity(tree=tree, unit="", percent=False) if not _is_endless(tree):
            return [_Span(tree, tree, True, True)]
        case Group(opening="{", items=items) if all(isinstance(item, Quantity) for item in items):
            return [span for item in items for span in _spans(item)]
        case Group(opening="(" | "[" as opening, closing=closing, items=(Quantity(tree=low), Quantity(tree=high))):
            return [_Span(low, high, opening == "[", closing == "]")]
    raise NotReal


def _range(span: _Span, ends: Sequence[Tree]) -> range:
    low = -1 if span.low == _LOWEST else _place(span.low, ends)
    high = 2 * len(ends) + 1 if span.high == INFINITY else _place(span.high, ends)
    first = low if span.has_low else low + 1
    last = high if span.has_high else high - 1
    if first > last or min(low, high) < -1 or first < 0 or last > 2 * len(ends):
        raise NotReal
    return range(first, last + 1)


def _place(end: Tree, ends: Sequence[Tree]) -> int:
    if _is_endless(end) or letters(end):
        raise NotReal
    return next(2 * at + 1 for at, other in enumerate(ends) if equal(end, other))


def _is_endless(tree: Tree) -> bool:
    return tree in (INFINITY, _LOWEST)


def _written(covered: frozenset[int], ends: Sequence[Tree]) -> Answer:
    """The set as intervals and points, each as long as it can be."""
    starts = sorted(cell for cell in covered if cell - 1 not in covered)
    stops = sorted(cell for cell in covered if cell + 1 not in covered)
    parts = [_part(first, last, ends) for first, last in zip(starts, stops, strict=True)]
    return _NOTHING if not parts else parts[0] if len(parts) == 1 else Union(tuple(parts))


def _part(first: int, last: int, ends: Sequence[Tree]) -> Answer:
    bounds = [_LOWEST, *ends, INFINITY]
    low, high = Quantity(bounds[(first + 1) // 2]), Quantity(bounds[last // 2 + 1])
    if first == last and first % 2:
        return Group("{", "}", (low,))
    return Group("[" if first % 2 else "(", "]" if last % 2 else ")", (low, high))
