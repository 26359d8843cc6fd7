"""Bits per character of a data set's responses under a model, given the prompts (Eq. 3 of the paper)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from micota.chat import example
from micota.pretrained import load
from micota.specs import Bpc
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.pool import find
from micota.store.records import Completion, read_rows, write_rows
from micota.store.task import Task


def run(task: Task) -> Result:
    """Write rows {key, sample, nats, tokens, characters, bytes} and their sums as facts.

    The value of a data set is the sum of the nats over the sum of the characters; the mean over rows is a fact too.
    Characters are code points. The EOS token belongs to no character and is left out.
    """
    spec = task.spec
    assert isinstance(spec, Bpc)
    source = task.input(spec.data)
    chosen = list(find([task.store.pool(pool) for pool in source.pools], read_rows(task.rows(spec.data))))
    rows: list[dict[str, Any]] = []
    for measured in _measured(task, spec, chosen):
        rows += measured
        task.progress(len(rows), len(chosen), "responses")
    write_rows(task.out / "rows.jsonl", rows)
    return Result(summary(rows))


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Nats and bits for each character and each byte of UTF-8, over all rows together and as the mean of the rows."""
    nats, tokens, characters, bytes_ = (
        sum(row[name] for row in rows) for name in ("nats", "tokens", "characters", "bytes")
    )
    return {
        "rows": len(rows),
        "tokens": tokens,
        "characters": characters,
        "nats_per_character": nats / characters,
        "bits_per_character": nats / characters / math.log(2),
        "bits_per_byte": nats / bytes_ / math.log(2),
        "bits_per_character_mean_of_rows": mean([row["nats"] / row["characters"] for row in rows]) / math.log(2),
    }


def _measured(task: Task, spec: Bpc, chosen: list[Completion]) -> Iterator[list[dict[str, Any]]]:
    """Rows in batches of similar length: one forward pass for each batch."""
    import torch
    import transformers

    torch.set_num_threads(task.machine.threads)
    transformers.utils.logging.disable_progress_bar()
    folder = task.model(spec.model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = _loaded(task, spec, folder)
    system = next(iter(spec.data.system_messages), None)
    keywords = spec.template_kwargs
    pairs = [(row, example(tokenizer, row.prompt, row.target, system, 0, **keywords)) for row in chosen if row.target]
    pairs.sort(key=lambda pair: (len(pair[1]["input_ids"]), pair[0].key, pair[0].sample))
    for start in range(0, len(pairs), task.machine.bpc.batch):
        batch = pairs[start : start + task.machine.bpc.batch]
        nats = _nats(model, [tokens for _, tokens in batch])
        yield [_row(row, tokens, value) for (row, tokens), value in zip(batch, nats, strict=True)]


def _loaded(task: Task, spec: Bpc, folder: Path) -> Any:
    """The model, with its layers spread over several devices if the profile has them.

    It has the head that TRL trains with: all logits of a text of 16K tokens would be larger than the weights.
    """
    import torch
    from trl.trainer.utils import add_fused_lm_head

    several: dict[str, Any] = {"device_map": "auto"} if task.machine.bpc.devices > 1 else {}
    model = load(folder, dtype=getattr(torch, spec.precision), **several)
    if not several:
        model.to(task.machine.bpc.device)
    add_fused_lm_head(model)
    return model.eval()


def _nats(model: Any, batch: list[dict[str, list[int]]]) -> list[float]:
    """The negative log-likelihood of each row's response, in nats, summed in double precision."""
    import torch

    width = max(len(tokens["input_ids"]) for tokens in batch) - 1  # without EOS
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    labels = torch.full((len(batch), width), -100)
    mask = torch.zeros_like(ids)
    for i, tokens in enumerate(batch):
        length = len(tokens["input_ids"]) - 1
        ids[i, :length] = torch.tensor(tokens["input_ids"][:length])
        labels[i, :length] = torch.tensor(tokens["labels"][:length])
        mask[i, :length] = 1
    ids, labels, mask = (tensor.to(model.device) for tensor in (ids, labels, mask))
    with torch.no_grad():
        output = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False, fused_lm_head=True)
    return [-float(value) for value in output.log_probs.double().sum(1)]


def _row(row: Completion, example: dict[str, list[int]], nats: float) -> dict[str, Any]:
    tokens = sum(label != -100 for label in example["labels"]) - 1
    size = len(row.target.encode("utf-8", "surrogatepass"))
    return {
        "key": row.key,
        "sample": row.sample,
        "nats": nats,
        "tokens": tokens,
        "characters": len(row.target),
        "bytes": size,
    }
