"""The figures that the paper prints (arXiv 2507.01887, Tables 1, 2 and 4), to stand beside one's own. In percent.

For a model that is one of the paper's own its exact figures; for any other the averages of the three students.
"""

from __future__ import annotations

import math

from micota.report.texts import TEMPLATES
from micota.specs import LengthDial, Merge, Source, Spec, Train
from micota.yaml_tree import read

BENCHMARKS = ("aime24", "amc23", "olympiadbench", "math500", "gsm8k")
STUDENTS = ("7B", "3B", "1.5B")
SIZES = {f"Qwen/Qwen2.5-{size}-Instruct": size for size in ("32B", "14B", *STUDENTS)}
R1, QWQ = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "Qwen/QwQ-32B"

_PRINTED = read((TEMPLATES / "paper.yaml").read_text(encoding="utf-8"), "paper.yaml").value

TABLE2 = {(role, size): tuple(row) for role, rows in _PRINTED["table2"].items() for size, row in rows.items()}
"""Accuracy on BENCHMARKS and their average, by role and size (of the teacher its id)."""
TABLE1 = {
    (teacher, role, size): tuple(row)
    for teacher, roles in _PRINTED["table1"].items()
    for role, rows in roles.items()
    for size, row in rows.items()
}
"""Average accuracy and its difference to before the fine-tuning, in points, by teacher, role and size."""
TABLE4 = _PRINTED["table4"]
"""Bits per character of each arm's data under the models of SIZES."""


def size(model: Spec) -> str | None:
    """What the paper calls the model that this one is, or was fine-tuned or merged from; None if it is not there."""
    while isinstance(model, Train | Merge | LengthDial):
        model = model.base
    ref = model.ref if isinstance(model, Source) else ""
    return ref if ref in (R1, QWQ) else SIZES.get(ref)


def accuracy(role: str, model: Spec, benchmark: str | None = None) -> str:
    """The paper's accuracy of a model in its role, on a benchmark or (None) on average over the five.

    Of a model that the paper does not have: the averages, `45.9 / 39.4 / 30.3` for 7B / 3B / 1.5B; "" without any.
    """
    own = size(model)
    row = TABLE2.get((role, own or ""))
    if role == "teacher" and own == QWQ:
        return ""
    if row:
        return _text(row[BENCHMARKS.index(benchmark)] if benchmark in BENCHMARKS else row[-1])
    return _averages(role)


def _averages(role: str) -> str:
    if role == "ta_long":
        return _text(TABLE1[R1, "ta_long", "14B"][0])
    return " / ".join(_text(row[-1]) for (of, _), row in TABLE2.items() if of == role)


def change(role: str, base: str, model: Spec, teacher: Spec | None) -> str:
    """The paper's average of `role` minus that of `base`, in points; of other models for 7B / 3B / 1.5B."""
    own, by = size(model), size(teacher) if teacher else None
    if role == "ta_long":
        return _text(TABLE1[QWQ if by == QWQ else R1, role, "14B"][1], "+.1f")
    if by == QWQ:
        return _text(TABLE1[QWQ, role, own][1], "+.1f") if own and (QWQ, role, own) in TABLE1 else ""
    deltas = {student: _average(role, student) - _average(base, student) for student in STUDENTS}
    return (
        _text(deltas[own], "+.1f") if own in deltas else " / ".join(_text(value, "+.1f") for value in deltas.values())
    )


def gain(role: str, base: str, model: Spec) -> str:
    """The paper's average of `role` over that of `base`, in percent more, as its abstract counts."""
    gains = {student: 100 * (_average(role, student) / _average(base, student) - 1) for student in STUDENTS}
    own = size(model)
    return _text(gains[own], "+.1f") if own in gains else " / ".join(_text(value, "+.1f") for value in gains.values())


def bits(role: str) -> str:
    """The paper's row of Table 4, 32B / 14B / 7B / 3B / 1.5B; "" without one."""
    return " / ".join(f"{value:.2f}" for value in TABLE4.get(role, ()))


def _text(value: float, form: str = ".1f") -> str:
    """A figure of the paper with one decimal; halves go away from zero, as in print."""
    return format(value + math.copysign(1e-9, value), form)


def _average(role: str, student: str) -> float:
    return float(TABLE2[role, student][-1])
