r"""From a written answer to tokens: numbers, letters, commands, words, units, separators.

The text comes in the notation of `notation.respelt`. Layout is dropped here (`\left`, `\,`, `$`, `\displaystyle`).
Every step is linear in the text, and texts beyond `LONGEST` characters are refused.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from micota.grading.units import is_unit, read_unit
from micota.grading.vocabulary import (
    CALLED,
    LAYOUT,
    NAMED,
    PERCENT,
    SHORT_NOUNS,
    SPELLINGS,
    TEXT,
    TRANSPARENT,
    TWO_LETTERS,
)

LONGEST: Final = 2000
"""Characters of an answer that are read; beyond this only identical strings are equal."""


class Unreadable(Exception):
    """The text is not in the grammar of answers."""


class Token(NamedTuple):
    """`kind` is one of num, sym, cmd, op, word, unit, sep, sub."""

    kind: str
    text: str


_SCAN = re.compile(r"\s+|\\[a-zA-Z]+|\\.|[0-9]+\.[0-9]+|[0-9]+|\.[0-9]+|[A-Za-z]+|[^\W\d_]+|.", re.S)
_MATHS = re.compile(r"\\[a-zA-Z]|[\^=+_<>]|\d[a-z]\b")
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"
_JOINING: Final = frozenset({"and", "or"})


def tokenise(text: str) -> list[Token]:
    """The tokens of an answer."""
    if len(text) > LONGEST:
        raise Unreadable(f"longer than {LONGEST} characters")
    return _Scanner(text).run()


class _Scanner:
    def __init__(self, text: str, before: Token | None = None) -> None:
        self.text, self.at, self.out, self.before = text, 0, list[Token](), before or Token("op", "")

    def run(self) -> list[Token]:
        while self.at < len(self.text):
            match = _SCAN.match(self.text, self.at)
            assert match is not None
            self.at = match.end()
            self.piece(match[0])
        return self.out

    def add(self, kind: str, text: str) -> None:
        self.out.append(Token(kind, text))

    @property
    def last(self) -> Token:
        return self.out[-1] if self.out else self.before

    def piece(self, piece: str) -> None:
        if piece.isspace() or piece in LAYOUT:
            return
        if piece in TEXT:
            self.text_group(self.group())
        elif piece in TRANSPARENT:
            self.out += _Scanner(self.group(), self.last).run()
        elif piece in {r"\begin", r"\end"}:
            self.environment(piece)
        elif piece == r"\mathbb":
            self.add("cmd", rf"\mathbb{{{self.group()}}}")
        elif piece[0] in ".0123456789" and piece != ".":
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
        elif sign == r"\Omega" and self.last.kind == "num":
            self.add("unit", "Ω")
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
            piece = match[0] if match else ""
            piece = piece if piece[:1] == "\\" else piece[:1]
            self.at += len(piece)
            return piece
        depth, start = 0, self.at + 1
        for here in range(self.at, len(self.text)):
            depth += {"{": 1, "}": -1}.get(self.text[here], 0)
            if depth == 0:
                self.at = here + 1
                return self.text[start:here]
        raise Unreadable("unbalanced braces")

    def letters(self, run: str) -> None:
        low, ahead = run.lower(), self.text[self.at :].lstrip()[:2]
        if run in NAMED or low == "infinity":
            self.add("cmd", NAMED[run if run in NAMED else low])
        elif low in CALLED and ahead[:1] in {"(", "{", "\\"}:
            self.add("cmd", "\\" + low)
        elif low in _JOINING:
            self.add("sep", low)
        elif low == "in" and self.last.kind == "sym":
            self.add("cmd", r"\in")
        elif is_unit(low) and len(run) > 1 and self.after_value(self.at - len(run)):
            self.add("unit", run)
        elif len(run) >= 4 or low in SHORT_NOUNS | PERCENT or (len(run) == 3 and run.isupper()) or not run.isascii():
            self.add("word", run)
        elif self.last.kind in {"sep", "op"} and self.last.text in {"", ",", ";"} and ahead[:1] in {"", ",", ";"}:
            self.alone(run)
        else:
            self.symbols(run)

    def symbols(self, run: str) -> None:
        for letter in run:
            self.add("sym", letter)

    def alone(self, run: str) -> None:
        """Two or three letters by themselves: a word such as `no` or `Ann`, otherwise a product."""
        vowels = sum(letter in "aeiou" for letter in run.lower())
        if run.lower() in TWO_LETTERS or (len(run) == 3 and 0 < vowels < 3 and run.lower() not in _ALPHABET):
            self.add("word", run)
        else:
            self.symbols(run)

    def after_value(self, here: int) -> bool:
        """Whether a unit may stand here: behind a number or a bracket, or with a blank behind anything."""
        last = self.last
        apart = here > 0 and self.text[here - 1].isspace() and last.kind in {"sym", "cmd"}
        closed = last.text in {")", "]", "}", "/", "}}"} or last.text.startswith(r"\end:")
        return closed or apart or last.kind in {"num", "sub", "unit", "word"}

    def text_group(self, content: str) -> None:
        """Words, unless there is mathematics in the text: `\\text{x = 5}`."""
        content = content.strip(" ()[]") if self.after_value(0) else content
        if self.after_value(0) and len(content) < 40 and read_unit(content):
            self.add("unit", content)
        elif content in {"e", "i"}:
            self.add("sym", content)
        elif content in CALLED:
            self.letters(content)
        elif _MATHS.search(content):
            self.out += _Scanner(content, self.last).run()
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
