r"""From tokens to an expression tree: sums, products, powers, roots, functions, in LaTeX or plain text.

Nothing is computed here but the value of a written number, and nothing is ever evaluated as code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from micota.grading.cursor import Cursor
from micota.grading.tokens import Token, Unreadable, tokenise
from micota.grading.trees import MINUS_ONE, Tree
from micota.grading.vocabulary import LETTERS, NAMED

_FUNCTIONS: Final = {name for name in NAMED.values() if name not in {r"\sqrt", r"\pi", r"\infty", r"\theta"}}
_OF_SEVERAL: Final = frozenset({r"\gcd", r"\lcm", r"\max", r"\min"})
_CLOSING: Final = {"(": ")", "[": "]", "{": "}", r"\lfloor": r"\rfloor", r"\lceil": r"\rceil"}
_CONSTANTS: Final = {r"\pi": "pi", r"\infty": "infinity", "e": "e", "i": "i"}
_STARTING: Final = {
    *_FUNCTIONS, *LETTERS, *_OF_SEVERAL, *_CONSTANTS, r"\frac", r"\sqrt", r"\binom", r"\lfloor", r"\lceil", r"\abs",
}  # fmt: skip
_INVERSE: Final[Tree] = ("mul", MINUS_ONE, ("num", Fraction(1)))
_APPLIED: Final = frozenset("fghFGPQRpq")


def expression(tokens: Sequence[Token]) -> Tree:
    """The tree of all tokens. Raises Unreadable if they are not one expression."""
    reader = _Reader(tokens)
    tree = reader.sum()
    if reader.at < len(tokens):
        raise Unreadable(f"unexpected {tokens[reader.at].text!r}")
    return tree


class _Reader(Cursor):
    open_bars = 0

    def sum(self) -> Tree:
        parts = [self.product()]
        while sign := self.accept("+", "-"):
            part = self.product()
            parts.append(part if sign == "+" else ("mul", MINUS_ONE, part))
        tree = parts[0] if len(parts) == 1 else ("add", *parts)
        if self.accept(r"\over"):
            return ("div", tree, self.sum())
        return ("fn", "binomial", tree, self.sum()) if self.accept(r"\choose") else tree

    def product(self) -> Tree:
        sign = 1
        while minus := self.accept("+", "-"):
            sign = -sign if minus == "-" else sign
        tree = self.factor()
        while True:
            if self.accept("*"):
                tree = ("mul", tree, self.signed_factor())
            elif self.accept("/"):
                tree = ("div", tree, self.signed_factor())
            elif self.starts_factor():
                tree = ("mul", tree, self.factor())
            else:
                return tree if sign > 0 else ("mul", MINUS_ONE, tree)

    def signed_factor(self) -> Tree:
        sign = self.accept("+", "-")
        factor = self.factor()
        return ("mul", MINUS_ONE, factor) if sign == "-" else factor

    def starts_factor(self) -> bool:
        kind, text = self.peek()
        before = [token.text for token in self.tokens[max(self.at - 2, 0) : self.at]]
        if kind == "num" and before and before[-1].isdigit() and before[0] != "^":
            raise Unreadable("two numbers side by side")
        if kind in {"num", "sym"}:
            return True
        if kind == "op":
            return text in {"(", "[", "{"} or (text == "|" and self.open_bars == 0)
        return kind == "cmd" and text in _STARTING

    def factor(self) -> Tree:
        base = self.atom()
        while True:
            if self.accept("^"):
                base = self.power(base)
            elif self.accept("!"):
                base = ("fn", "factorial", base)
            elif self.accept("°"):
                base = ("deg", base)
            elif self.peek().kind == "sub":
                base = self.with_subscript(base)
            elif self.peek().text == "'" and base[0] == "sym":
                base = self.power(base)
            else:
                return base

    def power(self, base: Tree) -> Tree:
        braced = self.peek().text == "{" and self.peek(2).text == "}"
        mark = self.peek(braced).text
        if mark not in {r"\circ", "°", "'"}:
            return ("pow", base, self.exponent())
        self.at += 3 if braced else 1
        if mark != "'":
            return ("deg", base)
        if base[0] != "sym":
            raise Unreadable("a prime behind something that is not a letter")
        return ("sym", base[1] + "'")

    def exponent(self) -> Tree:
        self.deeper()
        sign = self.accept("-", "+")
        tree = self.group() if self.peek().text == "{" else self.plain_atom()
        if self.accept("^"):
            tree = ("pow", tree, self.exponent())
        self.depth -= 1
        return ("mul", MINUS_ONE, tree) if sign == "-" else tree

    def with_subscript(self, base: Tree) -> Tree:
        if base[0] == "pow" and base[1][0] == "sym":
            return ("pow", self.with_subscript(base[1]), base[2])
        if base[0] != "sym":
            raise Unreadable("a subscript of something that is not a letter")
        name = re.sub(r"\\(?:text|mathrm|mathit|rm|operatorname)(?![a-z])|[\\{}\s]", "", self.take().text)
        return ("sym", f"{base[1]}_{name}")

    def atom(self) -> Tree:
        self.deeper()
        tree = self.bare_atom()
        self.depth -= 1
        return tree

    def bare_atom(self) -> Tree:
        kind, text = self.take()
        if kind == "num":
            return self.number(text)
        if kind == "sym":
            return self.letter(text)
        if kind == "op" and text in _CLOSING:
            return self.inside(text)
        if kind == "op" and text == "|":
            return self.absolute()
        if kind == "cmd":
            return self.command(text)
        raise Unreadable(f"unexpected {text!r}")

    def number(self, text: str) -> Tree:
        digits = self.repeating()
        value = Fraction(text + digits) if not digits else _repeated(text, digits)
        ahead = self.peek()
        if ahead.kind == "cmd" and ahead.text == r"\frac" and text.isdigit() and not digits:
            return self.mixed(value)
        if ahead.kind == "num" and self.peek(1).text == "/" and self.peek(2).kind == "num" and text.isdigit():
            top, _, bottom = (Fraction(self.take().text.replace("/", "0")) for _ in range(3))
            if not bottom:
                raise Unreadable("a zero denominator")
            return ("num", value + top / bottom)
        return ("num", value)

    def repeating(self) -> str:
        r"""The digits under the bar of `0.\overline{3}`; the point was read as a sign of its own."""
        dotted = self.peek().text == "."
        ahead = self.peek(1) if dotted else self.peek()
        if ahead.text not in {r"\overline", r"\bar"} or not (dotted or "." in self.tokens[self.at - 1].text):
            return ""
        self.at += 2 if dotted else 1
        digits = "".join(token.text for token in self.braced())
        if not digits.isdecimal():
            raise Unreadable("a bar over something that is not digits")
        return digits

    def mixed(self, whole: Fraction) -> Tree:
        r"""`1\frac{2}{3}` is a mixed number when both parts are plain integers, otherwise a product."""
        start = self.at
        self.take()
        part = self.fraction()
        if part[1][0] == part[2][0] == "num" and 0 < part[1][1] < part[2][1]:
            return ("num", whole + part[1][1] / part[2][1])
        self.at = start
        return ("num", whole)

    def letter(self, text: str) -> Tree:
        if text in _CONSTANTS:
            return ("const", _CONSTANTS[text])
        if text in _APPLIED and self.peek().text == "(":
            self.take()
            return ("fn", "of " + text, self.inside("("))
        return ("sym", text)

    def inside(self, opening: str) -> Tree:
        bars, self.open_bars = self.open_bars, 0
        tree = self.sum()
        self.open_bars = bars
        if not self.accept(_CLOSING[opening]):
            raise Unreadable(f"{opening!r} does not close")
        return tree

    def absolute(self) -> Tree:
        if self.open_bars:
            raise Unreadable("bars inside bars")
        self.open_bars = 1
        tree = self.sum()
        self.open_bars = 0
        if not self.accept("|"):
            raise Unreadable("a bar does not close")
        return ("fn", "abs", tree)

    def command(self, name: str) -> Tree:
        if name == r"\frac":
            return self.fraction()
        if name == r"\sqrt":
            return self.root()
        if name == r"\binom":
            return ("fn", "binomial", self.argument(), self.argument())
        if name in {r"\lfloor", r"\lceil"}:
            return ("fn", "floor" if name == r"\lfloor" else "ceiling", self.inside(name))
        if name in _CONSTANTS:
            return ("const", _CONSTANTS[name])
        if name in _FUNCTIONS:
            return self.function(name)
        if name in LETTERS:
            return ("sym", name)
        if name in {r"\abs", r"\floor", r"\ceil"}:
            return ("fn", {"ceil": "ceiling"}.get(name[1:], name[1:]), self.atom())
        if name in _OF_SEVERAL:
            return ("fn", name[1:], *self.several())
        raise Unreadable(f"unknown command {name}")

    def group(self) -> Tree:
        self.take()
        return self.inside("{")

    def argument(self) -> Tree:
        r"""A braced group or, as TeX reads `\frac12`, the next digit or letter."""
        if self.peek().text == "{":
            return self.group()
        self.split_number()
        return self.plain_atom()

    def plain_atom(self) -> Tree:
        kind, text = self.peek()
        if kind == "num":
            self.take()
            return ("num", Fraction(text))
        return ("mul", MINUS_ONE, self.atom()) if self.accept("-") else self.atom()

    def fraction(self) -> Tree:
        return ("div", self.argument(), self.argument())

    def root(self) -> Tree:
        degree: Tree = self.inside("[") if self.accept("[") else ("num", Fraction(2))
        inner = self.plain_atom() if self.peek().kind == "num" else self.argument()
        return ("pow", inner, ("div", ("num", Fraction(1)), degree))

    def function(self, name: str) -> Tree:
        base = expression(tokenise(self.take().text)) if self.peek().kind == "sub" else None
        power = self.exponent() if self.accept("^") else None
        if power == _INVERSE and ("\\arc" + name[1:]) in _FUNCTIONS:
            name, power = "\\arc" + name[1:], None
        bracketed = self.peek().text == "("
        tree = self.applied(name[1:], base)
        if bracketed and self.accept("^"):  # `\sin(x)^2` is the square of the sine
            tree = ("pow", tree, self.exponent())
        return tree if power is None else ("pow", tree, power)

    def several(self) -> list[Tree]:
        r"""The arguments of `\gcd(12, 18)`."""
        parts, opened = list[Tree](), self.accept("(", "{{")
        while not parts or self.peek() == Token("sep", ","):
            self.at += bool(parts)
            parts.append(self.sum())
        if not (opened and self.accept(")", "}}")):
            raise Unreadable("a function of several arguments without its brackets")
        return parts

    def applied(self, name: str, base: Tree | None) -> Tree:
        argument = self.function_argument()
        if name == "lg":
            name, base = "log", ("num", Fraction(10))
        if base is not None:
            return ("div", ("fn", "ln", argument), ("fn", "ln", base))
        return ("fn", name, argument)

    def function_argument(self) -> Tree:
        """`(x)` alone, or the run of factors up to the next function: `sin 3x cos x` is `sin(3x) cos(x)`."""
        if self.peek().text == "(":
            return self.atom()
        sign = self.accept("-")
        tree = self.factor()
        while self.starts_factor() and self.peek().text not in _FUNCTIONS and self.peek().text != "(":
            tree = ("mul", tree, self.factor())
        return ("mul", MINUS_ONE, tree) if sign else tree


def _repeated(text: str, digits: str) -> Fraction:
    whole, _, fixed = text.partition(".")
    shift: int = 10 ** len(fixed)
    tail = Fraction(int(digits), 10 ** len(digits) - 1) / shift
    return Fraction(int(whole or "0")) + Fraction(int(fixed or "0"), shift) + tail
