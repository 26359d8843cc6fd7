"""Graders: the paper's exact match, the semantic grader, and functions of the user's own.

`exact_match` and `strict_match` repeat the paper's harness string for string. `semantic` compares mathematical values
by the answer's type. `choice` reads which option of a multiple choice a response takes. `grade_responses` runs a grader
over many responses, safely against hostile text.
"""

from micota.grading.choice import CHOICE_VERSION
from micota.grading.exact import EXACT_VERSION, exact_match, strict_match
from micota.grading.grader import DIED, By, Grader, UserGrader, grade_responses
from micota.grading.judge_reply import JUDGE_VERSION, judge_verdict
from micota.grading.semantic import SEMANTIC_REVISION, SEMANTIC_VERSION, semantic
from micota.grading.verdict import Grade, Item, Verdict

__all__ = [
    "CHOICE_VERSION",
    "DIED",
    "EXACT_VERSION",
    "JUDGE_VERSION",
    "SEMANTIC_REVISION",
    "SEMANTIC_VERSION",
    "By",
    "Grade",
    "Grader",
    "Item",
    "UserGrader",
    "Verdict",
    "exact_match",
    "grade_responses",
    "judge_verdict",
    "semantic",
    "strict_match",
]
