r"""Other notations that are rewritten before an answer is cut into tokens.

`{}_{10}C_3`, `C(10,3)` and `10 \choose 3` are binomials, `5'6''` is feet and inches, `6.7e-5` a power of ten,
`0.333\ldots` a repeating decimal. Every rule is one regular expression that is linear in the text.
"""

from __future__ import annotations

import re
from typing import Final

_REPEATS = re.compile(r"(?<!\d)(\d*\.\d*?)(\d)\2\2+\s*(?:\.\.\.|\\(?:ldots|dots|cdots))", re.A)
_INDEX: Final = r"(?:\{\s*(\w{1,6})\s*\}|(\w))"
_LETTER_C: Final = r"\s*(?:C|\{C\}|\\(?:text|mathrm|mathbf|operatorname)\s*\{C\})\s*"
_LEFT = re.compile(rf"(?:\{{\}}|(?<![\w{{}})\]\\]))\s*[_^]\s*{_INDEX}{_LETTER_C}_\s*{_INDEX}", re.A)
_RIGHT = re.compile(r"(?<![A-Za-z\\])C_\{?(\d+)\}?\s*\^\{?(\d+)\}?|(?<![A-Za-z\\])C\^\{?(\d+)\}?\s*_\{?(\d+)\}?", re.A)
_CALLED = re.compile(r"(?<![A-Za-z\\])C\s*\(\s*(\w{1,6})\s*,\s*(\w{1,6})\s*\)", re.A)
_SCIENTIFIC = re.compile(r"\s*([-+]?\d+(?:\.\d+)?)[eE]\+?(-?\d{1,6})\s*", re.A)


def respelt(text: str) -> str:
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
