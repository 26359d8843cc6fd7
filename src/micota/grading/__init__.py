"""The scoring room: whether an answer is right, by the paper's rule and by what it means.

`exact_match` and `strict_match` repeat the paper's harness string for string. `semantic` compares meanings by
the answer's type. `Grader` runs either over many responses, safely against hostile text.
"""

from micota.grading.exact import EXACT_VERSION, exact_match, strict_match
from micota.grading.grader import Grader
from micota.grading.semantic import SEMANTIC_VERSION, semantic
from micota.grading.verdict import Grade, Item, Verdict

__all__ = [
    "EXACT_VERSION",
    "SEMANTIC_VERSION",
    "Grade",
    "Grader",
    "Item",
    "Verdict",
    "exact_match",
    "semantic",
    "strict_match",
]
