"""Values of trees: exact rational numbers, or a stated number of digits at a point that gives each letter a number.

Every operation has a bound on the size of its operands; what would grow beyond it raises `Beyond` instead of
running, so a tower of powers costs no more than a sum. Each thread computes in a context of its own.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from math import factorial, gcd, lcm
from typing import Any, Final

from micota.grading.trees import Beyond, Tree, Undefined

EXACT_BITS: Final = 40_000
"""Integers longer than this are not built."""
LARGEST: Final = 1_000_000
"""Bits of magnitude beyond which a value is not computed, and the largest argument of a factorial."""
_WIDEST_ANGLE: Final = 200
"""Bits of magnitude of the argument of a periodic function."""
_TRIG: Final = frozenset({"sin", "cos", "tan", "cot", "sec", "csc"})
_COMPUTED: Final = {
    **{name: name for name in ("sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "ln")},
    **{"arc" + name: "a" + name for name in _TRIG},
    "log": "ln",
}
_OF_SEVERAL: Final[dict[str, Callable[[Iterable[Any]], Any]]] = {
    "max": max, "min": min, "gcd": lambda parts: gcd(*parts), "lcm": lambda parts: lcm(*parts),
}  # fmt: skip
_MOST_CONTEXTS: Final = 8
_CONTEXTS = threading.local()


def numeric(tree: Tree, point: Mapping[str, Fraction], digits: int) -> Any:
    """The real or complex value at a point, to `digits` digits. Raises Undefined or Beyond."""
    mp = _context(digits)
    value = _Evaluation(mp, point).value(tree, angle=False)
    if mp.isnan(value):
        raise Undefined("no value")
    return value


def noise(name: str, turn: int) -> int:
    """A fixed whole number that depends on a name and a turn alone."""
    return zlib.crc32(f"{name}|{turn}".encode("utf-8", "replace"))


def _context(digits: int) -> Any:
    """This thread's context of that precision; making one takes a moment, so the usual ones are contexts."""
    contexts: dict[int, Any] = _CONTEXTS.__dict__.setdefault("contexts", {})
    if digits not in contexts:
        from mpmath.ctx_mp import MPContext  # type: ignore[import-untyped,unused-ignore]

        if len(contexts) >= _MOST_CONTEXTS:
            contexts.clear()
        contexts[digits] = MPContext()
        contexts[digits].dps = digits
    return contexts[digits]


class _Evaluation:
    """One value being computed; `angle` says that degrees count as such."""

    def __init__(self, mp: Any, point: Mapping[str, Fraction]) -> None:
        self.mp, self.point = mp, point

    def value(self, tree: Tree, angle: bool) -> Any:
        kind = tree[0]
        if kind == "num":
            return self.ratio(tree[1])
        if kind == "sym":
            return self.ratio(self.point[tree[1]])
        if kind == "const":
            return self.constant(tree[1])
        if kind == "deg":
            return self.value(tree[1], False) * (self.mp.pi / 180 if angle else 1)
        if kind == "fn":
            inner = angle or tree[1] in _TRIG
            return self.function(tree[1], [self.value(part, inner) for part in tree[2:]])
        return self.operation(kind, [self.value(part, angle) for part in tree[1:]])

    def ratio(self, value: Fraction) -> Any:
        return self.mp.mpf(value.numerator) / value.denominator

    def constant(self, name: str) -> Any:
        if name == "infinity":
            raise Beyond("infinity inside an expression")
        return {"pi": +self.mp.pi, "e": +self.mp.e, "i": self.mp.mpc(0, 1)}[name]

    def operation(self, kind: str, parts: Sequence[Any]) -> Any:
        first = parts[0]
        for part in parts[1:]:
            if kind == "add":
                first = first + part
            elif kind == "mul":
                first = first * part
            elif kind == "div":
                if part == 0:
                    raise Undefined("division by zero")
                first = first / part
            else:
                first = self.power(first, part)
        return first

    def power(self, base: Any, power: Any) -> Any:
        if base == 0:
            if self.mp.re(power) <= 0:
                raise Undefined("a power of zero")
            return base
        if abs(power) * (abs(self.mp.mag(base)) + 2) > LARGEST:
            raise Beyond("a power too large to compute")
        return self.mp.power(base, power)

    def function(self, name: str, parts: Sequence[Any]) -> Any:
        first = parts[0]
        if name.startswith("of "):
            return self.unknown(name, first)
        if name in {"factorial", "binomial"}:
            return self.count(name, parts)
        if name in {"floor", "ceiling"}:
            return self.step(name, first)
        if name in _OF_SEVERAL:
            return self.several(name, parts)
        if name == "abs":
            return abs(first)
        if name == "exp":
            return self.power(+self.mp.e, first)
        if name in {"ln", "log"} and first == 0:
            raise Undefined("the logarithm of zero")
        if name not in _COMPUTED:
            raise Beyond(f"a function that is not computed: {name}")
        if name not in {"ln", "log"}:
            self.refuse_wide(first)
        return getattr(self.mp, _COMPUTED[name])(first)

    def refuse_wide(self, argument: Any) -> None:
        if argument != 0 and self.mp.mag(argument) > _WIDEST_ANGLE:
            raise Beyond("an argument too large to compute")

    def unknown(self, name: str, argument: Any) -> Any:
        """A function nobody knows, such as `f` in `f(4 - x)`: a fixed scrambling of its argument."""
        self.refuse_wide(argument)
        wave = self.mp.sin(argument * (1 + noise(name, 0) % 1000) / 700)
        return wave + argument**2 / (3 + noise(name, 1) % 90)

    def count(self, name: str, parts: Sequence[Any]) -> Any:
        if any(self.mp.im(part) or abs(part) > LARGEST for part in parts):
            raise Beyond("a factorial too large to compute")
        if any(self.mp.re(part) < 0 for part in parts):
            raise Undefined("a factorial of a negative number")
        return self.mp.factorial(parts[0]) if name == "factorial" else self.mp.binomial(*parts)

    def several(self, name: str, parts: Sequence[Any]) -> Any:
        """The largest or smallest; of whole numbers also their greatest common divisor and least common multiple."""
        if any(self.mp.im(part) for part in parts):
            raise Undefined("complex numbers have no order")
        if name in {"max", "min"}:
            return _OF_SEVERAL[name](self.mp.re(part) for part in parts)
        if not all(self.mp.isint(part) and abs(part) < 10**15 for part in parts):
            raise Undefined("a divisor of numbers that are not whole")
        return self.mp.mpf(_OF_SEVERAL[name](int(part) for part in parts))

    def step(self, name: str, value: Any) -> Any:
        """Floor or ceiling; a value within the noise of a whole number counts as that number."""
        if self.mp.im(value):
            raise Beyond("the floor of a complex number")
        self.refuse_wide(value)
        value = self.mp.re(value)
        nearest = self.mp.nint(value)
        if abs(value - nearest) < self.mp.mpf(10) ** (-self.mp.dps // 2):
            return nearest
        return self.mp.floor(value) if name == "floor" else self.mp.ceil(value)


class Inexact(Exception):
    """The value is not a rational number that exact arithmetic reaches."""


def exact(tree: Tree) -> Fraction:
    """The rational value. Raises Inexact where there is none to be had exactly."""
    kind = tree[0]
    if kind == "num":
        return Fraction(tree[1])
    if kind in {"add", "mul", "div", "pow"}:
        return _exact_operation(kind, [exact(part) for part in tree[1:]])
    if kind == "deg":
        return exact(tree[1])
    if kind == "fn" and tree[1] == "factorial":
        return _exact_factorial(exact(tree[2]))
    raise Inexact(kind)


def _exact_operation(kind: str, parts: list[Fraction]) -> Fraction:
    if kind == "add":
        return sum(parts, Fraction(0))
    first, *rest = parts
    for part in rest:
        if kind == "mul":
            first = _sized(first * part)
        elif kind == "div":
            if not part:
                raise Undefined("division by zero")
            first = _sized(first / part)
        else:
            first = _exact_power(first, part)
    return first


def _bits(value: Fraction) -> int:
    return max(value.numerator.bit_length(), value.denominator.bit_length())


def _sized(value: Fraction) -> Fraction:
    if _bits(value) > EXACT_BITS:
        raise Inexact("too many digits")
    return value


def _exact_power(base: Fraction, power: Fraction) -> Fraction:
    if power.denominator != 1:
        raise Inexact("a root")
    if not base and power < 0:
        raise Undefined("division by zero")
    if abs(power) * _bits(base) > EXACT_BITS:
        raise Inexact("too many digits")
    return base ** int(power)


def _exact_factorial(value: Fraction) -> Fraction:
    if value.denominator != 1 or not 0 <= value <= 2500:
        raise Inexact("factorial")
    return Fraction(factorial(int(value)))
