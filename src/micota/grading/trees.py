"""Expression trees: nested tuples `(operation, argument, ...)`, and questions about them.

The leaves are `("num", Fraction)`, `("sym", name)` and `("const", name)`; the operations `add`, `mul`, `div`,
`pow`, `deg` (a degree sign) and `fn` with the function's name first.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

Tree = tuple[Any, ...]
MINUS_ONE: Final[Tree] = ("num", Fraction(-1))
INFINITY: Final[Tree] = ("const", "infinity")


class Beyond(Exception):
    """The answer is well-formed, but too large to be computed."""


class Undefined(Exception):
    """There is no value: a division by zero, the logarithm of zero."""


def letters(tree: Tree) -> set[str]:
    """The names of the variables in a tree."""
    if tree[0] == "sym":
        return {tree[1]}
    return set[str]().union(*(letters(part) for part in tree[1:] if isinstance(part, tuple)))


def constants(tree: Tree) -> set[str]:
    """The named constants in a tree: pi, e, i, infinity."""
    if tree[0] == "const":
        return {tree[1]}
    return set[str]().union(*(constants(part) for part in tree[1:] if isinstance(part, tuple)))


def functions(tree: Tree) -> set[str]:
    """The names of the functions applied in a tree."""
    own = {tree[1]} if tree[0] == "fn" else set[str]()
    return own.union(*(functions(part) for part in tree[1:] if isinstance(part, tuple)))


def has_degrees(tree: Tree) -> bool:
    """Whether a degree sign stands in the tree."""
    return tree[0] == "deg" or any(isinstance(part, tuple) and has_degrees(part) for part in tree[1:])


def in_radians(tree: Tree) -> Tree:
    """The tree with every degree sign multiplied out."""
    if tree[0] == "deg":
        return ("mul", in_radians(tree[1]), ("div", ("const", "pi"), ("num", Fraction(180))))
    return tuple(in_radians(part) if isinstance(part, tuple) else part for part in tree)


def common_logarithms(tree: Tree) -> Tree:
    """The tree with every `log` of no stated base to base 10."""
    parts = tuple(common_logarithms(part) if isinstance(part, tuple) else part for part in tree)
    return ("div", parts, ("fn", "ln", ("num", Fraction(10)))) if parts[:2] == ("fn", "log") else parts


def renamed(tree: Tree, old: str, new: str) -> Tree:
    """The tree with one letter replaced by another."""
    if tree == ("sym", old):
        return ("sym", new)
    return tuple(renamed(part, old, new) if isinstance(part, tuple) else part for part in tree)
