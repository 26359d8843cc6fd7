r"""Other notations of an answer in that of the grammar: `x²`, `⅔`, `1{,}000`, `{}_7C_3`, `]2, 7[`, aligned rows.

What a regular expression can say stands in `notation.yaml`; here is what needs more. Every step is linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from micota.grading.vocabulary import LETTERS, SIGNS, SUBSCRIPTS, SUPERSCRIPTS, respellings

_MARKED = re.compile(
    r"(?<![\d.])(\d{1,3})((?:(?:\s*\{\s*,\s*\}\s*|,\s*\\!\s*|\\[, ;:]|\{\\,\}|\\thinspace\s*|~|')\d{3})+)(?!\d)", re.A
)
_PLAIN = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", re.A)
_SPACED = re.compile(r"\s*([-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?)\s*", re.A)
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)|GREEK (PHI|EPSILON|THETA) SYMBOL")
_INDEX: Final = r"(?:\{\s*(\w{1,6})\s*\}|(\w))"
_LETTER: Final = r"\s*(?:\\(?:text|mathrm|mathbf|operatorname)\s*)?\{?([CP])\}?\s*"
_LEFT = re.compile(rf"(?:\{{\}}|(?<![\w{{}})\]\\]))\s*[_^]\s*{_INDEX}{_LETTER}_\s*{_INDEX}", re.A)
_RIGHT = re.compile(r"(?<![A-Za-z\\])([CP])(?:_\{?(\d+)\}?\s*\^\{?(\d+)\}?|\^\{?(\d+)\}?\s*_\{?(\d+)\}?)", re.A)
_CALLED = re.compile(r"(?<![A-Za-z\\])(?:(C)\s*\(\s*(\w{1,6})|(P)\s*\(\s*(\d+))\s*,\s*(\w{1,6})\s*\)", re.A)
_BRACKETS = re.compile(r"(?:\\left\s*)?([\[\]])([^\[\]()]*[,;][^\[\]()]*?)(?:\\right\s*)?([\[\]])")
_ROWS: Final = "aligned|align|alignat|gathered|gather|split|equation|eqnarray|multline|center|cases|dcases"
_ENVIRONMENT = re.compile(rf"\\begin\s*\{{({_ROWS})\*?\}}(.*?)\\end\s*\{{\1\*?\}}", re.S)


def respelt(text: str) -> str:
    """The text in the notation that the grammar reads."""
    if not text.isascii():
        text = SUPERSCRIPTS.sub(lambda m: f"^{{{unicodedata.normalize('NFKC', m[0])}}}", text)
        text = SUBSCRIPTS.sub(lambda m: f"_{{{unicodedata.normalize('NFKC', m[0])}}}", text)
        text = "".join(map(_in_latex, text))
    text = _MARKED.sub(lambda m: m[1] + re.sub(r"\D", "", m[2]), text)
    for old, new in respellings():
        if old.search(text):  # most say nothing, and a search that fails is cheap
            text = old.sub(new, text)
    if "C" in text or "P" in text:
        text = _combinations(text)
    if "\\begin" in text:
        text = _ENVIRONMENT.sub(_rows, text)
    if ("[" in text or "]" in text) and "\\sqrt[" not in text:
        text = _BRACKETS.sub(lambda m: "[("[m[1] == "]"] + m[2] + "])"[m[3] == "["], text)
    text = text.replace("{,}", ",").replace("{:}", ":")
    return text.replace(" ", "") if _SPACED.fullmatch(text) else text


def has_plain_thousands(text: str) -> bool:
    """Whether a comma may be a thousands mark; inside brackets it never is."""
    return not any(bracket in text for bracket in "([") and "\\{" not in text and bool(_PLAIN.search(text))


def without_thousands(text: str) -> str:
    """The text with a comma before three digits joining them to a number."""
    return _PLAIN.sub(lambda m: m[0].replace(",", ""), text)


def _in_latex(sign: str) -> str:
    """A sign of another alphabet as LaTeX or ASCII; odd blanks as blanks, invisible signs dropped."""
    if sign.isascii():
        return sign
    if sign in SIGNS:
        return SIGNS[sign]
    if sign.isdecimal():
        return str(unicodedata.decimal(sign))
    kind = unicodedata.category(sign)
    if kind in {"Zs", "Cf"}:
        return " " * (kind == "Zs")
    if kind == "Sc":
        return "\\$"
    if greek := _GREEK.fullmatch(unicodedata.name(sign, "")):
        name = (greek[2] or greek[3]).lower()
        command = "\\" + (name.capitalize() if greek[1] == "CAPITAL" else "lambda" if name == "lamda" else name)
        return command + " " if command in LETTERS or command == "\\pi" else sign
    plain = unicodedata.normalize("NFKC", sign)
    if plain == sign or unicodedata.decomposition(sign).startswith(("<circle>", "<final>")):
        return sign
    top, slash, bottom = plain.partition("\u2044")
    return f"\\frac{{{top}}}{{{bottom}}}" if slash else "".join(map(_in_latex, plain))


def _combinations(text: str) -> str:
    def chosen(parts: Iterator[str]) -> str:
        letter, *(n, k) = sorted(parts, key=lambda part: part not in "CP")
        return rf"\binom{{{n}}}{{{k}}}" if letter == "C" else rf"\frac{{{n}!}}{{({n}-{k})!}}"

    for pattern in (_LEFT, _RIGHT, _CALLED):
        text = pattern.sub(lambda m: chosen(part for part in m.groups() if part), text)
    return text


def _rows(environment: re.Match[str]) -> str:
    """The rows of aligned equations as a list; a row that begins with a relation continues the one above it."""
    name, body = environment[1], environment[2]
    if "\\begin" in body or ("cases" in name and "&" in body):
        return environment[0] if "cases" in name else body
    rows = [row.replace("&", " ").strip(" ,") for row in re.split(r"\\\\(?:\[\w*\])?", body)]
    return re.sub(r",\s*(=|<|>|\\[lg]eq?\b)", r" \1", ", ".join(filter(None, rows)))
