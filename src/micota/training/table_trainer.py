"""TRL's distillation with a table in the teacher's place: forward KL over its likeliest tokens and the rest as one."""

from __future__ import annotations

from typing import Any

from micota.training import head_logs
from micota.training.head_logs import Head, refuse_deepspeed
from micota.training.span_trainer import student_head
from micota.training.teacher_table import TeacherTable, row_key


def with_table(trainer: type[Any], table: TeacherTable) -> type[Any]:
    """A trainer like `trainer`, a trl.DistillationTrainer, that has no teacher. Raises MicotaError, as it is made,
    behind DeepSpeed."""
    import torch

    class TableTrainer(trainer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            refuse_deepspeed(self)

        def _compute_loss(self, student: Any, inputs: dict[str, Any], items: Any) -> tuple[Any, Any, Any]:
            head, mask = student_head(self, student, inputs), inputs["completion_mask"]
            ids, logs, rest = (column.to(mask.device) for column in _looked_up(table, inputs))
            with torch.autocast(mask.device.type, enabled=False):
                loss, entropy = table_loss(head, mask.flatten().nonzero().squeeze(1), ids, logs, rest)
            return loss / (mask.sum() if items is None else items), entropy, mask.sum()

    return TableTrainer


def _looked_up(table: TeacherTable, inputs: dict[str, Any]) -> tuple[Any, ...]:
    """The targets of a batch's tokens, one response after the other."""
    import torch

    columns = (
        [ids[one.bool()].tolist() for ids, one in zip(inputs[f"{part}_ids"], inputs[f"{part}_mask"], strict=True)]
        for part in ("prompt", "completion")
    )
    rows = [table.read(row_key(*row), len(row[1])) for row in zip(*columns, strict=True)]
    return tuple(torch.cat([torch.from_numpy(part.copy()) for part in column]) for column in zip(*rows, strict=True))


def table_loss(head: Head, places: Any, ids: Any, logs: Any, rest: Any) -> tuple[Any, Any]:
    """The sum of the forward KL at some places, over k + 1 outcomes: the k tokens of `ids` (place, k), of which the
    teacher has the log-probabilities `logs`, and any other token, of `rest`; and that of the student's entropies."""
    import torch
    from torch.utils.checkpoint import checkpoint

    def part(places: Any, ids: Any, logs: Any, rest: Any) -> Any:
        own = head.logs(places)
        kl = (logs.exp() * (logs - own.gather(1, ids))).sum()
        if len(head.weight) > ids.shape[1]:
            others = own.scatter(1, ids, -torch.inf).logsumexp(1)
            kl = kl + (rest.exp() * (rest.clamp_min(-1e4) - others)).sum()
        return torch.stack([kl, -(own.exp() * own).sum().detach()])

    sums = torch.zeros(2, device=places.device) + (0 if len(places) else head.nothing)
    columns = (places, ids.long(), logs, rest)
    for chunk in zip(*(one.split(max(1, head_logs.LOGITS // len(head.weight))) for one in columns), strict=True):
        sums = sums + checkpoint(part, *chunk, use_reentrant=False)
    return sums[0], sums[1].detach()
