"""Whether two expressions have the same value, decided by computing both.

Rational numbers are computed exactly. Everything else is computed to 50 digits, and once more to 120 when the
first look says equal; an expression with letters is computed at several points, so that an identity is
accepted in whatever form it is written and a difference shows at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final

from micota.grading.numeric import Inexact, exact, noise, numeric
from micota.grading.trees import Beyond, Tree, Undefined, constants, functions, letters

_TOO_CLOSE_TO_CALL: Final = 1e100
"""Numbers beyond this that agree in all computed digits may still differ in the others."""
_DIGITS: Final = (50, 120)
_WHOLE_ONLY: Final = frozenset({"factorial", "binomial", "floor", "ceiling", "gcd", "lcm"})


def equal(left: Tree, right: Tree) -> bool:
    """Whether two trees have the same value for all values of their letters."""
    if left == right:
        return True
    if "infinity" in constants(left) | constants(right):
        return False
    try:
        return exact(left) == exact(right)
    except Inexact:
        return _identical(left, right)
    except Undefined:
        return False


def proportion(left: Tree, right: Tree) -> float | None:
    """The constant c with left = c * right everywhere, if there is one that is not zero."""
    names = letters(left) | letters(right)
    if not names or letters(left) != letters(right):
        return None
    ratios = []
    for point in points(left, right):
        try:
            a, b = numeric(left, point, _DIGITS[0]), numeric(right, point, _DIGITS[0])
        except (Undefined, ZeroDivisionError):
            continue
        if abs(b) < 1e-30 or abs(a) < 1e-30:
            return None
        ratios.append(a / b)
    if len(ratios) < 2 or not all(_close(ratio, ratios[0], _DIGITS[0]) for ratio in ratios):
        return None
    return float(ratios[0].real) if _is_real(ratios[0]) else None


def _identical(left: Tree, right: Tree) -> bool:
    """Equal at every point that says something, and at least one does."""
    outcomes = [answer for point in points(left, right) if (answer := _same_at(left, right, point)) is not None]
    return bool(outcomes) and all(outcomes)


def points(*trees: Tree) -> Iterator[dict[str, Fraction]]:
    """Where trees are compared: fixed points that depend on the letters' names alone.

    Fractions of both signs; whole positive numbers where a factorial, a binomial or a floor asks for them.
    """
    names = sorted(set[str]().union(*map(letters, trees)))
    if not names:
        yield {}
        return
    if set[str]().union(*map(functions, trees)) & _WHOLE_ONLY:
        for turn in range(9):
            yield {name: Fraction(3 + turn + noise(name, turn) % 7) for name in names}
        return
    for turn in range(5):
        yield {name: _fraction(name, turn) for name in names}


def _fraction(name: str, turn: int) -> Fraction:
    """Positive in the first two turns, of mixed sign afterwards; below 1 and above it by turns."""
    number = noise(name, turn)
    low, width = ((400_003, 550_000), (1_050_007, 1_800_000))[turn % 2]
    size = Fraction(low + number % width, 1_000_003)
    return -size if turn == 2 or (turn > 2 and number % 3 == 0) else size


def _same_at(left: Tree, right: Tree, point: Mapping[str, Fraction]) -> bool | None:
    """Whether the values agree at a point; None where a root or a pole makes the point say nothing."""
    signed = any(value < 0 for value in point.values())
    sizes = []
    for digits in _DIGITS:
        try:
            a, b = numeric(left, point, digits), numeric(right, point, digits)
        except (Undefined, ZeroDivisionError):
            return None
        if signed and not (_is_real(a) and _is_real(b)):
            return None
        sizes.append(max(abs(a), abs(b)))
        if not _close(a, b, digits) and sizes[-1] > 1e-35:
            return False
    if not point and sizes[1] > _TOO_CLOSE_TO_CALL:
        raise Beyond("two numbers too large to be told apart")
    return _close(a, b, _DIGITS[-1]) or bool(sizes[1] < sizes[0] * 1e-40)


def _is_real(value: Any) -> bool:
    return bool(abs(value.imag) <= 1e-30 * (1 + abs(value)))


def _close(a: Any, b: Any, digits: int) -> bool:
    """Equal to all but the last ten digits. Noise about zero is never close, but shrinks with precision."""
    return bool(abs(a - b) <= 10.0 ** (10 - digits) * max(abs(a), abs(b)))
