"""Hostile text made harmless: what the renderers do to every text before they write it.

A text can come from a model, a data set or a recipe. What cannot be seen is written as an escape, so that no text can
hide, reorder or end anything; each format then quotes its own markup.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

CELL = 200  # characters of a table's cell, a title or a gold answer that are shown
PLAIN = 4_000  # characters of a paragraph or a response
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
CODE = re.compile(r"`([^`\n]+)`")


def visible(text: str) -> str:
    """The text with control characters, marks of direction, lone surrogates and the like as escapes.

    >>> visible("a\\0b\\u202ec")
    'a\\\\x00b\\\\u202ec'
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(char: str) -> str:
    code = ord(char)
    if char in "\n\t" or unicodedata.category(char) not in UNSEEN:
        return char
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clipped(text: str, limit: int) -> tuple[str, int]:
    """The beginning of a text, and how many characters were left out."""
    return text[:limit], max(0, len(text) - limit)


def short(text: str) -> str:
    """One visible line for a cell or a title, with an ellipsis for what was left out."""
    start, left_out = clipped(text, CELL)
    return visible(start).replace("\n", " ").replace("\t", " ") + ("…" if left_out else "")


def long(text: str) -> str:
    """A visible paragraph."""
    start, left_out = clipped(text, PLAIN)
    return visible(start) + (f"… ({left_out:,} characters left out)" if left_out else "")


def coded(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of a text and whether they stood between backticks."""
    end = 0
    for match in CODE.finditer(text):
        yield text[end : match.start()], False
        yield match[1], True
        end = match.end()
    yield text[end:], False


def paragraphs(text: str) -> list[str]:
    """Paragraphs are parted by an empty line."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]


def marked(text: str, places: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, bool]]:
    """Pieces of a text and whether each is one of the places [start, end), which are sorted and apart."""
    end = 0
    for start, stop in places:
        if start >= len(text):
            break
        yield text[end:start], False
        yield text[start:stop], True
        end = stop
    yield text[end:], False


def fence(text: str) -> str:
    """A fence of backticks that no run of backticks in the text can close."""
    runs = re.findall(r"`+", text)
    return "`" * max(3, 1 + max(map(len, runs), default=0))
