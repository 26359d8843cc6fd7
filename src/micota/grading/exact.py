r"""The paper's exact match, rule for rule: extract a string, normalise it, compare strings.

Its faults are part of it, because the published tables have them: a gold that carries
`$...$` can hardly be matched, `\boxed {204}` is always wrong, an empty box equals the gold `0`, and a
price ending in `}` counts for nothing. `semantic` is the grader without them.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from micota.grading.verdict import Grade, Verdict, label

EXACT_VERSION: Final = 1
"""Bumped by hand when a label of `exact_match` or `strict_match` could change."""

NUMBERED: Final = frozenset({"aime24", "aime25", "aime26", "amc23", "olympiadbench"})
"""Benchmarks whose answers first lose leading zeros and an all-zero decimal part."""

_LONGEST_INTEGER: Final = 4300
"""Python's own default limit, stated here so that an interpreter without one labels alike."""
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_STRICT = re.compile(r"Final Answer: \\boxed\{(\-?[0-9\.\,]*[0-9])\}")
_BRACE = re.compile(r"[{}]")
_FINAL_DOT = re.compile(r"\.$")


def exact_match(response: str, gold: object, benchmark: str | None = None) -> Grade:
    r"""Grade as the paper's evaluation harness does (GSM8K: its flexible extraction).

    `gold` is the gold of the benchmark's row; without a benchmark MATH-500's rules hold.

    >>> exact_match(r"So it is $\boxed{\dfrac12}$.", r"\frac{1}{2}").verdict.value
    'correct'
    """
    if benchmark == "gsm8k":
        return _flexible_extract(response, gold)
    answer = boxed_answer(response)
    if answer is None:
        return Grade(Verdict.no_answer, None, "no closed box")
    target = gold_string(gold)
    return _compared(answer, target, benchmark in NUMBERED)


def strict_match(response: str, gold: object) -> Grade:
    r"""GSM8K's second figure: only `Final Answer: \boxed{NUMBER}` counts, and the first one."""
    match = _STRICT.search(response)
    if match is None:
        return Grade(Verdict.no_answer, None, "no line 'Final Answer: \\boxed{NUMBER}'")
    return _plain_match(match[1], gold)


def gold_string(gold: object) -> str:
    """The gold as the harness compares it: a list's first element, a float as Python prints it."""
    if isinstance(gold, (list, tuple)):
        gold = gold[0] if gold else ""
    return str(gold)


def boxed_answer(response: str) -> str | None:
    r"""The harness's extraction: what follows the last `\boxed `, else the last balanced box."""
    if "\\boxed " in response:
        return response.rpartition("\\boxed ")[2].partition("$")[0]
    start, command = response.rfind("\\boxed"), "\\boxed"
    if start < 0:
        start, command = response.rfind("\\fbox"), "\\fbox"
    if start < 0:
        return None
    return _in_braces(response, start + len(command))


def _in_braces(text: str, start: int) -> str | None:
    """What the braces that open at `start` hold, or None if they do not open there or never close."""
    if not text.startswith("{", start):
        return None
    depth = 0
    for brace in _BRACE.finditer(text, start):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return text[start + 1 : brace.start()]
    return None


def _compared(answer: str, gold: str, numbered: bool) -> Grade:
    if numbered:
        left, right = _bare_number(answer), _bare_number(gold)
    else:
        left, right = answer, gold
    if left == right:
        return label(True, answer, "equal strings")
    try:
        left, right = normalised(left), normalised(right)
    except (ValueError, IndexError):
        return label(left == right, answer, "compared as written: one side cannot be normalised")
    return label(left == right, answer, "equal strings" if left == right else "different strings")


def _bare_number(text: str) -> str:
    """Drop leading zeros, and from the first point on if only zeros stand before the next one."""
    text = text.lstrip("0")
    parts = text.split(".")
    return parts[0] if len(parts) > 1 and not parts[1].strip("0") else text


def normalised(text: str) -> str:
    """The harness's normal form. Raises ValueError or IndexError where the harness gives up."""
    for old, new in (("\n", ""), ("\\!", ""), ("\\\\", "\\"), ("tfrac", "frac"), ("dfrac", "frac")):
        text = text.replace(old, new)
    for dropped in ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$"):
        text = text.replace(dropped, "")
    text = _without_unit(text).replace("\\%", "").replace(" .", " 0.").replace("{.", "{0.")
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    if text.count("=") == 1 and text.index("=") <= 2:
        text = text.partition("=")[2]
    text = _braced_fractions(_braced_roots(text).replace(" ", ""))
    return "\\frac{1}{2}" if text == "0.5" else _slash_as_fraction(text)


def _without_unit(text: str) -> str:
    parts = text.split("\\text{ ")
    if len(parts) > 2:
        raise ValueError("two units")
    return parts[0]


def _braced_roots(text: str) -> str:
    first, *rest = text.split("\\sqrt")
    return first + "".join("\\sqrt" + (part if part[0] == "{" else "{" + part[0] + "}" + part[1:]) for part in rest)


def _braced_fractions(text: str) -> str:
    first, *rest = text.split("\\frac")
    done = [first]
    for part in rest:
        if part[0] != "{":
            if len(part) < 2:
                return text
            part = "{" + part[0] + "}" + (part[1:] if part[1] == "{" else "{" + part[1] + "}" + part[2:])
        done.append("\\frac" + part)
    return "".join(done)


def _slash_as_fraction(text: str) -> str:
    if text.count("/") != 1:
        return text
    top, _, bottom = text.partition("/")
    if max(len(top), len(bottom)) > _LONGEST_INTEGER:
        raise ValueError("more digits than Python reads")
    a, b = int(top), int(bottom)
    return f"\\frac{{{a}}}{{{b}}}" if text == f"{a}/{b}" else text


def _flexible_extract(response: str, gold: object) -> Grade:
    last = deque(_FLEXIBLE.finditer(response), maxlen=1)
    if not last:
        return Grade(Verdict.no_answer, None, "no number in the response")
    return _plain_match(last[0][0], gold)


def _plain_match(answer: str, gold: object) -> Grade:
    equal = _gsm8k_string(answer) == _gsm8k_string(gold_string(gold))
    return label(equal, answer, "equal strings" if equal else "different strings")


def _gsm8k_string(text: str) -> str:
    text = text.replace(",", "").replace("$", "").rpartition("#### ")[2]
    return _FINAL_DOT.sub("", text).lower()
