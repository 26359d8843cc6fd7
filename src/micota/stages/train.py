"""Fine-tune a model on responses: SFT through TRL, of all parameters or of adapters; the loss covers response and EOS.

Runs in one process or under any launcher of accelerate. Continues from its last complete checkpoint; SIGTERM writes
one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from micota.chat import end_id, example
from micota.checks import check_packed_batch, check_training
from micota.errors import MicotaError
from micota.generation.prompt_encoder import end_tokens
from micota.specs import Train
from micota.store.artifacts import Result
from micota.store.pool import find
from micota.store.records import read_rows
from micota.store.task import Task
from micota.training import course
from micota.training.callbacks import callback
from micota.training.saving import save
from micota.training.sft_examples import EMPTY, Example, InSteps, Steps, packed, packs_of_a_step, steps
from micota.training.trl_settings import adapter, load, settings, world


def run(task: Task) -> Result:
    """Write a model folder. Every rank runs this; only rank 0 writes."""
    import transformers

    course.begin(task)
    spec = task.spec
    assert isinstance(spec, Train)
    base = task.model(spec.base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=spec.trust_remote_code)
    examples, dropped = examples_of(spec, task, tokenizer, end_tokens(base, tokenizer, spec.trust_remote_code))
    check_training(task, tokenizer, base, examples)
    kept, held_out = split(examples, spec)
    rows: list[Any] = packed(kept, spec.cutoff) if spec.packing else kept
    batch = packs_of_a_step(spec.batch, len(rows), len(kept)) if spec.packing else spec.batch
    of = steps(len(rows), batch, world(), task.machine.training(task.spec).micro_batch)
    order = InSteps(of, spec.seed, empty=len(rows))
    watch = callback(task, spec.precision, order)
    at_most = steps_at_most(spec, kept, of)
    trainer = _trainer(settings(task, spec, of, at_most), task, base, tokenizer, rows, held_out, order, watch)
    if trainer.args.padding_free:
        check_packed_batch(task, tokenizer, base, trainer.data_collator(rows[: of.micro]))
    outcome = course.go(trainer, task)
    measured = _measured(trainer) if held_out else {}
    save(trainer, spec, base, task.out, task.scratch)
    shared = {"rows": len(rows), "rows_of_a_step": batch} if spec.packing else {}
    counts = {
        "examples": len(kept),
        "dropped": dropped,
        "tokens": sum(len(example["input_ids"]) for example in kept),
        "target_tokens": _targets(kept),
        "learnt_tokens": _targets(rows[i] for i in order.first(trainer.state.global_step)),
    }
    return Result(counts | course.facts(trainer, task, outcome, watch.ends) | shared | measured)


def examples_of(
    spec: Train, task: Task, tokenizer: Any, eos: list[int]
) -> tuple[list[dict[str, list[int]]], dict[str, int]]:
    """The tokenized examples in the order of the data's rows, and the number dropped for their length."""
    source = task.input(spec.data)
    pools = [task.store.pool(pool) for pool in source.pools]
    end = end_id(tokenizer, eos)
    rows = find(pools, read_rows(task.rows(spec.data)))
    examples = [example(tokenizer, row.prompt, row.target, spec.system, end, **spec.template_kwargs) for row in rows]
    short = [example for example in examples if len(example["input_ids"]) <= spec.cutoff]
    if not short:
        raise MicotaError(
            f"all {len(examples)} examples are longer than the cutoff of {spec.cutoff} tokens",
            why="an example that is cut would teach a response without an EOS token",
            fix=f"raise cutoff: the shortest has {min(len(one['input_ids']) for one in examples)} tokens",
        )
    return short, {"too_long": len(examples) - len(short)} if len(short) < len(examples) else {}


def split(examples: list[Example], spec: Train) -> tuple[list[Example], list[Example]]:
    """The examples to train on, and those held out, which the seed chooses."""
    if not spec.held_out:
        return examples, []
    if spec.held_out >= len(examples):
        raise MicotaError(
            f"held_out is {spec.held_out}, and there are {len(examples)} examples: none is left to train on",
            fix="hold out fewer",
        )
    chosen = set(random.Random(spec.seed).sample(range(len(examples)), spec.held_out))
    held_out = [example for i, example in enumerate(examples) if i in chosen]
    return [example for i, example in enumerate(examples) if i not in chosen], held_out


def steps_at_most(spec: Train, examples: list[Example], of: Steps) -> int | None:
    """Optimizer steps at most; None if the epochs decide.

    With `target_tokens`, the fewest steps that reach them, counted by the mean step of an epoch.
    """
    if spec.target_tokens is None:
        return spec.max_steps
    return -(-spec.target_tokens * of.of_an_epoch // _targets(examples))


def _targets(examples: Iterable[Example]) -> int:
    """The target tokens of examples: those of the responses and their EOS."""
    return sum(label != -100 for example in examples for label in example["labels"])


def _trainer(
    arguments: dict[str, Any],
    task: Task,
    base: Path,
    tokenizer: Any,
    rows: list[Any],
    held_out: list[Example],
    order: InSteps,
    watch: Any,
) -> Any:
    import datasets
    import transformers
    import trl

    spec = task.spec
    assert isinstance(spec, Train)
    datasets.disable_progress_bars()
    config = trl.SFTConfig(**arguments)  # before the model is loaded: it decides how the model is sharded
    empty = EMPTY | ({"seq_lengths": [2]} if spec.packing else {})

    class Trainer(trl.SFTTrainer):  # type: ignore[misc]
        def _get_train_sampler(self, train_dataset: Any = None) -> InSteps:
            return order

    model = load(task, spec, base)
    trainer = Trainer(
        model=model,
        args=config,
        train_dataset=datasets.Dataset.from_list([*rows, empty]),
        eval_dataset=datasets.Dataset.from_list(held_out) if held_out else None,
        processing_class=tokenizer,
        peft_config=adapter(spec.lora, model) if spec.lora else None,
        callbacks=[watch],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _measured(trainer: Any) -> dict[str, Any]:
    """The held-out loss after each epoch and at the end: nats of a target token, the mean over examples."""
    losses = {log["step"]: log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log}
    if trainer.state.global_step not in losses:
        losses[trainer.state.global_step] = trainer.evaluate()["eval_loss"]
    return {"held_out_loss": [(step, round(loss, 5)) for step, loss in sorted(losses.items())]}
