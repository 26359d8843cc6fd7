"""A cursor in a sequence of tokens: look ahead, accept a sign, enter a bracket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from micota.grading.tokens import Token, Unreadable

DEEPEST: Final = 30
"""Levels of nesting that are read."""
_END: Final = Token("end", "")


class Cursor:
    """Looks ahead and moves on; `depth` counts how deep the reader has gone into brackets and arguments."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens, self.at, self.depth = list(tokens), 0, 0

    def peek(self, ahead: int = 0) -> Token:
        """The token at the cursor or some places ahead; one of kind `end` behind the last."""
        here = self.at + ahead
        return self.tokens[here] if here < len(self.tokens) else _END

    def take(self) -> Token:
        """The token at the cursor, which moves past it."""
        token = self.peek()
        self.at += 1
        return token

    def accept(self, *texts: str) -> str | None:
        """The sign at the cursor if it is among `texts`, and move past it; otherwise None."""
        token = self.peek()
        if token.kind in {"op", "cmd"} and token.text in texts:
            self.at += 1
            return token.text
        return None

    def deeper(self) -> None:
        """Go one level down. Raises Unreadable beyond `DEEPEST`."""
        self.depth += 1
        if self.depth > DEEPEST:
            raise Unreadable("nested too deeply")

    def braced(self) -> Sequence[Token]:
        """The tokens of a braced group, or the one token that follows."""
        if not self.accept("{"):
            return [self.take()]
        start = self.at
        while self.peek().kind != "end" and self.peek().text != "}":
            self.at += 1
        self.at += 1
        return self.tokens[start : self.at - 1]

    def split_number(self) -> None:
        r"""As TeX reads `\frac12`: the first digit of the number at the cursor becomes a token of its own."""
        kind, text = self.peek()
        if kind == "num" and len(text) > 1 and text.isdigit():
            self.tokens[self.at : self.at + 1] = [Token("num", text[0]), Token("num", text[1:])]
