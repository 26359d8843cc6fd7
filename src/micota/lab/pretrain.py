"""Pre-training of the three models that ship with the package: `teacher`, `ta` and `student`.

Each is a Qwen2 of a tenth to half a million parameters. It first learns the world in every length of working:
merging meets a barrier between models whose common base does not know both styles. Then it is lightly tuned
to one, the teacher to the long style, the others to the terse. The student never sees a document beyond its
window of 128 tokens, so the teacher's chains, of 200 and more, exceed anything it knows.

`pretrain` may be killed at any time. The same call goes on from the last checkpoint and ends with the same
bits, as every batch is a function of the seed, the phase and the step alone.
"""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError
from micota.lab.documents import Phase, batch
from micota.lab.tokenizer import BOS, EOS, PAD, SYMBOLS, build

if TYPE_CHECKING:
    import torch
    from transformers import Qwen2ForCausalLM

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Design:
    """A model's size and what it is trained on."""

    width: int
    layers: int
    heads: int
    feedforward: int
    phases: tuple[Phase, ...]
    window: int = 512
    """The longest document, in tokens; a longer one is never seen."""


DESIGNS = {
    "teacher": Design(
        width=128,
        layers=3,
        heads=4,
        feedforward=320,
        phases=(Phase("basics", 500, 2e-3), Phase("mixed", 300, 1.5e-3), Phase("long", 900, 1e-3, 32, 2)),
    ),
    "ta": Design(
        width=96,
        layers=3,
        heads=3,
        feedforward=256,
        phases=(
            Phase("basics", 1500, 2e-3),
            Phase("mixed", 1000, 1.5e-3),
            Phase("mixed", 1000, 1e-3),
            Phase("instruct", 60, 3e-4, 32, 3),
        ),
    ),
    "student": Design(
        width=64,
        layers=2,
        heads=2,
        feedforward=128,
        phases=(
            Phase("basics", 1400, 3e-3),
            Phase("mixed", 1200, 2e-3, 64, 2),
            Phase("mixed", 400, 1e-3, 64, 2),
            Phase("terse", 150, 1e-3, 32, 3),
        ),
        window=128,
    ),
}


def pretrain(
    out: Path,
    name: str,
    seed: int = 0,
    progress: Progress | None = None,
    design: Design | None = None,
    every: int = 100,
) -> None:
    """Make the model `name` in the folder `out`, or go on with it; a finished folder is left alone.

    `design` replaces the one that `DESIGNS` holds under the name. Every `every` steps a checkpoint is
    written beside the model's files, to be removed at the end, and `progress` is told the steps done, the
    steps in all and a note. It computes on one thread; with another number the bits would differ.
    """
    design = design or DESIGNS[name]
    checkpoint = out / "checkpoint.pt"
    if (out / "model.safetensors").exists() and not checkpoint.exists():
        return
    out.mkdir(parents=True, exist_ok=True)
    with _one_thread():
        model = create(design, seed)
        _train(model, design, seed, checkpoint, every, progress)
    save(model, out)
    checkpoint.unlink()


def _train(
    model: "Qwen2ForCausalLM",
    design: Design,
    seed: int,
    checkpoint: Path,
    every: int,
    progress: Progress | None,
) -> None:
    """All phases, from the checkpoint on where there is one."""
    start, total = 0, sum(phase.steps for phase in design.phases)
    optimizer = _optimizer(model)
    if checkpoint.exists():
        start = _resume(checkpoint, model, optimizer, made_by=f"{design} {seed}")
    for step in range(start, total):
        index, local = _locate(design, step)
        if local == 0:
            optimizer = _optimizer(model)
        loss = _train_step(model, optimizer, design, seed, index, local)
        if (step + 1) % every == 0 or step + 1 == total:
            _keep(checkpoint, model, optimizer, step=step + 1, made_by=f"{design} {seed}")
            if progress:
                progress(step + 1, total, f"{design.phases[index].style}: loss {loss:.3f}")


def create(design: Design, seed: int) -> "Qwen2ForCausalLM":
    """A model of the design's size with fresh weights."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(SYMBOLS),
        hidden_size=design.width,
        intermediate_size=design.feedforward,
        num_hidden_layers=design.layers,
        num_attention_heads=design.heads,
        num_key_value_heads=design.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        initializer_range=0.5 * design.width**-0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def save(model: "Qwen2ForCausalLM", out: Path) -> None:
    """Write a Hugging Face folder: fp32 weights, configuration, greedy generation, tokenizer and template."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=512, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD
    )
    model.save_pretrained(out)
    build().save_pretrained(out)


def _locate(design: Design, step: int) -> tuple[int, int]:
    """The phase in which a step of the whole run falls, and the step's place in it."""
    for index, phase in enumerate(design.phases):
        if step < phase.steps:
            return index, step
        step -= phase.steps
    raise IndexError(step)


def _optimizer(model: "Qwen2ForCausalLM") -> "torch.optim.Optimizer":
    import torch

    matrices = [weight for weight in model.parameters() if weight.dim() == 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def _train_step(
    model: "Qwen2ForCausalLM",
    optimizer: "torch.optim.Optimizer",
    design: Design,
    seed: int,
    index: int,
    step: int,
) -> float:
    """One update on the batch that belongs to this step; the loss covers the response and its end."""
    import torch

    phase = design.phases[index]
    tokens, labels = batch(phase, design.window, key=f"{seed} {index}", step=step)
    for group in optimizer.param_groups:
        group["lr"] = phase.rate * _schedule(step, phase.steps)
    logits = model(input_ids=tokens, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def _schedule(step: int, steps: int) -> float:
    """A short warm-up, then a cosine down to a twentieth."""
    warm = min(1.0, (step + 1) / min(100, steps // 6 + 1))
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _keep(path: Path, model: "Qwen2ForCausalLM", optimizer: "torch.optim.Optimizer", **facts: Any) -> None:
    """Write a checkpoint aside, then rename: a kill leaves the old one or the new one."""
    import torch

    aside = path.with_suffix(".new")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), **facts}, aside)
    os.replace(aside, path)


def _resume(path: Path, model: "Qwen2ForCausalLM", optimizer: "torch.optim.Optimizer", made_by: str) -> int:
    """Load a checkpoint of the same design and seed; the number of steps it has done."""
    import torch

    saved = torch.load(path)
    if saved["made_by"] != made_by:
        raise MicotaError(
            f"{path} was written by another design or seed",
            why="going on from it would mix the two",
            fix="remove the file, or choose another folder",
        )
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    return int(saved["step"])


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for as long as this lasts."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
