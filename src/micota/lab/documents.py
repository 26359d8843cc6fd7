"""The documents of pre-training: problems with their workings, in batches that are functions of seed and step.

A batch holds documents of similar length, which saves padding: sixteen batches are sampled together and sorted.
"""

import random
from functools import lru_cache
from typing import TYPE_CHECKING

from micota.errors import MicotaError
from micota.lab.tokenizer import PAD, build
from micota.specs import Phase, Pretrain
from micota.worlds.workings import WORLDS, Split, World, compose, split_of

if TYPE_CHECKING:
    import torch

Batch = tuple["torch.Tensor", "torch.Tensor"]
Document = tuple[list[int], int]
"""Token ids, and where the response begins."""
GROUP = 16


def batch(spec: Pretrain, index: int, step: int) -> Batch:
    """The batch of one step of a phase: token ids and labels, both [batch, length]. No document exceeds the window."""
    key = f"{spec.seed} {spec.first + index} {step // GROUP}"
    return _group(spec.phases[index], spec.world, spec.window, key)[step % GROUP]


@lru_cache(maxsize=2)
def _group(phase: Phase, world: World, window: int, key: str) -> list[Batch]:
    """`GROUP` batches, shuffled, each of documents of similar length; a function of its arguments alone."""
    rng = random.Random(key)
    documents = _sorted(phase, world, window, rng, GROUP * phase.batch)
    starts = list(range(0, len(documents), phase.batch))
    rng.shuffle(starts)
    return [collate(documents[start : start + phase.batch]) for start in starts]


@lru_cache(maxsize=1)
def held_out(phase: Phase, world: World, window: int, seed: int) -> list[Batch]:
    """The 500 documents by which `until` ends a phase, in five batches: as those of training, of the dev split."""
    documents = _sorted(phase, world, window, random.Random(f"held out {seed}"), 500, "dev")
    return [collate(documents[start : start + 100]) for start in range(0, 500, 100)]


def _sorted(
    phase: Phase, world: World, window: int, rng: random.Random, count: int, split: Split = "train"
) -> list[Document]:
    documents: list[Document] = []
    while len(documents) < count:
        documents += _write(phase, world, window, rng, split)
    return sorted(documents[:count], key=lambda document: len(document[0]))


def _write(phase: Phase, world: World, window: int, rng: random.Random, split: Split) -> list[Document]:
    """A few hundred documents of a split's problems: token ids, and where the response begins."""
    prompts, texts = [], []
    for _ in range(256):
        chain = WORLDS[world].draw(rng, phase.shortest)
        if split_of(chain.text) == split:
            prompts.append(f"<bos><user>{chain.text}<assistant>")
            texts.append(f"{prompts[-1]}{compose(phase.style, chain, rng)}<eos>")
    tokenizer = build(world)
    heads, rows = tokenizer(prompts)["input_ids"], tokenizer(texts)["input_ids"]
    documents = [(row, len(head)) for head, row in zip(heads, rows, strict=True) if len(row) <= window]
    if not documents:
        raise MicotaError(
            f"none of {len(rows)} documents of the style '{phase.style}' fits the window of {window} tokens",
            fix=f"widen the window (the shortest of them has {min(map(len, rows))} tokens), or lower shortest",
        )
    return documents


def collate(documents: list[Document]) -> Batch:
    """Token ids padded on the right, and labels already shifted by one: -100 on prompt and padding."""
    import torch

    longest = max(len(row) for row, _ in documents)
    tokens = torch.full((len(documents), longest), PAD)
    labels = torch.full((len(documents), longest), -100)
    for place, (row, begin) in enumerate(documents):
        tokens[place, : len(row)] = torch.tensor(row)
        labels[place, begin - 1 : len(row) - 1] = torch.tensor(row[begin:])
    return tokens, labels
