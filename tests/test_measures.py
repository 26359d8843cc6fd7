"""Mixtures by share, and bits per character against a count by hand."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import World, kinds
from transformers import AutoModelForCausalLM, AutoTokenizer

from micota.report.files import write
from micota.specs import Train
from micota.store.records import read_rows

MORE = """
  other-set: {problems: {source: ./other.jsonl}}
  short-cot: {distil: {from: ta, data: other-set}}
  mixed: {mix: [{data: long-cot, share: 0.25}, {data: short-cot, share: 0.75}]}
arms:"""


@pytest.fixture
def mixed(world: World) -> World:
    text = (
        world.recipe_file.read_text()
        .replace("arms:", MORE, 1)
        .replace("base: student, data: long-cot", "base: student, data: mixed")
    )
    measure = "measure: {bpc: {models: [student, ta], data: [long-cot, mixed], precision: float32}}\n"
    world.recipe_file.write_text(text + measure)
    world.problems("other.jsonl", range(5, 20))
    return world


def test_a_mixture_has_its_shares_and_is_learnt_from(mixed: World) -> None:
    mixed.run(only="strong")
    manifest = mixed.store.manifest(mixed.load().named("mixed"))
    assert manifest is not None
    assert manifest.facts == {"rows": 20, "parts": [5, 15]}  # of 8 and 15 rows: three quarters are 15
    assert len(manifest.pools) == 2
    rows = read_rows(mixed.store.files(manifest) / "rows.jsonl")
    assert len({row["sha"] for row in rows}) < len(rows)  # some prompts stand in both parts
    strong = mixed.load().named("strong")
    assert isinstance(strong, Train)
    trained = mixed.store.manifest(strong)
    assert trained is not None
    assert trained.facts["examples"] == 20


def test_more_rows_in_a_part_change_few_of_the_chosen(mixed: World) -> None:
    def chosen() -> set[tuple[str, str]]:
        mixed.run(only="mixed")
        return {(row["key"], row["sha"]) for row in read_rows(mixed.files("mixed") / "rows.jsonl")}

    before = chosen()
    mixed.problems("other.jsonl", range(5, 21))
    assert before <= chosen()


def test_bits_per_character_are_the_models_own(mixed: World) -> None:
    outcome = mixed.run()
    assert kinds(outcome).count("bpc") == 4
    spec = mixed.load().measures["bpc:long-cot@student"]
    manifest = mixed.store.manifest(spec)
    assert manifest is not None
    tokenizer = AutoTokenizer.from_pretrained(mixed.folder / "models" / "student")
    model = AutoModelForCausalLM.from_pretrained(mixed.folder / "models" / "student", dtype=torch.float32)
    nats, characters = 0.0, 0
    for row in mixed.store.pool(manifest_pool(mixed)).read(
        (f["key"], 0) for f in read_rows(mixed.files("long-cot") / "rows.jsonl")
    ):
        before = tokenizer("<bos><user>" + row.prompt + "<assistant>", add_special_tokens=False)["input_ids"]
        after = tokenizer(row.text, add_special_tokens=False)["input_ids"]
        logits = torch.log_softmax(model(torch.tensor([before + after])).logits[0].detach(), -1)
        nats -= sum(float(logits[len(before) - 1 + i, token]) for i, token in enumerate(after))
        characters += len(row.text)
    assert manifest.facts["nats_per_character"] == pytest.approx(nats / characters, rel=1e-5)
    assert manifest.facts["bits_per_character"] == pytest.approx(nats / characters / math.log(2), rel=1e-5)
    assert manifest.facts["characters"] == characters
    assert "Bits per character" in write(mixed.load(), mixed.store).read_text()


def manifest_pool(world: World) -> str:
    manifest = world.store.manifest(world.load().named("long-cot"))
    assert manifest is not None
    return manifest.pools[0]
