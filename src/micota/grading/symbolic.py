"""math-verify as the last resort, for expressions that our own grammar does not read: sums, integrals, limits.

Its parser builds sympy trees from LaTeX without evaluating text as code. Its comparison accepts too much
(two unlike equations, one number out of two), so only its parser is used: both sides must be plain
expressions, and their difference must vanish. This can be slow, and is why grading has worker processes.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final

LONGEST: Final = 200
_KNOWN = re.compile(r"\\(?:sum|prod|int|lim|log|ln|det|pmod|bmod|mod)(?![a-zA-Z])|\\begin\{vmatrix\}|\\d?frac\{d")
_HUGE = re.compile(r"\d{7,}|!\s*!|\^\s*\{[^{}]*\^|\^\s*\w\s*\^")
_NESTED = re.compile(r"(?:[{(\[][^{}()\[\]]*){7}")
"""The parser's time grows with a power of the depth of brackets."""


def agree(gold: str, answer: str) -> bool:
    """Whether math-verify reads both as expressions whose difference is zero."""
    both = gold + answer
    if max(len(gold), len(answer)) > LONGEST or not _KNOWN.search(both) or _HUGE.search(both) or _NESTED.search(both):
        return False
    left, right = _parsed(gold), _parsed(answer)
    return left is not None and right is not None and _vanishes(left, right)


def _parsed(text: str) -> Any:
    """The sympy expression that math-verify reads, or None if it reads anything else."""
    from math_verify import LatexExtractionConfig, parse
    from sympy import Expr

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own timeout is off

    try:
        found = parse(
            f"${text.strip().strip('$')}$",
            extraction_config=[LatexExtractionConfig()],
            parsing_timeout=None,
            raise_on_error=True,
        )
    except Exception:  # the parser raises whatever it met; what it cannot read is simply not read
        return None
    return found[0] if found and isinstance(found[0], Expr) else None


def _vanishes(left: Any, right: Any) -> bool:
    from sympy import Float

    try:
        difference = (left - right).doit()
        if difference.free_symbols:
            return bool(difference.simplify() == 0)
        value = difference.evalf(50)
        return bool(value == 0 or (isinstance(value, Float) and abs(value) < Float("1e-40")))
    except Exception:  # sympy raises many kinds of error on odd input: none of them means equality
        return False
