r"""From a written answer to tokens: numbers, letters, commands, words, units, separators.

Layout is dropped here (`\left`, `\,`, `$`, `\displaystyle`), other alphabets of the same sign are made one
(`−`, `×`, `π`, `½`), and thousands are joined where they are marked (`1{,}000`, `1,\!000`). A plain comma
between groups of three digits may be either a thousands mark or a separator: the caller says which reading
it wants. Every step is linear in the text, and texts beyond `LONGEST` characters are refused.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from micota.grading.units import is_unit
from micota.grading.vocabulary import LAYOUT, NAMED, SHORT_NOUNS, SIGNS, SPELLINGS, TEXT, TRANSPARENT

LONGEST: Final = 2000
"""Characters of an answer that are read; beyond this only identical strings are equal."""


class Unreadable(Exception):
    """The text is not in the grammar of answers."""


class Token(NamedTuple):
    """`kind` is one of num, sym, cmd, op, word, unit, sep, sub."""

    kind: str
    text: str


_SCAN = re.compile(r"\s+|\\[a-zA-Z]+|\\.|\d+\.\d+|\d+|\.\d+|[A-Za-z]+|.", re.S | re.A)
_MARKED = re.compile(r"(?<![\d.])(\d{1,3})((?:(?:\{,\}|,\s*\\!\s*|\\[, ]|\{\\,\})\d{3})+)(?!\d)", re.A)
_SPACED = re.compile(r"\s*([-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?)\s*", re.A)
_MATHS = re.compile(r"\\[a-zA-Z]|[\^=+_<>]|\d[a-z]\b")
_PLAIN = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", re.A)
# Other notations, each one regular expression that is linear in the text.
_REPEATS = re.compile(r"(?<!\d)(\d*\.\d*?)(\d)\2\2+\s*(?:\.\.\.|\\(?:ldots|dots|cdots))", re.A)
_INDEX: Final = r"(?:\{\s*(\w{1,6})\s*\}|(\w))"
_LETTER_C: Final = r"\s*(?:C|\{C\}|\\(?:text|mathrm|mathbf|operatorname)\s*\{C\})\s*"
_LEFT = re.compile(rf"(?:\{{\}}|(?<![\w{{}})\]\\]))\s*[_^]\s*{_INDEX}{_LETTER_C}_\s*{_INDEX}", re.A)
_RIGHT = re.compile(r"(?<![A-Za-z\\])C_\{?(\d+)\}?\s*\^\{?(\d+)\}?|(?<![A-Za-z\\])C\^\{?(\d+)\}?\s*_\{?(\d+)\}?", re.A)
_CALLED = re.compile(r"(?<![A-Za-z\\])C\s*\(\s*(\w{1,6})\s*,\s*(\w{1,6})\s*\)", re.A)
_SCIENTIFIC = re.compile(r"\s*([-+]?\d+(?:\.\d+)?)[eE]\+?(-?\d{1,6})\s*", re.A)
_JOINING: Final = frozenset({"and", "or"})


def tokenise(text: str, thousands: bool = False) -> list[Token]:
    """The tokens of an answer; with `thousands` a comma before three digits joins them to a number."""
    if len(text) > LONGEST:
        raise Unreadable(f"longer than {LONGEST} characters")
    text = _MARKED.sub(lambda m: m[1] + re.sub(r"\D", "", m[2]), text.translate(SIGNS))
    text = _respelt(text).replace("{,}", ",").replace("{:}", ":")
    if _SPACED.fullmatch(text):
        text = text.replace(" ", "")
    if thousands:
        text = _PLAIN.sub(lambda m: m[0].replace(",", ""), text)
    return _Scanner(text).run()


def has_plain_thousands(text: str) -> bool:
    """Whether a comma may be a thousands mark; inside brackets it never is."""
    return not any(bracket in text for bracket in "([") and "\\{" not in text and bool(_PLAIN.search(text))


def _respelt(text: str) -> str:
    """The text in the notation that the grammar reads."""
    text = _REPEATS.sub(r"\1\\overline{\2}", text)
    if "C" in text:
        text = _combinations(text)
    if "e" in text or "E" in text:
        text = _SCIENTIFIC.sub(r"\1\\times 10^{\2}", text) if _SCIENTIFIC.fullmatch(text) else text
    return text


def _combinations(text: str) -> str:
    text = _LEFT.sub(lambda m: rf"\binom{{{m[1] or m[2]}}}{{{m[3] or m[4]}}}", text)
    text = _RIGHT.sub(lambda m: rf"\binom{{{m[1] or m[4]}}}{{{m[2] or m[3]}}}", text)
    return _CALLED.sub(r"\\binom{\1}{\2}", text)


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text, self.at, self.out = text, 0, list[Token]()

    def run(self) -> list[Token]:
        while self.at < len(self.text):
            match = _SCAN.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            self.piece(match[0])
        return self.out

    def add(self, kind: str, text: str) -> None:
        self.out.append(Token(kind, text))

    def piece(self, piece: str) -> None:
        if piece.isspace() or piece in LAYOUT:
            return
        if piece in TEXT:
            self.text_group(self.group())
        elif piece in TRANSPARENT:
            self.out += _Scanner(self.group()).run()
        elif piece == r"\phantom":
            self.group()
        elif piece in {r"\begin", r"\end"}:
            self.environment(piece)
        elif piece == r"\mathbb":
            self.add("cmd", rf"\mathbb{{{self.group()}}}")
        elif piece[0].isdecimal() or (piece[0] == "." and len(piece) > 1):
            self.add("num", piece)
        elif piece[0].isalpha():
            self.letters(piece)
        else:
            self.sign(SPELLINGS.get(piece, piece))

    def environment(self, command: str) -> None:
        """An array is a matrix, once the alignment of its columns is passed over."""
        name = self.group().rstrip("*")
        if name == "array":
            name = "matrix"
            if command == r"\begin":
                self.group()
        self.add("op", f"{command}:{name}")

    def sign(self, sign: str) -> None:
        if sign in {",", ";", "or"}:
            self.add("sep", sign)
        elif sign == "_":
            self.add("sub", self.group())
        elif sign in {r"\$", "¢"}:
            self.add("unit", sign[-1])
        elif sign == r"\text":
            raise Unreadable("text without braces")
        elif sign[0] == "\\" and sign[1:].isalpha():
            self.add("cmd", sign)
        elif sign == "°" or sign.isprintable():
            self.add("op", sign)
        else:
            raise Unreadable("control character")

    def group(self) -> str:
        """What stands in the braces that follow, or the single piece that follows; moves past it."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        if not self.text.startswith("{", self.at):
            match = _SCAN.match(self.text, self.at)
            self.at = match.end() if match else self.at
            return match[0] if match else ""
        depth, start = 0, self.at + 1
        for here in range(self.at, len(self.text)):
            depth += {"{": 1, "}": -1}.get(self.text[here], 0)
            if depth == 0:
                self.at = here + 1
                return self.text[start:here]
        raise Unreadable("unbalanced braces")

    def letters(self, run: str) -> None:
        low = run.lower()
        if run in NAMED or low == "infinity":
            self.add("cmd", NAMED[low])
        elif low in _JOINING:
            self.add("sep", low)
        elif low == "in" and self.out and self.out[-1].kind == "sym":
            self.add("cmd", r"\in")
        elif is_unit(low) and len(run) > 1 and self.after_value(self.at - len(run)):
            self.add("unit", run)
        elif len(run) >= 4 or low in SHORT_NOUNS or (len(run) == 3 and run.isupper()):
            self.add("word", run)
        else:
            for letter in run:
                self.add("sym", letter)

    def after_value(self, here: int) -> bool:
        """Whether a unit may stand here: behind a number or a bracket, or with a blank behind anything."""
        last = self.out[-1] if self.out else Token("op", "")
        apart = here > 0 and self.text[here - 1].isspace() and last.kind in {"sym", "cmd"}
        closed = last.text in {")", "]", "}", "/", "}}"} or last.text.startswith(r"\end:")
        return closed or apart or last.kind in {"num", "sub", "unit", "word"}

    def text_group(self, content: str) -> None:
        """Words, unless there is mathematics in the text: `\\text{x = 5}`."""
        if _MATHS.search(content):
            self.out += _Scanner(content).run()
        else:
            self.in_text(content)

    def in_text(self, content: str) -> None:
        """The inside of `\\text{...}`: whole words, never a product of letters."""
        for match in re.finditer(r"\d+\.\d+|\d+|\\\$|\\?%|[^\W\d_]+|[^\w\s]|_", content):
            piece = match[0]
            low = piece.lower()
            if low in _JOINING or piece in {",", ";"}:
                self.add("sep", low)
            elif low == "infinity":
                self.add("cmd", NAMED[low])
            elif piece[0].isdecimal():
                self.add("num", piece)
            elif piece[0].isalpha():
                self.add("unit" if is_unit(low) and not (len(piece) == 1 and piece.isupper()) else "word", piece)
            elif piece in {"\\$", "$", "¢"}:
                self.add("unit", piece[-1])
            elif piece not in {"\\", "{", "}", '"', "~"}:
                self.add("op", "%" if piece == "\\%" else piece)
