"""TRL's distillation with a teacher of another tokenizer: it reads its own prompt and its own tokens of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from micota.training.head_logs import Head, refuse_deepspeed
from micota.training.span_loss import Side, span_loss
from micota.training.token_alignment import LAST, TokenAlignment

PROMPT, ANSWER = "teacher_prompt", "teacher_answer"


def with_spans(trainer: type[Any], alignment: TokenAlignment) -> type[Any]:
    """A trainer like `trainer`, a trl.DistillationTrainer, whose loss is that of spans, as the mean over those of a
    step. Raises MicotaError, as it is made, behind DeepSpeed."""
    import torch

    class SpanTrainer(trainer):  # type: ignore[misc]
        def __init__(self, *arguments: Any, teacher_model: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            refuse_deepspeed(self)
            self.teacher_model = self.accelerator.prepare_model(teacher_model, evaluation_mode=True)
            self.shared_ids = torch.tensor(alignment.shared, device=self.accelerator.device)

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
            output = super()._generate_and_score_completions(inputs)
            output |= _read_by_teacher(output, [one["prompt"]["teacher"] for one in inputs], alignment)
            output["num_items_in_batch"] = self.accelerator.gather((output["marks"] == LAST).sum()).sum()
            return output  # type: ignore[no-any-return]

        def _compute_loss(self, student: Any, inputs: dict[str, Any], items: Any) -> tuple[Any, Any, Any]:
            here = Side(student_head(self, student, inputs), inputs["completion_ids"], inputs["marks"])
            with torch.no_grad():
                there = Side(_teacher_head(self, inputs), inputs[ANSWER], inputs["teacher_marks"])
            with torch.autocast(here.tokens.device.type, enabled=False):
                loss, entropy, spans = span_loss(here, there, self.shared_ids, self.beta)
            return loss / (max(1, spans) if items is None else items), entropy, torch.tensor(spans, device=loss.device)

    return SpanTrainer


def _read_by_teacher(output: dict[str, Any], prompts: Sequence[Sequence[int]], alignment: TokenAlignment) -> Any:
    """What the teacher reads, and what each token of the answers is to its span, as tensors (row, place)."""
    ids, lengths = output["completion_ids"].tolist(), output["completion_mask"].sum(1).tolist()
    rows = zip(ids, lengths, prompts, strict=True)
    answers = [alignment.answer(row[:length], len(prompt)) for row, length, prompt in rows]
    read, marks, others = zip(*answers, strict=True)
    columns = {PROMPT: prompts, ANSWER: read, "marks": marks, "teacher_marks": others}
    columns |= {f"{name}_mask": [[1] * len(row) for row in columns[name]] for name in (PROMPT, ANSWER)}
    return {name: _padded(rows, output["completion_ids"].device, PROMPT in name) for name, rows in columns.items()}


def student_head(trainer: Any, student: Any, inputs: dict[str, Any]) -> Head:
    """The head of a student behind its states at the answers of a batch."""
    import torch

    ids, mask = (torch.cat([inputs[f"prompt_{one}"], inputs[f"completion_{one}"]], dim=1) for one in ("ids", "mask"))
    states = trainer._get_last_hidden_state(student, ids, mask, inputs["completion_ids"].shape[1])
    return Head.of(student, states, trainer.temperature)


def _teacher_head(trainer: Any, inputs: dict[str, Any]) -> Head:
    import torch

    ids, mask = (torch.cat([inputs[PROMPT + of], inputs[ANSWER + of]], dim=1) for of in ("", "_mask"))
    trainer.teacher_model.eval()
    teacher = trainer.accelerator.unwrap_model(trainer.teacher_model)
    read = (trainer._get_last_hidden_state, teacher, ids, mask, inputs[ANSWER].shape[1])
    return Head.of(teacher, trainer._forward_redirection(trainer.teacher_model, teacher, *read), trainer.temperature)


def _padded(rows: Sequence[Sequence[int]], device: Any, left: bool) -> Any:
    """Rows of numbers (row, place), filled with zeros."""
    import torch

    tensors = [torch.tensor(row, dtype=torch.long) for row in rows]
    side = "left" if left else "right"
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_side=side).to(device)
