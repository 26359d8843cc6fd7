"""Bits per character of a data set's responses under a model, given the prompts (Eq. 3 of the paper), and measures of
whether it can learn from them, in the same pass: rank-surprisal ratio, local log-probability, tokens beyond a context.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from micota.chat import example
from micota.errors import MicotaError
from micota.generation.prompt_encoder import check_keywords
from micota.pretrained import load
from micota.specs import Bpc, Data
from micota.stats import mean
from micota.store.artifacts import Result
from micota.store.checked import say
from micota.store.pool import find
from micota.store.records import Completion, read_rows, write_rows
from micota.store.task import Task
from micota.training.gradients import agreement, sample
from micota.training.head_product import check_product, head_scores, logit_form

Example = dict[str, list[int]]
TINY = 1e-9
"""Nats of a text that is predicted wholly: ratios to them stay finite."""


def run(task: Task) -> Result:
    """Write rows {key, sample, nats, tokens, characters, bytes} and their sums as facts.

    The value of a data set is the sum of the nats over the sum of the characters; the mean over rows is a fact too.
    Characters are code points. The EOS token belongs to no character and is left out. With `rsr` a row has `sha`,
    `ranks` (their clipped sum) and `rsr`; with `local` it has `steps` and `local`, with `context` it has `beyond`.
    Rows longer than the positions that the model was made for are measured too, counted (`beyond_positions`) and told.
    With `gradient` the cosine of two gradients is a fact.
    """
    spec = task.spec
    assert isinstance(spec, Bpc)
    chosen = _responses(task, spec.data)
    rows: list[dict[str, Any]] = []
    more: dict[str, Any] = {}
    for measured in _measured(task, spec, chosen, more):
        rows += measured
        task.progress(len(rows), len(chosen), "responses")
    write_rows(task.out / "rows.jsonl", rows)
    return Result(summary(rows) | learnability(rows) | more, list(task.input(spec.data).pools) if spec.rsr else [])


def _responses(task: Task, data: Data) -> list[Completion]:
    return list(find([task.store.pool(pool) for pool in task.input(data).pools], read_rows(task.rows(data))))


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


def learnability(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The measures of a set, as far as its rows have them; a response without a known token counts in none.

    Rank-surprisal ratio: mean of the rows' mean ranks over mean of their mean surprisals in nats (arXiv 2601.14249).
    Local log-probability: mean of the rows', in nats of a token. Beyond the context: share of all tokens.
    """
    rows = [row for row in rows if row["tokens"]]
    facts: dict[str, Any] = {}
    if rows and "ranks" in rows[0]:
        ranks, nats = (mean([row[name] / row["tokens"] for row in rows]) for name in ("ranks", "nats"))
        facts["rank_surprisal_ratio"] = ranks / max(nats, TINY)
    if rows and "local" in rows[0]:
        facts["local_log_probability"] = mean([row["local"] for row in rows])
    if rows and "beyond" in rows[0]:
        facts["beyond_context"] = sum(row["beyond"] for row in rows) / sum(row["tokens"] for row in rows)
    return facts


def _measured(task: Task, spec: Bpc, chosen: list[Completion], more: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Rows in batches of similar length: one forward pass for each batch, and one for each batch of windows.

    `more` gets the facts that no row has.
    """
    import torch
    import transformers

    torch.set_num_threads(task.machine.threads)
    transformers.utils.logging.disable_progress_bar()
    folder = task.model(spec.model)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    check_keywords(tokenizer, spec.template_kwargs)
    model = _loaded(task, spec, folder)
    system = next(iter(spec.data.system_messages), spec.system)
    keywords = spec.template_kwargs

    def examples_of(rows: list[Completion]) -> list[tuple[Completion, Example]]:
        return [(row, example(tokenizer, row.prompt, row.target, system, 0, **keywords)) for row in rows if row.target]

    pairs = examples_of(chosen)
    if spec.gradient:
        sides = [examples_of(sample(rows)) for rows in (chosen, _responses(task, spec.gradient))]
        cosine = agreement(model, *([_padded([one]) for _, one in side] for side in sides))
        more |= {"gradient_agreement": cosine} if math.isfinite(cosine) else {}
    pairs.sort(key=lambda pair: (len(pair[1]["input_ids"]), pair[0].key, pair[0].sample))
    more |= _beyond_positions(model.config.get_text_config(), [len(tokens["input_ids"]) - 1 for _, tokens in pairs])
    ends = cache(lambda token: spec.step_end in tokenizer.decode([token]))
    blank = cache(lambda token: not tokenizer.decode([token]).strip())
    for start in range(0, len(pairs), task.machine.bpc.batch):
        batch = pairs[start : start + task.machine.bpc.batch]
        examples = [tokens for _, tokens in batch]
        scores = _scores(model, examples, spec.rsr)
        rows = [_row(spec, row, tokens, *score) for (row, tokens), score in zip(batch, scores, strict=True)]
        if spec.local:
            steps = [windows(tokens, spec.local, tokenizer.bos_token_id, ends, blank) for tokens in examples]
            steps = [_spread(one, spec.local_steps or len(one)) for one in steps]
            rows = [
                row | local for row, local in zip(rows, _local(model, steps, len(examples[-1]["labels"])), strict=True)
            ]
        yield rows


def _beyond_positions(config: Any, lengths: list[int]) -> dict[str, int]:
    """How many rows are longer than the model reads, as a fact; what it says of the rest of them means little."""
    limit = getattr(config, "max_position_embeddings", None)
    beyond = sum(length > limit for length in lengths) if limit else 0
    if beyond:
        say(f"{beyond} of {len(lengths)} rows are longer than the {limit} tokens that the model was made for: `distill:"
            " {max_tokens: ...}` leaves such responses out")  # fmt: skip
    return {"beyond_positions": beyond} if beyond else {}


def _loaded(task: Task, spec: Bpc, folder: Path) -> Any:
    """The model, with its layers spread over several devices if the profile has them."""
    import torch

    several: dict[str, Any] = {"device_map": "auto"} if task.machine.bpc.devices > 1 else {}
    model = load(folder, dtype=getattr(torch, spec.precision), **several)
    if not several:
        model.to(task.machine.bpc.device)
    check_product(model.eval())
    return model


def _scores(model: Any, batch: list[Example], ranked: bool = False) -> list[tuple[float, int]]:
    """For each row the negative log-likelihood of its response in nats, and its ranks."""
    import torch

    ids, labels, mask = (tensor.to(model.device) for tensor in _padded(batch))
    with torch.no_grad():
        hidden = model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        form = logit_form(model.config.get_text_config())
        scores = head_scores(model.get_output_embeddings(), form, hidden[:, :-1], labels[:, 1:], ranked)
    if not all(math.isfinite(nats) for nats, _ in scores):
        fix = "precision: bfloat16 or float32; if it is, check the model's weights"
        raise MicotaError("the model's probabilities are no numbers", why="no measure of them would be one", fix=fix)
    return scores


def _padded(batch: list[Example]) -> tuple[Any, Any, Any]:
    """Tokens, labels and mask of rows (row, position), each without its EOS."""
    import torch

    width = max(len(tokens["input_ids"]) for tokens in batch) - 1
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    labels = torch.full((len(batch), width), -100)
    mask = torch.zeros_like(ids)
    for i, tokens in enumerate(batch):
        length = len(tokens["input_ids"]) - 1
        ids[i, :length] = torch.tensor(tokens["input_ids"][:length])
        labels[i, :length] = torch.tensor(tokens["labels"][:length])
        mask[i, :length] = 1
    return ids, labels, mask


Test = Callable[[int], bool]


def windows(tokens: Example, before: int, bos: int | None, ends: Test, blank: Test) -> list[Example]:
    """Each step of a response behind the `before` steps ahead of it, as examples with the step's tokens as labels.

    The prompt counts as the step ahead of the first; a BOS at its beginning stays at that of every window. A step ends
    with a token for which `ends` holds, and the `blank` tokens behind it.
    """
    ids, prompt = tokens["input_ids"][:-1], tokens["labels"].count(-100)
    starts, written, ended = [0, prompt], False, False
    for i in range(prompt, len(ids)):
        if ended and not blank(ids[i]):
            starts, written = [*starts, i], False
        written = written or not blank(ids[i])
        ended = written and (ends(ids[i]) or (ended and blank(ids[i])))
    examples = []
    for n, (own, end) in enumerate(zip(starts[1:], [*starts[2:], len(ids)], strict=True)):
        begin = starts[max(0, n + 1 - before)]
        window = (ids[:1] if begin and ids[0] == bos else []) + ids[begin:end]
        labels = [-100] * (len(window) - (end - own)) + ids[own:end]
        examples += [{"input_ids": [*window, 0], "labels": [*labels, 0]}] if end > own else []
    return examples


def _spread(steps: list[Example], most: int) -> list[Example]:
    """At most so many of the steps, the middle one of each of as many equal stretches."""
    return steps if len(steps) <= most else [steps[(2 * i + 1) * len(steps) // (2 * most)] for i in range(most)]


def _local(model: Any, steps: list[list[Example]], width: int) -> list[dict[str, Any]]:
    """For each row how many steps it has, and the mean of their mean log-probabilities, in nats of a token.

    Windows go through the model in batches of no more tokens than the rows themselves, `width` of each.
    """
    every = sorted(
        ((len(one["labels"]), row, i) for row, of in enumerate(steps) for i, one in enumerate(of)), reverse=True
    )
    means: list[list[float]] = [[] for _ in steps]
    while every:
        size = max(1, len(steps) * width // every[0][0])
        batch, every = [(row, steps[row][i]) for _, row, i in every[:size]], every[size:]
        for (row, window), (nats, _) in zip(batch, _scores(model, [one for _, one in batch]), strict=True):
            means[row].append(-nats / (sum(label != -100 for label in window["labels"]) - 1))
    return [{"steps": len(one), "local": mean(one) if one else None} for one in means]


def _row(spec: Bpc, row: Completion, example: Example, nats: float, ranks: int) -> dict[str, Any]:
    tokens = sum(label != -100 for label in example["labels"]) - 1
    size = len(row.target.encode("utf-8", "surrogatepass"))
    measured = {
        "key": row.key,
        "sample": row.sample,
        "nats": nats,
        "tokens": tokens,
        "characters": len(row.target),
        "bytes": size,
    }
    if spec.rsr:
        measured |= {"sha": row.sha, "ranks": ranks, "rsr": ranks / max(nats, TINY)}
    if spec.context:
        measured["beyond"] = max(0, min(tokens, len(example["labels"]) - 1 - spec.context))
    return measured
