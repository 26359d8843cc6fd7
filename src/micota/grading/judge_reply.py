"""The verdict in the reply of a model that judges an answer."""

from __future__ import annotations

import re

from micota.grading.extract import after_thought
from micota.grading.verdict import Grade, Verdict

JUDGE_VERSION = 1
_VERDICT = re.compile(r"verdict\W{0,8}(not\W{1,3})?(correct|right|incorrect|wrong)\b", re.I)


def judge_verdict(reply: str) -> Grade:
    """The last `Verdict: correct` or `Verdict: wrong` behind the judge's own thought; unverifiable without one.

    >>> judge_verdict("Both are 4. **Verdict:** correct").verdict.value
    'correct'
    """
    found = list(_VERDICT.finditer(after_thought(reply) or ""))
    if not found:
        return Grade(Verdict.unverifiable, None, "the judge gave no verdict")
    right = (found[-1][2].lower() in ("correct", "right")) != bool(found[-1][1])
    return Grade(Verdict.correct if right else Verdict.wrong, None, "the judge's verdict")
