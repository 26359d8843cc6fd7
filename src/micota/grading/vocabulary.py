"""The words and signs of written answers: `notation.yaml` as tables."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, Final

from micota import yaml_tree

_FILE: Final = Path(__file__).with_name("notation.yaml")
_DATA: Final[dict[str, Any]] = yaml_tree.read(_FILE.read_text(encoding="utf-8"), _FILE.name).value


def _words(name: str) -> frozenset[str]:
    return frozenset(_DATA[name].split())


def lines(name: str) -> list[list[str]]:
    """A table of the file with one entry per line, as lists of words."""
    return [line.split() for line in _DATA[name].splitlines()]


@cache
def respellings() -> list[tuple[re.Pattern[str], str]]:
    """Other notations, each as a regular expression that is linear in the text, and what it becomes."""
    return [(re.compile(old, re.A), new) for old, new in _DATA["respellings"]]


def _names(name: str) -> dict[str, str]:
    """Each other spelling with the name that is kept."""
    return {other: kept for kept, *others in lines(name) for other in others}


LAYOUT: Final = _words("layout") | {"\\ "}
"""Commands that say how an answer looks."""
TEXT: Final = _words("text")
"""Commands whose braces hold words."""
TRANSPARENT: Final = _words("transparent")
"""Commands whose braces hold mathematics."""
SPELLINGS: Final = _names("spellings")
SIGNS: Final = {sign: name + " " * name[-1].isalpha() for sign, name in _names("signs").items()}
"""Signs of other alphabets as LaTeX."""
LETTERS: Final = _words("letters")
CALLED: Final = _words("called")
"""Functions that are read without their backslash only in front of a bracket."""
NAMED: Final = {
    **{name: "\\" + name for name in _words("named")},
    **{name: "\\" + kept for name, kept in _DATA["aliases"].items()},
}
"""Words that are commands without their backslash."""
SHORT_NOUNS: Final = _words("nouns")
"""Words too short to be told from a product of letters by their length."""
TWO_LETTERS: Final = _words("short")
NUMBERS: Final[dict[str, Fraction]] = {
    **{word: Fraction(at) for at, word in enumerate(_DATA["numbers"].split())},
    **{word: Fraction(10 * at) for at, word in enumerate(_DATA["tens"].split(), 2)},
}
PARTS: Final[dict[str, int]] = _DATA["parts"]
SCALES: Final[dict[str, int]] = _DATA["scales"]
PERCENT: Final = frozenset(_DATA["percent"])
HEDGES: Final = _words("hedges")
"""Words before a value that say nothing of it."""
IDLE: Final = _words("idle")
"""Words of a phrase that do not tell two phrases apart."""
NOTHING: Final = frozenset(_DATA["nothing"])
EVERYTHING: Final = re.compile(_DATA["everything"])
SUPERSCRIPTS: Final = re.compile(f"[{_DATA['superscripts']}]+")
SUBSCRIPTS: Final = re.compile(f"[{_DATA['subscripts']}]+")
POWERS: Final[dict[str, int]] = _DATA["powers"]
PREFIXES: Final = _DATA["prefixes"].split()
