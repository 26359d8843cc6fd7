"""The figures that the paper prints (arXiv 2507.01887, Tables 1, 2 and 4), to stand beside one's own. In percent.

They stand only where the role, the model and the benchmarks are the paper's; elsewhere there is "".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from micota.report.texts import TEMPLATES
from micota.specs import FineTuned, LengthDial, Merge, Source, Spec
from micota.yaml_tree import read

Benchmarks = Sequence[str | None]
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
    while isinstance(model, FineTuned | Merge | LengthDial):
        model = model.base
    ref = model.ref if isinstance(model, Source) else ""
    return ref if ref in (R1, QWQ) else SIZES.get(ref)


def accuracy(role: str, model: Spec, benchmarks: Benchmarks) -> str:
    """The paper's accuracy of a model in its role: on one benchmark, or on average over its five."""
    own, row = size(model), TABLE2.get((role, size(model) or ""))
    if len(benchmarks) == 1 and benchmarks[0] in BENCHMARKS and row and own != QWQ:
        return _text(row[BENCHMARKS.index(benchmarks[0])])
    if not _all(benchmarks) or own == QWQ:
        return ""
    return (
        _text(TABLE1[R1, "ta_long", "14B"][0]) if (role, own) == ("ta_long", "14B") else _text(row[-1]) if row else ""
    )


def change(role: str, base: str, model: Spec, teacher: Spec | None, benchmarks: Benchmarks) -> str:
    """The paper's average of `role` minus that of `base`, in points, for chains that begin at a teacher."""
    own, by = size(model), size(teacher) if teacher else None
    if not _all(benchmarks) or by not in (R1, QWQ):
        return ""
    if (role, own) == ("ta_long", "14B") or by == QWQ:
        row = TABLE1.get((by, role, own))
        return _text(row[1], "+.1f") if row else ""
    return _text(_average(role, own) - _average(base, own), "+.1f") if own in STUDENTS else ""


def gain(role: str, base: str, model: Spec, benchmarks: Benchmarks) -> str:
    """The paper's average of `role` over that of `base`, in percent more, as its abstract counts."""
    own = size(model)
    if not _all(benchmarks) or own not in STUDENTS:
        return ""
    return _text(100 * (_average(role, own) / _average(base, own) - 1), "+.1f")


def bits(role: str, models: Sequence[Spec]) -> str:
    """The paper's row of Table 4 under some of its own models, as in `0.11 / 0.13`; "" with any other among them."""
    row = dict(zip(SIZES, TABLE4.get(role, ()), strict=False))
    refs = [model.ref if isinstance(model, Source) else "" for model in models]
    return " / ".join(f"{row[ref]:.2f}" for ref in refs) if refs and all(ref in row for ref in refs) else ""


def _all(benchmarks: Benchmarks) -> bool:
    return len(benchmarks) == len(BENCHMARKS) and set(benchmarks) == set(BENCHMARKS)


def _text(value: float, form: str = ".1f") -> str:
    """A figure of the paper with one decimal; halves go away from zero, as in print."""
    return format(value + math.copysign(1e-9, value), form)


def _average(role: str, student: str) -> float:
    return float(TABLE2[role, student][-1])
