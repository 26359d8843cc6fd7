"""Distil a model on-policy through trl.DistillationTrainer: it answers, and a teacher scores each of its tokens.

Runs in one process or under any launcher of accelerate. Continues from its last complete checkpoint; SIGTERM writes
one.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from micota import pretrained
from micota.chat import end_id, example
from micota.checks import check_distillation
from micota.errors import MicotaError
from micota.generation.prompt_encoder import PromptEncoder, end_tokens
from micota.specs import OnPolicyDistillation
from micota.store.artifacts import Result
from micota.store.pool import find
from micota.store.records import Request, read_rows
from micota.store.task import Task
from micota.training import course, padding_check
from micota.training.callbacks import callback
from micota.training.rollouts import Draws, Prompt, answers
from micota.training.saving import save
from micota.training.sft_examples import Steps, steps
from micota.training.span_trainer import with_spans
from micota.training.table_trainer import with_table
from micota.training.teacher_scoring import filled
from micota.training.token_alignment import TokenAlignment
from micota.training.trl_settings import adapter, device, distillation_settings, load, world


def run(task: Task) -> Result:
    """Write a model folder. Every rank runs this; only rank 0 writes."""
    import transformers

    course.begin(task)
    spec = task.spec
    assert isinstance(spec, OnPolicyDistillation)
    base, trust = task.model(spec.base), spec.trust_remote_code
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=trust)
    teacher = task.tokenizer(spec.teacher) if spec.top_k else task.model(spec.teacher)
    assert teacher is not None, "a teacher behind a server is refused before"
    alignment = check_distillation(task, tokenizer, base, teacher)
    config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=trust)
    encoder = PromptEncoder(spec, tokenizer, config)
    if alignment is None:  # the teacher reads the same tokens
        read = transformers.AutoConfig.from_pretrained(teacher, trust_remote_code=trust)
        contexts = encoder.context, PromptEncoder(spec, tokenizer, read).context
        encoder.context = min(filter(None, contexts), default=None)
    eos = end_tokens(base, tokenizer, trust)
    prompts, dropped = _prompts(task, spec, encoder, end_id(tokenizer, eos), alignment)
    longest = min(encoder.room(prompt.ids) for prompt in prompts)
    if spec.on_policy and 2 * longest < spec.max_tokens:  # all answers of a training have one limit
        what = f"the longest prompt leaves room for {longest} tokens of an answer, max_tokens is {spec.max_tokens}"
        raise MicotaError(what, why="the answers to all would end there", fix="leave long problems out")
    arguments = distillation_settings(task, spec, _steps(task, spec), longest)
    watch = callback(task, spec.precision)
    draws, rows = Draws(prompts, spec), config.get_text_config().vocab_size
    kind, more = _taught(task, spec, _answering(eos), draws, rows, alignment)
    trainer = _trainer(arguments, task, base, tokenizer, draws, kind, watch)
    outcome = course.go(trainer, task)
    save(trainer, spec, base, task.out, task.scratch)
    counts = {"examples": len(prompts), "dropped": dropped, **more, **_answered(trainer, spec)}
    return Result(counts | course.facts(trainer, task, outcome, watch.ends))


def _steps(task: Task, spec: OnPolicyDistillation) -> Steps:
    """The rows of a step on each process: as many on all of them."""
    processes = world()
    if spec.batch % processes:
        what = f"{processes} processes cannot share {spec.batch} answers of a step evenly"
        raise MicotaError(
            what, fix=f"batch: {-(-spec.batch // processes) * processes} in the recipe, or other processes"
        )
    return steps(spec.batch, spec.batch, processes, task.machine.training(task.spec).micro_batch)


def _prompts(
    task: Task, spec: OnPolicyDistillation, encoder: PromptEncoder, end: int, alignment: TokenAlignment | None
) -> tuple[list[Prompt], dict[str, int]]:
    """The prompts of the problems, or of the data's rows with their responses; and how many are too long."""

    def taught(text: str) -> list[int]:
        return alignment.prompt(text, spec.prompt) if alignment else []

    if spec.problems is not None:
        rows = read_rows(task.rows(spec.problems))
        asked = [Request(row["key"], 0, spec.prompt.user_message(row["problem"])) for row in rows]
        return [Prompt(encoder.ids(request), teacher=taught(request.prompt)) for request in asked], {}
    assert spec.data is not None
    pools = [task.store.pool(pool) for pool in task.input(spec.data).pools]
    prompts = []
    for row in find(pools, read_rows(task.rows(spec.data))):
        one = example(encoder.tokenizer, row.prompt, row.target, spec.prompt.system, end, **spec.prompt.template_kwargs)
        begin = sum(label == -100 for label in one["labels"])
        prompts.append(Prompt(one["input_ids"][:begin], one["input_ids"][begin:], taught(row.prompt)))
    short = [prompt for prompt in prompts if len(prompt.response) <= encoder.room(prompt.ids)]
    if not short:
        least = min(len(prompt.response) for prompt in prompts)
        what = f"all {len(prompts)} responses are longer than {spec.max_tokens} tokens, or than the model reads"
        raise MicotaError(what, fix=f"raise max_tokens: the shortest has {least} tokens")
    return short, {"too_long": len(prompts) - len(short)} if len(short) < len(prompts) else {}


def _trainer(
    arguments: dict[str, Any], task: Task, base: Path, tokenizer: Any, draws: Draws, kind: type[Any], watch: Any
) -> Any:
    import transformers
    import trl

    spec = task.spec
    assert isinstance(spec, OnPolicyDistillation)
    config = trl.DistillationConfig(**arguments)  # before the model is loaded: it decides how the model is sharded
    model = load(task, spec, base)
    trainer = kind(
        model=model,
        teacher_model=None if spec.top_k else _teacher(task, spec),
        args=config,
        train_dataset=draws,
        processing_class=tokenizer,
        peft_config=adapter(spec.lora, model) if spec.lora else None,
        callbacks=[watch],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.add_callback(_padding_check(trainer, spec.precision))
    return trainer


def _taught(
    task: Task, spec: OnPolicyDistillation, kind: type[Any], draws: Draws, rows: int, alignment: TokenAlignment | None
) -> tuple[type[Any], dict[str, int]]:
    """The trainer for a teacher of one tokenizer, of another, or one whose likeliest tokens are kept; and facts."""
    if spec.top_k:
        table, scored = filled(task, draws.drawn, rows, lambda: _teacher(task, spec).to(device(task)))
        return with_table(kind, table), {"scored": scored}
    return (with_spans(kind, alignment), {"shared_tokens": len(alignment.shared)}) if alignment else (kind, {})


def _padding_check(trainer: Any, precision: str) -> Any:
    """Checks both models when they are where they will be trained and read."""
    import transformers

    class Callback(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            for one in filter(None, (model, trainer.teacher_model)):
                padding_check.check(one, precision)

    return Callback()


def _answering(eos: list[int]) -> type[Any]:
    """TRL's trainer, but for how prompts become tokens and how they are answered: both as everywhere in micota."""
    import torch
    import trl
    from trl.models.utils import unwrap_model_for_generation

    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")  # TRL's

    class Trainer(trl.DistillationTrainer):  # type: ignore[misc]
        def __init__(self, model: Any, teacher_model: Any = None, **options: Any) -> None:
            if teacher_model is not None:
                rows, others = (one.config.get_text_config().vocab_size for one in (model, teacher_model))
                if others > rows:  # which are of no token
                    teacher_model.resize_token_embeddings(rows)
            super().__init__(model=model, teacher_model=teacher_model, **options)

        def _tokenize_prompts(self, prompts: list[dict[str, Any]]) -> tuple[list[list[int]], None, dict[str, Any]]:
            self.drawn = prompts
            return [prompt["ids"] for prompt in prompts], None, {}

        def _generate_single_turn(self, prompt_ids: list[list[int]], *_: Any) -> list[list[int]]:
            if self.drawn[0]["response"]:
                return [prompt["response"] for prompt in self.drawn]
            settings = {"max_new_tokens": self.max_completion_length, "eos_token_id": eos}
            seeds, accelerator = [prompt["seed"] for prompt in self.drawn], self.accelerator
            with (
                torch.no_grad(),
                accelerator.autocast(),
                unwrap_model_for_generation(self.model_wrapped, accelerator) as model,
                self._dist.summon_full_params(self.model_wrapped, recurse=False),
            ):
                return answers(model, prompt_ids, seeds, settings, self.temperature)

    return Trainer


def _teacher(task: Task, spec: OnPolicyDistillation) -> Any:
    """The teacher, in the precision of the recipe."""
    import torch

    options: dict[str, Any] = {"dtype": getattr(torch, spec.precision), "trust_remote_code": spec.trust_remote_code}
    if task.machine.training(task.spec).attention:
        options["attn_implementation"] = task.machine.training(task.spec).attention
    return pretrained.load(task.model(spec.teacher), **options).requires_grad_(False)


def _answered(trainer: Any, spec: OnPolicyDistillation) -> dict[str, Any]:
    """Mean tokens of the answers that were learnt from, all their tokens, and the share of answers that were cut."""
    logs = [log for log in trainer.state.log_history if "completions/mean_length" in log]
    means = [log["completions/mean_length"] for log in logs]
    cut = [log["completions/clipped_ratio"] for log in logs]
    return {
        "mean_tokens": round(sum(means) / len(means), 2),
        "learnt_tokens": round(sum(means) * spec.batch),
        "truncated_share": round(sum(cut) / len(cut), 4),
    }
