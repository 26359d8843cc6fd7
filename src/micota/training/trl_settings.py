"""TRL's settings from a spec and a machine profile, and the model as it is loaded for training."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from micota import pretrained
from micota.errors import MicotaError
from micota.specs import BETA, FineTuned, Lora, OnPolicyDistillation, Train
from micota.store.task import Task
from micota.training.sft_examples import Steps


def world() -> int:
    """The processes that train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def settings(task: Task, spec: Train, of: Steps, steps: int | None) -> dict[str, Any]:
    """The arguments of trl.SFTConfig. TRL computes the loss in chunks: it never holds all logits at once."""
    return _common(task, spec, of, steps) | {
        "num_train_epochs": spec.epochs,
        "max_length": None,  # longer examples were dropped and counted: nothing is cut
        "packing": False,  # rows come packed
        "padding_free": spec.packing or task.machine.training(task.spec).padding_free,
        "eval_strategy": "epoch" if spec.held_out else "no",
        "prediction_loss_only": True,
    }


def distillation_settings(task: Task, spec: OnPolicyDistillation, of: Steps, longest: int) -> dict[str, Any]:
    """The arguments of trl.DistillationConfig; an answer has at most `longest` tokens. Its loss is chunked too."""
    return _common(task, spec, of, spec.steps) | {
        "beta": BETA[spec.divergence],
        "temperature": spec.temperature,
        "max_completion_length": longest,
        "shuffle_dataset": False,  # prompts come in their order
        "disable_dropout": True,
    }


def _common(task: Task, spec: FineTuned, of: Steps, steps: int | None) -> dict[str, Any]:
    config = task.machine.training(spec)
    on_cpu = config.device == "cpu"
    if "tensorboard" in config.report_to:  # its default is beside the checkpoints, which are removed at the end
        os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(task.store.root / "trackers" / spec.id))
    recompute = not on_cpu if config.activation_checkpointing is None else config.activation_checkpointing
    return {
        "output_dir": str(task.scratch / "checkpoints"),
        "run_name": f"{spec.kind}-{spec.digest}",
        "per_device_train_batch_size": of.micro,
        "per_device_eval_batch_size": 1,
        "gradient_accumulation_steps": of.accumulate,
        "max_steps": steps or -1,
        "learning_rate": spec.lr,
        "lr_scheduler_type": spec.schedule,
        "warmup_steps": spec.warmup,
        "weight_decay": spec.weight_decay,
        "max_grad_norm": spec.max_grad_norm,
        "optim": "adamw_torch",
        "seed": spec.seed,
        "data_seed": spec.seed,
        "bf16": spec.precision == "bfloat16",
        "fp16": spec.precision == "float16",
        "use_cpu": on_cpu,
        "activation_checkpointing": recompute,
        "dataloader_pin_memory": not on_cpu,
        "save_strategy": "steps",
        "save_steps": config.checkpoint_every,
        "save_total_limit": config.keep_checkpoints,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": list(config.report_to) or "none",
        "disable_tqdm": True,
    }


def load(task: Task, spec: FineTuned, base: Path) -> Any:
    """The base model. All parameters train in float32, whatever the base is stored in; frozen ones keep the precision.

    Call it after SFTConfig was constructed: then each process loads only the part that it will hold.
    """
    import torch

    options: dict[str, Any] = {"trust_remote_code": spec.trust_remote_code}
    if task.machine.training(task.spec).attention:
        options["attn_implementation"] = task.machine.training(task.spec).attention
    if spec.lora and spec.lora.quantize:
        options |= {"quantization_config": _four_bits(spec), "device_map": {"": device(task)}}
    options["dtype"] = getattr(torch, spec.precision) if spec.lora else torch.float32
    return pretrained.load(base, **options)


def adapter(lora: Lora, model: Any) -> Any:
    """peft's configuration of the adapters: by default on all linear layers that an adapter can take part in."""
    with needing_peft():
        import peft

    idle = [name for name in pretrained.without_adapter(model) if not lora.targets or name.endswith(lora.targets)]
    return peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets) or "all-linear",
        exclude_modules=idle or None,
        task_type="CAUSAL_LM",
    )


@contextlib.contextmanager
def needing_peft() -> Any:
    """Turn a missing library into an error that says how to install it."""
    try:
        yield
    except ImportError as error:
        raise MicotaError(f"training with adapters needs {error.name}", fix='pip install "micota[lora]"') from None


def _four_bits(spec: FineTuned) -> Any:
    """QLoRA's: NF4 with quantized constants, computing in the precision of the recipe (Dettmers et al., 2305.14314)."""
    import torch
    import transformers

    with needing_peft():
        import bitsandbytes  # noqa: F401
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, spec.precision),
    )


def device(task: Task) -> str | int:
    """Where this process of a training works."""
    return "cpu" if task.machine.training(task.spec).device == "cpu" else int(os.environ.get("LOCAL_RANK", "0"))
