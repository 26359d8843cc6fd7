"""Pre-training of the lab's models: a Qwen2 of 0.1 to 0.6 million parameters, on one CPU thread.

It may be killed at any time: from its last checkpoint it ends with the same bits, since every batch is a function of
seed, phase and step alone.
"""

import io
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micota.errors import MicotaError, Stopped
from micota.lab.documents import Batch, batch, held_out
from micota.lab.tokenizer import BOS, EOS, PAD, build, digits
from micota.pretrained import load
from micota.specs import Pretrain, Shape
from micota.training.checkpoints import damaged, read_file, write_file
from micota.worlds.workings import DETERMINED, World

if TYPE_CHECKING:
    import torch
    from transformers import Qwen2ForCausalLM

Report = Callable[[int, int, str], None]
"""Called with the steps done, the steps in all, and a note."""
Facts = dict[str, Any]


def pretrain(
    spec: Pretrain,
    out: Path,
    checkpoint: Path,
    base: Path | None,
    report: Report,
    stop: Callable[[], bool],
    every: int,
) -> Facts:
    """Write the model folder of a spec, from the file `checkpoint` on where there is one.

    `base` is the folder of the model that the spec continues from. A checkpoint is written every `every` steps, and
    when `stop()` is true, which raises Stopped. Returns the steps, the tokens seen (without padding), the last loss in
    nats per token, and the number of parameters. Always on one thread: with more, the weights would differ in bits.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    with single_threaded():
        model = create(spec.shape, spec.seed, spec.world) if spec.shape else _load(base, spec.world)
        facts = _train(model, spec, checkpoint, report, stop, every)
    save(model, out, spec.world)
    parameters = sum(weight.numel() for weight in model.parameters())
    return {**facts, "parameters": parameters, **damaged(checkpoint.parent)}


@contextmanager
def single_threaded() -> Iterator[None]:
    """Torch computes on one thread inside, so that its sums are always the same."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(
    model: "Qwen2ForCausalLM",
    spec: Pretrain,
    checkpoint: Path,
    report: Report,
    stop: Callable[[], bool],
    every: int,
) -> Facts:
    """All phases; each begins with a fresh optimizer."""
    lengths = [phase.steps for phase in spec.phases]
    facts: Facts = {"steps": 0, "tokens": 0, "loss": None, "phases": lengths}
    optimizer = _optimizer(model)
    if (saved := read_file(checkpoint)) is not None:
        facts |= _resume(saved, model, optimizer)
        lengths = facts["phases"]
    while (done := facts["steps"]) < sum(lengths):
        index, local = _locate(lengths, done)
        if local == 0:
            optimizer = _optimizer(model)
        loss, tokens = _train_step(model, optimizer, spec, index, local)
        if _has_learnt(model, spec, index, local + 1):
            lengths[index] = local + 1
        facts |= {"steps": done + 1, "tokens": facts["tokens"] + tokens, "loss": round(loss, 5)}
        stopping = stop()
        if stopping or (done + 1) % every == 0 or done + 1 == sum(lengths):
            _write_checkpoint(checkpoint, model, optimizer, facts)
        report(done + 1, sum(lengths), f"{spec.phases[index].style}: loss {loss:.3f}")
        if stopping:
            raise Stopped("stopped at a checkpoint")
    return facts


def create(shape: Shape, seed: int, world: World = "arithmetic") -> "Qwen2ForCausalLM":
    """A model of this size with fresh weights, for the tokens of a world."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=len(build(world)),
        hidden_size=shape.width,
        intermediate_size=shape.feedforward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
        initializer_range=0.5 * shape.width**-0.5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def _load(base: Path | None, world: World) -> "Qwen2ForCausalLM":
    """The model of a folder in fp32; one that was not made with the world's tokenizer is a MicotaError."""
    import torch
    from transformers import AutoTokenizer

    assert base is not None, "a spec without a shape has a base"
    if AutoTokenizer.from_pretrained(base).get_vocab() != build(world).get_vocab():
        raise MicotaError(
            f"the base {base} does not have the lab's tokenizer for {world}",
            why=f"the documents of pre-training are written in its {len(build(world))} tokens",
            fix=f"take a base that was made with world: {world}, or a shape in its place; or `train` on data",
        )
    model: Qwen2ForCausalLM = load(base, dtype=torch.float32)
    return model.train()


def save(model: "Qwen2ForCausalLM", out: Path, world: World = "arithmetic") -> None:
    """Write a Hugging Face folder: fp32 weights, configuration, greedy generation, tokenizer and template."""
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens=512, bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD
    )
    model.save_pretrained(out)
    build(world).save_pretrained(out)


def _locate(lengths: Sequence[int], step: int) -> tuple[int, int]:
    """The phase in which a step of the whole run falls, and the step's place in it."""
    for index, steps in enumerate(lengths):
        if step < steps:
            return index, step
        step -= steps
    raise IndexError(step)


def _has_learnt(model: "Qwen2ForCausalLM", spec: Pretrain, index: int, done: int) -> bool:
    """Whether a phase ends here, by its rule `until`."""
    phase = spec.phases[index]
    if phase.until is None or done % phase.every:
        return False
    batches = held_out(phase, spec.world, spec.window, spec.seed)
    counted = None if phase.style in DETERMINED else digits(spec.world)
    return share_right(model, batches, counted) >= phase.until


def share_right(model: "Qwen2ForCausalLM", batches: Sequence[Batch], only: frozenset[int] | None = None) -> float:
    """The share of workings in which each token is the likeliest behind the right text before it; `only` these count.

    With every token that is the share of problems that the model, asked greedily, answers in just these workings.
    """
    import torch

    right: list[bool] = []
    with torch.no_grad():
        for tokens, labels in batches:
            missed = model(input_ids=tokens, use_cache=False).logits.argmax(-1) != labels
            counted = torch.isin(labels, torch.tensor(sorted(only))) if only else labels >= 0
            right += (~(missed & counted).any(-1)).tolist()
    return sum(right) / len(right)


def _optimizer(model: "Qwen2ForCausalLM") -> "torch.optim.Optimizer":
    import torch

    matrices = [weight for weight in model.parameters() if weight.dim() == 2]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)


def _train_step(
    model: "Qwen2ForCausalLM", optimizer: "torch.optim.Optimizer", spec: Pretrain, index: int, step: int
) -> tuple[float, int]:
    """One update on the batch that belongs to this step: its loss, which covers the responses, and its tokens."""
    import torch

    phase = spec.phases[index]
    tokens, labels = batch(spec, index, step)
    for group in optimizer.param_groups:
        group["lr"] = phase.lr * _schedule(step, phase.steps)
    logits = model(input_ids=tokens, use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item(), int((tokens != PAD).sum())


def _schedule(step: int, steps: int) -> float:
    """A short warm-up, then a cosine down to a twentieth."""
    warm = min(1.0, (step + 1) / min(100, steps // 6 + 1))
    return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _write_checkpoint(path: Path, model: "Qwen2ForCausalLM", optimizer: "torch.optim.Optimizer", facts: Facts) -> None:
    """Write a checkpoint; a kill leaves the old one or the new one."""
    import torch

    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "facts": facts}
    write_file(path, lambda temporary: torch.save(state, temporary))


def _resume(data: bytes, model: "Qwen2ForCausalLM", optimizer: "torch.optim.Optimizer") -> Facts:
    """Load a checkpoint; the facts that it was written with."""
    import torch

    saved = torch.load(io.BytesIO(data))
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    facts: Facts = saved["facts"]
    return facts
