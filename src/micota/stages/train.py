"""Fine-tune a model on responses: plain SFT through TRL, all parameters, loss on the response and its end token.

Runs in one process or under any launcher of accelerate. Goes on from its last whole checkpoint; SIGTERM writes one.
"""

from __future__ import annotations

import copy
import math
import os
from pathlib import Path
from typing import Any

from micota.checkpoints import copy_companions
from micota.errors import MicotaError, Stopped
from micota.lint import before_training
from micota.pool import find
from micota.prompts import end_id, eos_ids, example
from micota.records import read_rows
from micota.specs import Train
from micota.store import Result
from micota.task import Task

COMPLETE = "complete"  # written into a checkpoint's folder after everything else


def run(task: Task) -> Result:
    """Write a model folder. Every rank comes here; only rank 0 writes."""
    import torch
    import transformers

    torch.set_num_threads(task.machine.threads)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    spec = task.spec
    assert isinstance(spec, Train)
    base = task.model(spec.base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base, trust_remote_code=spec.trust_remote_code)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, trust_remote_code=spec.trust_remote_code
    )
    examples, dropped = examples_of(spec, task, tokenizer, eos_ids(model.generation_config, tokenizer))
    before_training(task, tokenizer, model.generation_config, model.config, examples)
    config = copy.deepcopy(model.config)  # the trainer switches the cache off and moves special tokens about
    trainer = _trainer(task, spec, model, tokenizer, examples)
    outcome = trainer.train(resume_from_checkpoint=last_checkpoint(task.scratch / "checkpoints"))
    if task.progress.stop.is_set():
        raise Stopped("stopped at a checkpoint")
    trainer.model.config = config
    _save(trainer, spec, base, task.out)
    return Result(_facts(trainer, outcome, examples, dropped))


def examples_of(
    spec: Train, task: Task, tokenizer: Any, eos: list[int]
) -> tuple[list[dict[str, list[int]]], dict[str, int]]:
    """The tokenised examples in the order of the data's rows, and how many were dropped for their length."""
    source = task.input(spec.data)
    pools = [task.store.pool(pool) for pool in source.pools]
    end = end_id(tokenizer, eos)
    rows = find(pools, read_rows(task.rows(spec.data)))
    made = [example(tokenizer, row.prompt, row.target, spec.system, end) for row in rows]
    kept = [one for one in made if len(one["input_ids"]) <= spec.cutoff]
    if not kept:
        raise MicotaError(
            f"all {len(made)} examples are longer than the cutoff of {spec.cutoff} tokens",
            why="an example that is cut would teach a response without an end",
            fix=f"raise cutoff: the shortest has {min(len(one['input_ids']) for one in made)} tokens",
        )
    return kept, {"too_long": len(made) - len(kept)} if len(kept) < len(made) else {}


def micro_batch(batch: int, world: int, wanted: int) -> tuple[int, int]:
    """(examples at once on each device, accumulation steps) whose product with `world` is the batch."""
    if batch % world:
        raise MicotaError(
            f"a batch of {batch} examples cannot be split over {world} processes",
            fix="take a number of processes that divides the batch",
        )
    share = batch // world
    micro = max(size for size in range(1, min(wanted, share) + 1) if share % size == 0)
    return micro, share // micro


def steps_of(spec: Train, examples: list[dict[str, list[int]]]) -> int | None:
    """Optimizer steps at most, None if the epochs decide.

    Of `target_tokens` they are the fewest that reach them, where a step learns the mean of an epoch's steps.
    """
    if spec.target_tokens is None:
        return spec.max_steps
    of_an_epoch = math.ceil(len(examples) / spec.batch)
    return -(-spec.target_tokens * of_an_epoch // _targets(examples))


def _targets(examples: list[dict[str, list[int]]]) -> int:
    """The tokens of an epoch that are learnt: those of the responses and their end."""
    return sum(label != -100 for one in examples for label in one["labels"])


def _trainer(task: Task, spec: Train, model: Any, tokenizer: Any, examples: list[dict[str, list[int]]]) -> Any:
    import datasets
    import transformers
    import trl

    datasets.disable_progress_bars()
    trainer = trl.SFTTrainer(
        model=model,
        args=trl.SFTConfig(**_settings(task, spec, steps_of(spec, examples))),
        train_dataset=datasets.Dataset.from_list(examples),
        processing_class=tokenizer,
        callbacks=[_callback(task)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _settings(task: Task, spec: Train, steps: int | None) -> dict[str, Any]:
    micro, accumulate = micro_batch(spec.batch, int(os.environ.get("WORLD_SIZE", "1")), task.place.micro_batch)
    on_cpu = task.place.device == "cpu"
    return {
        "output_dir": str(task.scratch / "checkpoints"),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": accumulate,
        "num_train_epochs": spec.epochs,
        "max_steps": steps or -1,
        "learning_rate": spec.lr,
        "lr_scheduler_type": spec.schedule,
        "warmup_steps": spec.warmup,
        "weight_decay": spec.weight_decay,
        "max_grad_norm": spec.max_grad_norm,
        "optim": "adamw_torch",
        "seed": spec.seed,
        "data_seed": spec.seed,
        "max_length": None,  # longer examples were dropped and counted: nothing is cut
        "packing": False,
        "bf16": spec.precision == "bfloat16",
        "fp16": spec.precision == "float16",
        "use_cpu": on_cpu,
        "activation_checkpointing": not on_cpu,
        "dataloader_pin_memory": not on_cpu,
        "save_strategy": "steps",
        "save_steps": task.place.checkpoint_every,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


def _callback(task: Task) -> Any:
    """Reports each step, marks whole checkpoints, and turns a request to stop into a checkpoint and an end."""
    import transformers

    class Callback(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            loss = next((f"loss {log['loss']:.3f}" for log in reversed(state.log_history) if "loss" in log), "")
            if state.is_world_process_zero:
                task.progress.report(state.global_step, state.max_steps, "steps", loss)
            if task.progress.stop.is_set():
                control.should_save = control.should_training_stop = True

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.is_world_process_zero:
                Path(args.output_dir, f"checkpoint-{state.global_step}", COMPLETE).touch()

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "loss" in logs and not float(logs["loss"]) < float("inf"):
                raise MicotaError(
                    f"the loss is {logs['loss']} at step {state.global_step}",
                    why="the weights are lost from here on",
                    fix="lower lr, or look for broken rows in the data",
                )

    return Callback()


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that was written whole; a kill can leave a newer one in pieces."""
    steps = {int(path.parent.name.partition("-")[2]): path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE}")}
    return str(steps[max(steps)]) if steps else None


def _save(trainer: Any, spec: Train, base: Path, out: Path) -> None:
    """Save the weights in the precision of the recipe; tokenizer, template and generation config are the base's own."""
    import torch

    trainer.model.to(getattr(torch, spec.precision))
    trainer.save_model(str(out))
    if trainer.is_world_process_zero():
        (out / "training_args.bin").unlink(missing_ok=True)
        copy_companions(base, out)


def _facts(trainer: Any, outcome: Any, examples: list[dict[str, list[int]]], dropped: dict[str, int]) -> dict[str, Any]:
    losses = [(log["step"], round(log["loss"], 5)) for log in trainer.state.log_history if "loss" in log]
    target = _targets(examples)
    return {
        "examples": len(examples),
        "dropped": dropped,
        "steps": trainer.state.global_step,
        "tokens": sum(len(one["input_ids"]) for one in examples),
        "target_tokens": target,
        "learnt_tokens": round(target * trainer.state.epoch),  # exact after whole epochs, in between by their mean
        "loss": losses[:: max(1, len(losses) // 200)],
        "final_loss": outcome.training_loss if not losses else losses[-1][1],
    }
