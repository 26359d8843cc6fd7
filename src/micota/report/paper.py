"""The figures that the paper prints (arXiv 2507.01887, Tables 1, 2 and 4), to stand beside one's own. In percent.

For a model that is one of the paper's own its exact figures; for any other the averages of the three students.
"""

from __future__ import annotations

import math

from micota.specs import LengthDial, Merge, Source, Spec, Train

BENCHMARKS = ("aime24", "amc23", "olympiadbench", "math500", "gsm8k")
STUDENTS = ("7B", "3B", "1.5B")
SIZES = {f"Qwen/Qwen2.5-{size}-Instruct": size for size in ("32B", "14B", *STUDENTS)}
R1, QWQ = "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", "Qwen/QwQ-32B"

TABLE2 = {
    ("teacher", R1): (60.00, 90.00, 41.92, 86.00, 86.27, 72.83),
    ("ta_mid", "14B"): (23.33, 62.50, 31.55, 77.40, 87.26, 56.40),
    ("instruct", "7B"): (10.00, 40.00, 24.44, 72.60, 82.41, 45.89),
    ("strong", "7B"): (6.66, 27.50, 20.00, 64.20, 84.38, 40.54),
    ("half", "7B"): (10.00, 42.50, 19.70, 66.20, 86.27, 44.93),
    ("mix_long", "7B"): (10.00, 37.50, 24.44, 68.40, 88.85, 45.83),
    ("micota", "7B"): (13.33, 52.50, 25.62, 70.40, 84.98, 49.36),
    ("instruct", "3B"): (3.33, 35.00, 18.07, 62.80, 77.63, 39.36),
    ("strong", "3B"): (3.33, 22.50, 12.59, 46.20, 74.98, 31.92),
    ("half", "3B"): (3.33, 22.50, 12.30, 50.40, 76.88, 33.08),
    ("mix_long", "3B"): (10.00, 37.50, 19.11, 60.20, 81.50, 41.66),
    ("micota", "3B"): (13.33, 40.00, 20.59, 61.60, 80.97, 43.29),
    ("instruct", "1.5B"): (3.33, 22.50, 12.44, 45.20, 67.85, 30.26),
    ("strong", "1.5B"): (0.00, 7.50, 7.85, 33.00, 57.92, 21.25),
    ("half", "1.5B"): (0.00, 22.50, 7.55, 33.80, 59.13, 24.59),
    ("mix_long", "1.5B"): (3.33, 25.00, 11.70, 50.80, 71.65, 32.49),
    ("micota", "1.5B"): (3.33, 27.50, 13.03, 51.00, 70.20, 33.01),
}
"""Accuracy on BENCHMARKS and their average, by role and size (of the teacher its id). Of MiCoTA's 1.5B on GSM8K Table 2
prints 70.02 and Table 3 70.20; only the latter is a count out of 1,319 and gives the average."""

TABLE1 = {
    (R1, "ta_long", "14B"): (54.90, 2.10),
    (R1, "strong", "3B"): (31.92, -7.44),
    (R1, "half", "3B"): (33.08, -6.28),
    (R1, "strong", "1.5B"): (21.25, -9.01),
    (R1, "half", "1.5B"): (24.59, -5.67),
    (QWQ, "ta_long", "14B"): (55.84, 3.66),
    (QWQ, "strong", "3B"): (32.00, -7.36),
    (QWQ, "half", "3B"): (34.63, -4.73),
    (QWQ, "strong", "1.5B"): (23.29, -6.97),
    (QWQ, "half", "1.5B"): (25.16, -5.10),
}
"""Average accuracy and its difference to before the fine-tuning, in points, by teacher, role and size."""

TABLE4 = {
    "strong": (0.17, 0.18, 0.20, 0.26, 0.21),
    "half": (0.17, 0.17, 0.19, 0.24, 0.20),
    "mix_long": (0.13, 0.14, 0.14, 0.15, 0.16),
    "micota": (0.11, 0.11, 0.13, 0.13, 0.14),
}
"""Bits per character of each arm's data under Qwen2.5-{32B, 14B, 7B, 3B, 1.5B}-Instruct."""


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
    found = {one: _average(role, one) - _average(base, one) for one in STUDENTS}
    return _text(found[own], "+.1f") if own in found else " / ".join(_text(value, "+.1f") for value in found.values())


def gain(role: str, base: str, model: Spec) -> str:
    """The paper's average of `role` over that of `base`, in percent more, as its abstract counts."""
    found = {one: 100 * (_average(role, one) / _average(base, one) - 1) for one in STUDENTS}
    own = size(model)
    return _text(found[own], "+.1f") if own in found else " / ".join(_text(value, "+.1f") for value in found.values())


def bits(role: str) -> str:
    """The paper's row of Table 4, 32B / 14B / 7B / 3B / 1.5B; "" without one."""
    return " / ".join(f"{value:.2f}" for value in TABLE4.get(role, ()))


def _text(value: float, form: str = ".1f") -> str:
    """A figure of the paper with one decimal; halves go away from zero, as in print."""
    return format(value + math.copysign(1e-9, value), form)


def _average(role: str, student: str) -> float:
    return TABLE2[role, student][-1]
